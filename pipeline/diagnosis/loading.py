"""Reads the course of a training of this pipeline, and the history that another tool wrote as CSV."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artefacts.run import RunRecord, read_rows
from pipeline.artefacts.signals import SignalsRecord
from pipeline.diagnosis.course import Course, from_rows
from pipeline.storage.tables import read_parquet_column


def read_course(training: Path, prepared: Path | None = None, **known: Any) -> Course:
    """Read the course of a finished training.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that the training used; None: do not look for images in both splits.
        known: Further attributes of `Course`, such as `reference`.

    Raises:
        CourseError: The history lacks a column.
        DataError: A record of the training is missing or damaged.
    """
    run, signals = RunRecord.read(training), SignalsRecord.read(training)
    shares = class_shares(run.dataset.counts["val"])
    about: dict[str, object] = {
        "majority": float(shares.max()), "chance_loss": float(-(shares * np.log(shares)).sum()),
        "kept_epoch": run.best_epoch, "num_learning": signals.num_train, "initial_loss": signals.initial_loss,
        "learns_one_batch": signals.one_batch.passed,
    }  # fmt: skip
    if prepared is not None:
        about["duplicates"] = duplicates(prepared)
    known = {**about, **known}
    if run.kept_training is not None and known["kept_epoch"] == run.best_epoch:
        known["kept_training"] = (run.kept_training.accuracy, run.kept_training.num_images)
    return from_rows(read_rows(training), **_counts(signals), **known)


def course_so_far(working: Path, rows: list[dict[str, float]]) -> Course:
    """Read the course of a training that still runs, from its working folder and the rows of its history so far."""
    signals = SignalsRecord.read(working)
    return from_rows(rows, **_counts(signals), num_learning=signals.num_train)


def _counts(signals: SignalsRecord) -> dict[str, int]:
    return {"num_train": signals.num_probe, "num_val": signals.num_val, "num_classes": signals.num_classes}


def read_history(path: Path) -> list[dict[str, float]]:
    """Read a CSV with a row for each epoch; a cell without a number, such as fastai's time, becomes NaN.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: The file is not UTF-8.
        csv.Error: The file is not CSV.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [{key.strip(): _number(text) for key, text in row.items() if key} for row in csv.DictReader(file)]


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def class_shares(counts: list[int]) -> np.ndarray:
    """The shares of the classes that occur, float64, from the number of images of each class.

    >>> class_shares([3, 0, 1]).tolist()
    [0.75, 0.25]
    """
    present = np.array([count for count in counts if count], dtype=np.float64)
    shares: np.ndarray = present / present.sum()
    return shares


def duplicates(prepared: Path) -> float:
    """The share of validation images whose original pixels equal those of a training image."""
    files = (prepared / split / "ids.parquet" for split in ("train", "val"))
    train, val = (read_parquet_column(file, "sha256") for file in files)
    of_training = set(train)
    return sum(digest in of_training for digest in val) / max(len(val), 1)
