"""The course of one of our own trainings, read from its folder and from the data that it was made from."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.diagnosis.course import Course, from_rows
from pipeline.metrics import history


def read_course(training: Path, prepared: Path | None = None, **known: Any) -> Course:
    """The course of a finished training.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that it was made from; without it nobody looks for images in both splits.
        known: Further attributes of `Course`, such as `reference`.

    Raises:
        CourseError: The history lacks a column.
    """
    run, signals = (json.loads((training / name).read_text()) for name in ("run.json", "signals.json"))
    shares = class_shares(run["dataset"]["counts"]["val"])
    about: dict[str, Any] = {
        "majority": float(shares.max()),
        "chance_loss": float(-(shares * np.log(shares)).sum()),
        "kept_epoch": run["best_epoch"],
        "num_learning": signals["num_train"],
        "initial_loss": signals["initial_loss"],
        "learns_one_batch": signals["one_batch"]["passed"],
    }
    if prepared is not None:
        about["duplicates"] = duplicates(prepared)
    return from_rows(
        history.read_csv(training / "history.csv"),
        num_train=signals["num_probe"],
        num_val=signals["num_val"],
        num_classes=signals["num_classes"],
        **(about | known),
    )


def course_so_far(working: Path, rows: list[dict[str, float]]) -> Course:
    """The course of a training that still runs.

    Args:
        working: Its working folder.
        rows: Of its history.
    """
    signals = json.loads((working / "signals.json").read_text())
    return from_rows(
        rows, num_train=signals["num_probe"], num_val=signals["num_val"], num_classes=signals["num_classes"],
        num_learning=signals["num_train"],
    )  # fmt: skip


def class_shares(counts: list[int]) -> np.ndarray:
    """The shares of the classes that occur, float64, from the images of each.

    >>> class_shares([3, 0, 1]).tolist()
    [0.75, 0.25]
    """
    present = np.array([count for count in counts if count], dtype=np.float64)
    shares: np.ndarray = present / present.sum()
    return shares


def duplicates(prepared: Path) -> float:
    """The share of validation images whose pixels, as they came, are also those of a training image."""
    import pyarrow.parquet as pq

    train, val = (
        pq.read_table(prepared / split / "ids.parquet", columns=["sha256"])["sha256"].to_pylist()
        for split in ("train", "val")
    )
    known = set(train)
    return sum(digest in known for digest in val) / max(len(val), 1)
