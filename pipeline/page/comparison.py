"""Renders two trainings side by side: configuration, curves, scores, verdicts, and the classes that gained or lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.artefacts.evaluation import SPLIT_TITLES, EvaluationRecord
from pipeline.artefacts.predictions import Predictions
from pipeline.artefacts.run import RunRecord, read_rows
from pipeline.config.secrets import without_secrets
from pipeline.errors import DataError
from pipeline.metrics import history
from pipeline.metrics.intervals import newcombe
from pipeline.metrics.paired import PairedShares, paired_shares
from pipeline.page import charts
from pipeline.page.templates import fill
from pipeline.storage.tables import read_csv

MOST_CLASSES = 40
"""Largest number of classes in the table."""


@dataclass(frozen=True)
class Side:
    """One of the two trainings.

    Attributes:
        place: Folder or run that it was read from, for people.
        run: Record of the training.
        rows: Rows of its history.
        evaluation: Record of its evaluation, or None.
        predictions: Predictions of its evaluation, or None.
        classes: Names of the classes as tables hold them; empty without an evaluation.
        diagnosis: Record of its diagnosis, or None.
    """

    place: str
    run: RunRecord
    rows: list[dict[str, float]]
    evaluation: EvaluationRecord | None
    predictions: Predictions | None
    classes: list[str]
    diagnosis: DiagnosisRecord | None

    @property
    def kept(self) -> dict[str, float]:
        """The row of the epoch whose weights were kept."""
        return next(row for row in self.rows if row["epoch"] == self.run.best_epoch)


@dataclass(frozen=True)
class Score:
    """A score of both trainings as text; `change` is that of the first less that of the second."""

    name: str
    first: str
    second: str
    change: str


@dataclass(frozen=True)
class ClassChange:
    """The recall of a class in both trainings."""

    name: str
    count: int
    first: float
    second: float
    paired: PairedShares


def read_side(
    place: str, training: Path, evaluation: Path | None, diagnosis: Path | None, keys: tuple[str, str, str]
) -> Side:
    """Read one of the two trainings.

    Args:
        place: Folder or run that it is from, for people.
        training: Folder of the training.
        evaluation: Folder of its evaluation, or None.
        diagnosis: Folder of its diagnosis, or None.
        keys: Options or keys that name the three, for messages.

    Raises:
        DataError: A folder is not whole, or the evaluation or the diagnosis is of another training.
    """
    run = RunRecord.read(training, keys[0])
    measured = EvaluationRecord.read(evaluation, keys[1]) if evaluation is not None else None
    judged = DiagnosisRecord.read(diagnosis, keys[2]) if diagnosis is not None else None
    for key, folder, record in ((keys[1], evaluation, measured), (keys[2], diagnosis, judged)):
        if record is not None and record.training != run.id:
            raise DataError(
                f"{key} must be an output of {record.STAGE} for the training in {place!r}; got {str(folder)!r}, made of "
                f"another one. `python -m pipeline.{record.STAGE} {record.STAGE}.training=FOLDER` makes one."
            )
    predictions = Predictions.read(evaluation) if evaluation is not None else None
    per_class = read_csv(evaluation / "per_class.csv") if evaluation is not None else []
    classes = [row["class"].removeprefix("'") for row in per_class]
    return Side(place, run, read_rows(training), measured, predictions, classes, judged)


def titles(first: Side, second: Side) -> tuple[str, str]:
    """The names of the two runs, with their ids where they share one."""
    names = first.run.name, second.run.name
    if names[0] != names[1]:
        return names
    return f"{names[0]} ({first.run.id[:6]})", f"{names[1]} ({second.run.id[:6]})"


def compared(first: Side, second: Side) -> PairedShares | None:
    """The accuracies of both on the same images; None where they were not measured on the same ones."""
    one, other = first.predictions, second.predictions
    if one is None or other is None or first.classes != second.classes:
        return None
    if first.evaluation is None or second.evaluation is None or first.evaluation.split != second.evaluation.split:
        return None
    if first.run.dataset.name != second.run.dataset.name or sorted(one.ids) != sorted(other.ids):
        return None
    order = _order(one, other)
    if not np.array_equal(one.labels, other.labels[order]):
        return None
    return paired_shares(one.predicted == one.labels, (other.predicted == other.labels)[order])


def headline(first: Side, second: Side) -> str:
    """The difference in accuracy in one or two sentences."""
    (one, other), paired = titles(first, second), compared(first, second)
    if first.evaluation is None or second.evaluation is None:
        missing = " and ".join(title for title, side in ((one, first), (other, second)) if side.evaluation is None)
        return f"Without an evaluation of {missing}, only curves and configurations are compared."
    if paired is not None:
        split = SPLIT_TITLES[first.evaluation.split]
        clear = "the difference is clear" if paired.is_clear else "such a difference is no surprise by chance"
        return (
            f"On the same {paired.n:,} {split} images {one} is right on {first.evaluation.scores.accuracy.value:.3f} and "
            f"{other} on {second.evaluation.scores.accuracy.value:.3f}: a difference of {paired.difference:+.3f} "
            f"[{paired.low:+.3f}, {paired.high:+.3f}]. Only the first is right on {paired.gained:,} images, only the second on "
            f"{paired.lost:,}; exact McNemar test: p = {paired.p:.2g}, {clear}."
        )
    low, high = _unpaired(first, second)
    difference = first.evaluation.scores.accuracy.value - second.evaluation.scores.accuracy.value
    return (
        f"The two were measured on different images, so that their accuracies differ by the draw of the images too: "
        f"{difference:+.3f} [{low:+.3f}, {high:+.3f}] (Newcombe's interval of two independent samples)."
    )


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The keys of two configurations whose values differ, with both values as YAML; an en dash where one lacks the key.

    >>> differing({"seed": 1, "model": {"name": "lenet"}}, {"seed": 1, "model": {"name": "convnet", "width": 8}})
    [('model.name', 'lenet', 'convnet'), ('model.width', '–', '8')]
    """
    one, other = _flat(without_secrets(first)), _flat(without_secrets(second))
    keys = [*one, *(key for key in other if key not in one)]
    return [(key, one.get(key, "–"), other.get(key, "–")) for key in keys if one.get(key) != other.get(key)]


