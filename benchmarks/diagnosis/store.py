"""Reads and writes `histories.parquet`: the history of each training of the study, and what else a diagnosis uses."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from regimes import REGIMES

from pipeline.config.schema import Cosine, WarmupScheduler
from pipeline.diagnosis import Course, from_rows
from pipeline.metrics import history
from pipeline.training.optimizers import build_scheduler

FILE = Path(__file__).resolve().parent / "histories.parquet"
STEPS = 10
"""Steps of an epoch from which its learning rate is computed; the number hardly matters."""

COLUMNS = (
    history.TRAIN_LOSS, history.TRAIN_ACCURACY, history.CLEAN_LOSS, history.CLEAN_ACCURACY, history.VAL_LOSS,
    history.VAL_ACCURACY, history.PENALTY, history.UPDATE_RATIO, history.DEAD_RELU,
)  # fmt: skip

JOB = ("part", "dataset", "regime", "variant", "seed")
"""Columns that name a training."""


@dataclass(frozen=True)
class Trained:
    """One training of the study.

    Attributes:
        part: `tuning`, `seen`, `held out` or `certifying`.
        dataset: Name of the data set.
        regime: Name of the regime.
        variant: Name of the change of a training that certifies; empty for others.
        seed: Seed of the training.
        known: What a diagnosis uses beside the history, and the duration in seconds.
        rows: Rows of the history.
    """

    part: str
    dataset: str
    regime: str
    variant: str
    seed: int
    known: dict[str, Any]
    rows: list[dict[str, float]]

    def course(self, reached: tuple[float, int] | None = None) -> Course:
        """The course of the training.

        Args:
            reached: Accuracy of another network on these data, and the number of images behind it.
        """
        known = {
            key: value
            for key, value in self.known.items()
            if key not in ("num_probe", "num_train", "num_val", "seconds")
        }
        known["lr"] = rates(self.regime, len(self.rows))
        if reached is not None and reached[0] > known["reference"]:
            known["reference"], known["num_reference"] = reached
        return from_rows(
            self.rows,
            num_train=self.known["num_probe"],
            num_val=self.known["num_val"],
            num_classes=10,
            num_learning=self.known["num_train"],
            **known,
        )


def rates(regime: str, epochs: int) -> np.ndarray:
    """The learning rate at the end of each of the first epochs of a regime, of shape (epochs,), as a share of its highest.

    The histories of this study do not hold it; the schedule of the regime gives it.
    """
    about = next(each for each in REGIMES if each.name == regime)
    name = next((each.split("=")[1] for each in about.overrides if each.startswith("scheduler=")), "one_cycle")
    settings = {
        "one_cycle": WarmupScheduler(name="one_cycle", warmup_fraction=0.25),
        "cosine": Cosine(name="cosine", warmup_fraction=0.0, final_fraction=0.01),
        "constant": WarmupScheduler(name="constant", warmup_fraction=0.0),
    }[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    factor = build_scheduler(optimizer, STEPS * max(about.epochs, epochs), settings).lr_lambdas[0]
    return np.array([factor(STEPS * (epoch + 1) - 1) for epoch in range(epochs)])


def pack(jobs: Sequence[tuple[Mapping[str, Any], Path]]) -> None:
    """Write the trainings into one table, in single precision; one whose file is missing stays as the table has it."""
    columns: dict[str, list[Any]] = {name: [] for name in (*JOB, "known", *COLUMNS)}
    before = pq.read_table(FILE).to_pylist() if FILE.exists() else []
    packed = {tuple(line[name] for name in JOB): line for line in before}
    for job, file in jobs:
        if not file.exists():
            if line := packed.get(tuple(job[name] for name in JOB)):
                for name, values in columns.items():
                    values.append(line[name])
            continue
        content = json.loads(file.read_text())
        for name, value in job.items():
            columns[name].append(value)
        columns["known"].append(json.dumps(content["known"]))
        for name in COLUMNS:
            columns[name].append([row[name] for row in content["rows"]])
    arrays = {
        name: pa.array(values, pa.list_(pa.float32())) if name in COLUMNS else pa.array(values)
        for name, values in columns.items()
    }
    pq.write_table(pa.table(arrays), FILE, compression="zstd", compression_level=15)


def read() -> Iterator[Trained]:
    """Read all trainings."""
    for line in pq.read_table(FILE).to_pylist():
        series = {name: line.pop(name) for name in COLUMNS}
        rows = [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]
        yield Trained(**{**line, "known": json.loads(line["known"])}, rows=rows)
