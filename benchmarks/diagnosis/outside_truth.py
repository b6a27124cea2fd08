"""Reads the trainings of `outside.py`, and says which verdicts their outcome bears out.

A verdict is borne out where its remedy helped: the same seed and images, with one change, reach a validation accuracy that is
2 points higher. With some hundred validation images 2 points may be chance. So the gain must also be surely above 0, by the
interval of a difference (Newcombe's, which is too wide for two networks on the same images, and so errs towards leaving out),
or the loss, which is measured more finely, must fall with it by 3 % of that of guessing. For twice the epochs, such a fall of
the loss is enough.

A training is a good fit where none of this helped by half as much, and its gap is at most 5 points. That limit is no threshold
of the rules: these lie between 5 and 10 points, and such gaps are left out where nothing helped. So is what is unclear.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.diagnosis import Course, from_rows
from pipeline.metrics.intervals import newcombe
from pipeline.metrics.projection import FEWEST

FILE = Path(__file__).resolve().parent / "outside.parquet"
COLUMNS = (
    "lr", "train/loss", "train/accuracy", "train_clean/loss", "train_clean/accuracy", "val/loss", "val/accuracy",
)  # fmt: skip
PLACE = ("dataset", "regime", "variant", "seed")
"""Columns that name a training."""

WORTH, WORTHLESS = 0.02, 0.01
"""Gain of validation accuracy from which a change may have helped, and below which it did not."""

LOSS_WORTH, LOSS_WORTHLESS = 0.03, 0.015
"""The same for the fall of the validation loss, as a share of the guessing loss."""

CLOSE, APART = 0.05, 0.1
"""Gap up to which the curves lie close together, and above which they do not."""

UNSTABLE_WORTH = 0.05
"""Gain of a tenth of the rate that the definition before asked for."""

HELPS = {
    "longer": "still_learning", "larger": "underfitting", "more data": "overfitting", "regularised": "overfitting",
    "calmer": "unstable",
}  # fmt: skip
"""The verdict whose remedy each change is."""

UNCLEAR = "a change helped by less than 2 points, or within the noise of validation"
GAP_UNMENDED = "a gap above 10 points that nothing tried mends"
GAP_BETWEEN = "a gap of 5 to 10 points, and nothing helped"
UNTRIED = "a gap above 10 points, and all images were used already, so more could not be tried"


@dataclass(frozen=True)
class Training:
    """A training as it is stored: its setting, what is known of its data, and its history."""

    setting: dict[str, Any]
    known: dict[str, Any]
    rows: list[dict[str, float]]

    @property
    def trainer(self) -> str:
        return str(self.setting.get("trainer", "loop"))

    @property
    def diverged(self) -> bool:
        return not all(np.isfinite(row["val/loss"]) for row in self.rows)

    @property
    def gap(self) -> float:
        return self.end("train_clean/accuracy") - self.end("val/accuracy")

    def course(self) -> Course:
        return from_rows(self.rows, **{name: value for name, value in self.known.items() if name != "seconds"})

    def end(self, name: str, epochs: int | None = None) -> float:
        """The median of the last tenth of the epochs, of three at least."""
        rows = self.rows[:epochs]
        values = [row.get(name, row.get(name.replace("train_clean", "train"), np.nan)) for row in rows]
        return float(np.median(values[-max(3, len(rows) // 10) :]))


Place = tuple[str, str, int]
"""Data set, regime and seed."""


def pack(work: Path) -> None:
    """Put the trainings in the folder of `outside.py` into the table, in single precision, in place of those there before."""
    table: dict[str, list[Any]] = defaultdict(list)
    for path in sorted(work.glob("*.json")):
        content = json.loads(path.read_text())
        job = content["job"]
        for name in PLACE:
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
    added = pa.table(arrays)
    kept = pq.read_table(FILE)
    places, new = (list(zip(*(each[name].to_pylist() for name in PLACE), strict=True)) for each in (kept, added))
    replaced = set(new)
    kept = kept.filter(pa.array([place not in replaced for place in places])).select(added.column_names)
    pq.write_table(pa.concat_tables([kept, added]), FILE, compression="zstd", compression_level=15)


def read() -> dict[Place, dict[str, Training]]:
    """All trainings, by place and by the change that they make; the training itself is that without a change."""
    found: dict[Place, dict[str, Training]] = defaultdict(dict)
    for line in pq.read_table(FILE).to_pylist():
        series = {name: line[name] for name in COLUMNS if line[name] is not None}
        rows = [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]
        training = Training(json.loads(line["setting"]), json.loads(line["known"]), rows)
        found[line["dataset"], line["regime"], line["seed"]][line["variant"]] = training
    return found


def complete(variants: Mapping[str, Training]) -> bool:
    """Whether all trainings that certify one are there; those of the last regime may still be missing."""
    if not {"", "longer", "larger", "regularised"} <= set(variants):
        return False
    base = variants[""].setting
    high = base["regime"].startswith("high rate")
    return (base["images"] == 1.0 or "more data" in variants) and (not high or "calmer" in variants)


def borne_out(variants: Mapping[str, Training]) -> tuple[frozenset[str], str]:
    """The verdicts that the outcome bears out; where there is none, why the training is left out."""
    base = variants[""]
    if base.diverged:
        return frozenset({"diverged"}), ""
    sure, unclear = set(), False
    for name, verdict in HELPS.items():
        if name in variants and not variants[name].diverged:
            helps, may = _helped(base, variants[name], name)
            sure |= {verdict} if helps else set()
            unclear |= may and not helps
    if base.gap > APART and "overfitting" not in sure and "more data" not in variants:
        return frozenset(), UNTRIED
    if sure:
        return frozenset(sure), ""
    if unclear:
        return frozenset(), UNCLEAR
    if base.gap > CLOSE:
        return frozenset(), GAP_UNMENDED if base.gap > APART else GAP_BETWEEN
    return frozenset({"good_fit"}), ""


def foremost(variants: Mapping[str, Training]) -> str | None:
    """Of the verdicts that the outcome bears out, that whose change raised validation accuracy the most; None without any."""
    truth, _ = borne_out(variants)
    if len(truth) < 2:
        return next(iter(truth), None)
    before = variants[""].end("val/accuracy")
    gains = {
        name: variants[name].end("val/accuracy") - before
        for name, verdict in HELPS.items()
        if name in variants and not variants[name].diverged and verdict in truth
    }
    return HELPS[max(gains, key=lambda name: gains[name])]


def _helped(base: Training, other: Training, name: str) -> tuple[bool, bool]:
    """Whether a change helped, and whether it may have."""
    helps, may = better(base, len(base.rows), other, len(other.rows), by_loss=name == "longer")
    if name == "larger":
        helps &= other.end("train_clean/accuracy") - base.end("train_clean/accuracy") >= WORTH
    return helps, may


def better(base: Training, base_epochs: int, other: Training, epochs: int, *, by_loss: bool) -> tuple[bool, bool]:
    """Whether the first `epochs` of another training reach more on the same images, and whether they may."""
    num_val, guessing = base.known["num_val"], base.known["chance_loss"]
    before, after = base.end("val/accuracy", base_epochs), other.end("val/accuracy", epochs)
    gain, fell = after - before, (base.end("val/loss", base_epochs) - other.end("val/loss", epochs)) / guessing
    low, _ = newcombe(round(after * num_val), num_val, round(before * num_val), num_val)
    helps = gain >= WORTH and (low > 0 or fell >= LOSS_WORTH)
    if not by_loss:
        return helps, gain >= WORTHLESS
    return helps or (fell >= LOSS_WORTH and gain >= 0), gain >= WORTHLESS or fell >= LOSS_WORTHLESS


def helped_before(variants: Mapping[str, Training]) -> frozenset[str] | None:
    """The verdicts whose remedy raised accuracy by 2 points, in or out of noise: the definition used before."""
    base = variants[""]
    if base.diverged:
        return frozenset({"diverged"})
    sure, unclear = set(), False
    for name, verdict in HELPS.items():
        if name not in variants or variants[name].diverged:
            continue
        other, guessing = variants[name], base.known["chance_loss"]
        gain = other.end("val/accuracy") - base.end("val/accuracy")
        fell = base.end("val/loss") - other.end("val/loss")
        may = gain >= WORTHLESS
        if name == "longer":
            helps = (gain >= WORTH and fell > 0) or (fell >= LOSS_WORTH * guessing and gain >= 0)
            may |= fell >= LOSS_WORTHLESS * guessing
        elif name == "larger":
            learned = other.end("train_clean/accuracy") - base.end("train_clean/accuracy")
            helps = min(gain, learned) >= WORTH
        else:
            helps = gain >= (UNSTABLE_WORTH if name == "calmer" else WORTH)
        sure |= {verdict} if helps else set()
        unclear |= may and not helps
    return frozenset(sure) or (None if unclear else frozenset({"good_fit"}))


@dataclass(frozen=True)
class Continued:
    """A training, and one with twice its epochs.

    Attributes:
        dataset: Name of the data set.
        kind: Kind of its learning rate.
        begun: The training; `whole`, or cut at half or two thirds of its epochs.
        longer: Training of which the first 2·`epochs` are compared with it.
        epochs: Number of its epochs.
        whole: Whether it was not cut.
    """

    dataset: str
    kind: str
    begun: Training
    longer: Training
    epochs: int
    whole: bool

    @property
    def gain(self) -> float:
        """Gain of validation accuracy."""
        return self.longer.end("val/accuracy", 2 * self.epochs) - self.begun.end("val/accuracy")

    @property
    def fall(self) -> float:
        """Fall of the validation loss in nats."""
        return self.begun.end("val/loss") - self.longer.end("val/loss", 2 * self.epochs)


def continued(trained: Mapping[Place, Mapping[str, Training]]) -> Iterator[Continued]:
    """All of them. With a constant rate a training is the beginning of the longer one, and so are its own beginnings."""
    for (dataset, regime, _), variants in trained.items():
        base, longer = variants.get(""), variants.get("longer")
        if base is None or longer is None or longer.diverged:
            continue
        constant, number = base.setting["schedule"] == "constant", len(base.rows)
        kind = "too high" if regime.startswith("high rate") else "constant" if constant else "ends near 0"
        for epochs in sorted({number, number * 2 // 3, number // 2}) if constant else [number]:
            if epochs >= FEWEST:
                begun = Training(base.setting, base.known, longer.rows[:epochs] if constant else base.rows)
                yield Continued(dataset, kind, begun, longer, epochs, epochs == number)


def pairs(trained: Mapping[Place, Mapping[str, Training]]) -> Iterator[tuple[str, str, Course, bool]]:
    """Data sets, kinds of rate, courses, and whether twice the epochs helped; unclear ones are left out."""
    for each in continued(trained):
        helps, may = better(each.begun, each.epochs, each.longer, 2 * each.epochs, by_loss=True)
        if helps or not may:
            yield each.dataset, each.kind, each.begun.course(), helps