def render(first: Side, second: Side, command: str) -> str:
    """The page as one HTML file that needs no other file.

    Args:
        first: The training in question.
        second: The one that it is compared with.
        command: Command that repeats the comparison.
    """
    changes = _class_changes(first, second)
    shown = sorted(sorted(changes, key=lambda each: -abs(each.paired.difference))[:MOST_CLASSES], key=changes.index)
    return fill(
        "comparison.html", first=first, second=second, titles=titles(first, second), headline=headline(first, second),
        origins=_origins(first.run, second.run), settings=differing(first.run.config, second.run.config),
        charts=charts.pair(first.rows, second.rows, (first.run.best_epoch, second.run.best_epoch)),
        geometry=charts.GEOMETRY, scores=_scores(first, second), paired=compared(first, second),
        changes=shown, num_classes=len(changes), split_titles=SPLIT_TITLES, command=command,
    )  # fmt: skip


def _order(one: Predictions, other: Predictions) -> list[int]:
    """For each image of `one`, its position in `other`."""
    places = {name: index for index, name in enumerate(other.ids)}
    return [places[name] for name in one.ids]


def _unpaired(first: Side, second: Side) -> tuple[float, float]:
    counts: list[int] = []
    for side in (first, second):
        assert side.predictions is not None
        counts += [int((side.predictions.predicted == side.predictions.labels).sum()), len(side.predictions.labels)]
    return newcombe(counts[0], counts[1], counts[2], counts[3])


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of a nested mapping as YAML, by their paths."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = yaml.safe_dump(
                value, default_flow_style=True, allow_unicode=True, width=10**6
            ).split("\n")[0]
    return flat


def _origins(first: RunRecord, second: RunRecord) -> list[tuple[str, str, str]]:
    """What the two were made from, where it differs."""
    facts = [
        (
            "commit",
            *(f"{run.git_commit or '–'}{' and local changes' if run.git_dirty else ''}" for run in (first, second)),
        ),
        ("raw data", first.data_hash or "–", second.data_hash or "–"),
        ("prepared data", first.prepare_fingerprint, second.prepare_fingerprint),
        ("augmentation", first.augment_fingerprint, second.augment_fingerprint),
        ("start", *(run.weights_fingerprint or "random weights" for run in (first, second))),
    ]
    return [(name, one, other) for name, one, other in facts if one != other]


def _scores(first: Side, second: Side) -> list[Score]:
    """The rows of the table of scores; those of the evaluation only where both have one of the same split."""
    one, other = first.evaluation, second.evaluation
    table: list[Score] = []
    if one is not None and other is not None:
        for name in ("accuracy", "balanced_accuracy", "precision_macro", "f1_macro", "loss", "ece"):
            values = getattr(one.scores, name), getattr(other.scores, name)
            title = f"{SPLIT_TITLES[one.split]} {_TITLES.get(name, name.replace('_', ' '))}"
            if one.split != other.split:
                title += f", against {SPLIT_TITLES[other.split]}"
            table.append(_score(title, *values))
        table.append(_score("gap", one.gap, other.gap))
    kept = {
        "training accuracy": history.CLEAN_ACCURACY, "validation accuracy": history.VAL_ACCURACY,
        "training loss": history.CLEAN_LOSS, "validation loss": history.VAL_LOSS,
    }  # fmt: skip
    table += [_score(name, first.kept[key], second.kept[key]) for name, key in kept.items()]
    one_run, other_run = first.run, second.run
    table += [
        Score(
            "epoch kept",
            f"{one_run.best_epoch} of {one_run.epochs}",
            f"{other_run.best_epoch} of {other_run.epochs}",
            "",
        ),
        Score("parameters", f"{one_run.num_parameters:,}", f"{other_run.num_parameters:,}", ""),
        Score("seconds of training", f"{one_run.seconds:.0f}", f"{other_run.seconds:.0f}", ""),
    ]
    return table


_TITLES = {
    "precision_macro": "precision, mean of classes",
    "f1_macro": "F1, mean of classes",
    "ece": "calibration error",
}


def _score(name: str, one: Interval | float, other: Interval | float) -> Score:
    values = [each.value if isinstance(each, Interval) else each for each in (one, other)]
    first, second = (str(each) if isinstance(each, Interval) else f"{each:.3f}" for each in (one, other))
    return Score(name, first, second, f"{values[0] - values[1]:+.3f}")


def _class_changes(first: Side, second: Side) -> list[ClassChange]:
    """The classes with images, the one that gained most first; none where the two were not measured on the same images."""
    if compared(first, second) is None or first.predictions is None or second.predictions is None:
        return []
    one, order = first.predictions, _order(first.predictions, second.predictions)
    right = one.predicted == one.labels, (second.predictions.predicted == second.predictions.labels)[order]
    changes = []
    for label, name in enumerate(first.classes):
        inside = one.labels == label
        if inside.any():
            mine, others = (each[inside] for each in right)
            recalls = float(mine.mean()), float(others.mean())
            changes.append(ClassChange(name, len(mine), recalls[0], recalls[1], paired_shares(mine, others)))
    return sorted(changes, key=lambda each: -each.paired.difference)
