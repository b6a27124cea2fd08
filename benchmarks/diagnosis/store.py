"""`histories.parquet`: the histories of the study, a line for each epoch, and what a diagnosis may know beside them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.diagnosis import Course, from_rows
from pipeline.fit import history

FILE = Path(__file__).resolve().parent / "histories.parquet"
COLUMNS = (
    history.TRAIN_LOSS, history.TRAIN_ACCURACY, history.CLEAN_LOSS, history.CLEAN_ACCURACY, history.VAL_LOSS,
    history.VAL_ACCURACY, history.PENALTY, history.UPDATE_RATIO, history.DEAD_RELU,
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """One training of the study.

    Attributes:
        part: `tuning`, `held out` or `certifying`.
        dataset, regime, seed: Which one.
        variant: What was made better, in one that certifies.
        known: What a diagnosis may know beside the history, and the seconds that it took.
        rows: The history.
    """

    part: str
    dataset: str
    regime: str
    variant: str
    seed: int
    known: dict[str, Any]
    rows: list[dict[str, float]]

    def course(self) -> Course:
        known = {
            key: value
            for key, value in self.known.items()
            if key not in ("num_probe", "num_train", "num_val", "seconds")
        }
        return from_rows(
            self.rows,
            num_train=self.known["num_probe"],
            num_val=self.known["num_val"],
            num_classes=10,
            num_learning=self.known["num_train"],
            **known,
        )


def pack(folder: Path, files: Sequence[Path]) -> None:
    """Write what is there of `files` into one table, with numbers of single precision."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("part", "dataset", "regime", "variant", "seed", "known", *COLUMNS)
    }
    for file in files:
        if not file.exists():
            continue
        content = json.loads(file.read_text())
        for name, value in content["job"].items():
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
    """All trainings."""
    for line in pq.read_table(FILE).to_pylist():
        series = {name: line.pop(name) for name in COLUMNS}
        rows = [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]
        yield Trained(**{**line, "known": json.loads(line["known"])}, rows=rows)
