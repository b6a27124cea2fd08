"""Read the diagnosis off the trainings of `outside.py`, and hold it against what really helped each.

python benchmarks/diagnosis/outside_table.py            the figures of docs/diagnosis.md, from outside.parquet
python benchmarks/diagnosis/outside_table.py --wrong    with every training whose verdict names what did not help
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.diagnosis import Course, Thresholds, diagnose, from_rows
from pipeline.diagnosis.measurements import Measurements
from pipeline.metrics.intervals import wilson

FILE = Path(__file__).resolve().parent / "outside.parquet"
COLUMNS = (
    "lr", "train/loss", "train/accuracy", "train_clean/loss", "train_clean/accuracy", "val/loss", "val/accuracy",
)  # fmt: skip

WORTH, WORTHLESS = 0.02, 0.01
"""Gain of validation accuracy from which a change helped, and below which it did not; trainings between count for neither."""

LOSS_WORTH, LOSS_WORTHLESS = 0.03, 0.015
"""The same for the fall of the validation loss with twice the epochs, as a share of the guessing loss."""

UNSTABLE_WORTH = 0.05

HELPS = {
    "longer": "still_learning", "larger": "underfitting", "more data": "overfitting", "regularised": "overfitting",
    "calmer": "unstable",
}  # fmt: skip
"""The verdict whose remedy each change is."""

CHAOTIC = {"unstable", "diverged", "not_learning"}
"""Verdicts whose first remedy is a lower rate."""


@dataclass(frozen=True)
class Training:
    """A training as it is stored: its setting, what is known of its data, and its history."""

    setting: dict[str, Any]
    known: dict[str, Any]
    rows: list[dict[str, float]]

    @property
    def diverged(self) -> bool:
        return not all(np.isfinite(row["val/loss"]) for row in self.rows)

    def course(self, epochs: int | None = None) -> Course:
        known = {name: value for name, value in self.known.items() if name != "seconds"}
        return from_rows(self.rows[:epochs], **known)

    def end(self, name: str, epochs: int | None = None) -> float:
        """The median of the last tenth of the epochs, of three at least."""
        rows = self.rows[:epochs]
        values = [row.get(name, row.get(name.replace("train_clean", "train"), np.nan)) for row in rows]
        return float(np.median(values[-max(3, len(rows) // 10) :]))


Place = tuple[str, str, int]
"""Data set, regime and seed."""


def pack(work: Path) -> None:
    """Write the trainings in the folder of `outside.py` into one table, in single precision."""
    table: dict[str, list[Any]] = defaultdict(list)
    for path in sorted(work.glob("*.json")):
        content = json.loads(path.read_text())
        job = content["job"]
        for name in ("dataset", "regime", "variant", "seed"):
            table[name].append(job[name])
        table["setting"].append(json.dumps(job["setting"]))
        table["known"].append(json.dumps(content["known"]))
        for name in COLUMNS:
            present = name in content["rows"][0]
            table[name].append([row[name] for row in content["rows"]] if present else None)
    arrays = {
        name: pa.array(values, pa.list_(pa.float32())) if name in COLUMNS else pa.array(values)
        for name, values in table.items()
    }
    pq.write_table(pa.table(arrays), FILE, compression="zstd", compression_level=15)


def read() -> dict[Place, dict[str, Training]]:
    """All trainings, by place and by the change that they make; the training itself is that without a change."""
    found: dict[Place, dict[str, Training]] = defaultdict(dict)
    for line in pq.read_table(FILE).to_pylist():
        series = {name: line[name] for name in COLUMNS if line[name] is not None}
        rows = [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]
        training = Training(json.loads(line["setting"]), json.loads(line["known"]), rows)
        found[line["dataset"], line["regime"], line["seed"]][line["variant"]] = training
    return found


def helped(variants: Mapping[str, Training]) -> set[str] | None:
    """The verdicts whose remedy helped; `good_fit` where none did, and None where that is not clear."""
    base = variants[""]
    if base.diverged:
        return {"diverged"}
    sure, unclear = set(), False
    for name, verdict in HELPS.items():
        if name not in variants or variants[name].diverged:
            continue
        other = variants[name]
        gain = other.end("val/accuracy") - base.end("val/accuracy")
        if name == "longer":
            fell = base.end("val/loss") - other.end("val/loss")
            helps, may = _lasts(base, gain, fell)
        elif name == "larger":
            learned = other.end("train_clean/accuracy") - base.end("train_clean/accuracy")
            helps, may = min(gain, learned) >= WORTH, gain >= WORTHLESS
        else:
            helps, may = gain >= (UNSTABLE_WORTH if name == "calmer" else WORTH), gain >= WORTHLESS
        sure |= {verdict} if helps else set()
        unclear |= may and not helps
    return sure or (None if unclear else {"good_fit"})


def _lasts(base: Training, gain: float, fell: float) -> tuple[bool, bool]:
    """Whether twice the epochs helped, and whether they may have."""
    guessing = base.known["chance_loss"]
    helps = (gain >= WORTH and fell > 0) or (fell >= LOSS_WORTH * guessing and gain >= 0)
    return helps, gain >= WORTHLESS or fell >= LOSS_WORTHLESS * guessing


def pairs(trained: Mapping[Place, Mapping[str, Training]]) -> Iterator[tuple[str, Course, bool]]:
    """Courses with the kind of their schedule, and whether twice the epochs helped; unclear ones are left out.

    A training with a constant rate is the beginning of the one with twice its epochs, and so are its own beginnings.
    """
    for variants in trained.values():
        base, longer = variants.get(""), variants.get("longer")
        if base is None or longer is None or longer.diverged:
            continue
        constant, number = base.setting["schedule"] == "constant", len(base.rows)
        for epochs in sorted({number, number * 2 // 3, number // 2}) if constant else [number]:
            if epochs < 8:
                continue
            begun = Training(base.setting, base.known, longer.rows[:epochs] if constant else base.rows)
            gain = longer.end("val/accuracy", 2 * epochs) - begun.end("val/accuracy")
            fell = begun.end("val/loss") - longer.end("val/loss", 2 * epochs)
            helps, may = _lasts(begun, gain, fell)
            if helps or not may:
                yield "constant" if constant else "ends near 0", begun.course(), helps


def is_projected(course: Course) -> bool:
    """Whether the projection alone would call it still learning."""
    t, measured = Thresholds(), Measurements(course, Thresholds())
    val, train, accuracy = measured.val_ahead, measured.train_ahead, measured.accuracy_ahead
    if val is None or train is None or accuracy is None:
        return False
    guessing = course.guessing_loss
    return bool(
        val.low > t.sure_fall * guessing
        and min(val.value, train.value) > t.fall * guessing
        and accuracy.value > t.worth
    )


def share(count: int, total: int) -> str:
    low, high = wilson(count, total)
    return f"{count} of {total}, {count / total:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", action="store_true")
    options = parser.parse_args()
    trained = read()
    right, total = Counter[str](), Counter[str]()
    matrix: Counter[tuple[str, str]] = Counter()
    for (dataset, regime, seed), variants in sorted(trained.items()):
        if not {"", "longer", "larger"} <= set(variants) or (truth := helped(variants)) is None:
            continue
        found = diagnose(variants[""].course())
        hit = found.verdict in truth or (found.verdict in CHAOTIC and bool(truth & CHAOTIC))
        total[dataset] += 1
        right[dataset] += hit
        matrix[" or ".join(sorted(truth)), found.verdict] += 1
        if options.wrong and not hit:
            print(f"{dataset} {regime!r} {seed}, helped by {' or '.join(sorted(truth))}: {found.sentence}")
    print(f"the verdict names what helped: {share(sum(right.values()), sum(total.values()))}")
    for dataset in total:
        print(f"  {dataset}: {share(right[dataset], total[dataset])}")
    for (truth, verdict), count in sorted(matrix.items()):
        print(f"  helped {truth}: {verdict} {count}")
    counts: dict[str, Counter[tuple[bool, bool]]] = defaultdict(Counter)
    for kind, course, helps in pairs(trained):
        counts[kind][helps, is_projected(course)] += 1
    for kind, found in counts.items():
        hits = found[True, True] + found[False, False]
        print(f"twice the epochs, rate {kind}: {share(hits, sum(found.values()))}; helped {dict(found)}")


if __name__ == "__main__":
    main()
