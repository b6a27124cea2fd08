"""Writes the model card: what the model knows, how good it is, what it must not be used for, and how to use and remake it.

After Mitchell et al. 2019, "Model cards for model reporting".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.artefacts.evaluation import SPLIT_TITLES, EvaluationRecord
from pipeline.artefacts.package import ThresholdsRecord
from pipeline.artefacts.run import RunRecord
from pipeline.config.secrets import masked
from pipeline.storage.tables import read_csv
from pipeline.terminal import printable

NOT_EVALUATED = "not evaluated"


@dataclass(frozen=True)
class Facts:
    """What a card tells.

    Attributes:
        run: Record of the training.
        dataset: Record of the prepared images.
        evaluation: Record of the evaluation, or None.
        diagnosis: Record of the diagnosis, or None.
        thresholds: What turns the network's outputs into decisions.
        folder: Folder of the evaluation, for its table of classes, or None.
        confirm_chose: Whether the images that the thresholds were set on have chosen the configuration before.
    """

    run: RunRecord
    dataset: DatasetRecord
    evaluation: EvaluationRecord | None
    diagnosis: DiagnosisRecord | None
    thresholds: ThresholdsRecord
    folder: Path | None
    confirm_chose: bool


def markdown(facts: Facts) -> str:
    """The card as Markdown."""
    parts = [_head(facts), _data(facts.dataset), _accuracy(facts), _diagnosis(facts.diagnosis), _decisions(facts)]
    parts += [_limits(facts), _training(facts.run), _use(facts.run)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _head(facts: Facts) -> list[str]:
    run, dataset = facts.run, facts.dataset
    kind = "grey" if dataset.channels == 1 else "colour"
    return [
        f"# {run.config['model']['name']} on {_text(dataset.name)}",
        "",
        f"Tells {len(dataset.classes)} classes of images apart: {', '.join(map(_text, dataset.classes[:20]))}"
        f"{f' and {len(dataset.classes) - 20} more' if len(dataset.classes) > 20 else ''}. It takes image files of any size, "
        f"which become {kind} images of {dataset.size}×{dataset.size} pixels.",
    ]


def _data(dataset: DatasetRecord) -> list[str]:
    counts = {split: sum(numbers) for split, numbers in dataset.counts.items()}
    numbers = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    smallest, largest = min(dataset.counts["train"]), max(dataset.counts["train"])
    return [
        "## Data", "", f"- Source: {_text(dataset.source)}", f"- Licence: {_text(dataset.licence)}",
        f"- Images: {numbers}; {smallest:,} to {largest:,} training images a class",
    ]  # fmt: skip


def _accuracy(facts: Facts) -> list[str]:
    record, lines = facts.evaluation, ["## How good it is", ""]
    if record is None or facts.folder is None:
        return [*lines, f"Test split: {NOT_EVALUATED}. `python -m pipeline.evaluate` measures it."]
    scores, split = record.scores, SPLIT_TITLES[record.split]
    if record.split != "test":
        lines += [
            "There is no test split: these numbers are of validation, which chose the weights, and so too high.",
            "",
        ]
    lines += [
        f"On the {split} images, with 95 % intervals:", "",
        f"| {split} | |", "|---|---|",
        f"| accuracy | {scores.accuracy} |",
        f"| balanced accuracy (mean recall of the classes) | {scores.balanced_accuracy} |",
        f"| F1, mean of the classes | {scores.f1_macro:.3f} |",
        f"| cross-entropy, before and after calibration | {scores.loss_uncalibrated:.3f}, {scores.loss:.3f} |",
        f"| calibration error, before and after | {scores.ece_uncalibrated:.3f}, {scores.ece:.3f} |",
        "", "| class | images | recall | precision |", "|---|---|---|---|",
    ]  # fmt: skip
    for row in read_csv(facts.folder / "per_class.csv"):
        recall, precision = (
            f"{float(row[name]):.3f} [{float(row[f'{name}_low']):.3f}, {float(row[f'{name}_high']):.3f}]"
            for name in ("recall", "precision")
        )
        if row["count"] == "0":
            recall = "no images"
        if row["predicted"] == "0":
            precision = "never predicted"
        lines.append(f"| {_cell(row['class'])} | {int(row['count']):,} | {recall} | {precision} |")
    return lines


def _diagnosis(record: DiagnosisRecord | None) -> list[str]:
    if record is None:
        return ["## Does it fit?", "", f"{NOT_EVALUATED.capitalize()}. `python -m pipeline.diagnose` judges it."]
    sentence = record.sentence
    lines = ["## Does it fit?", "", f"{sentence[0].upper()}{sentence[1:]}. {record.meaning}"]
    lines += [f"- Concern: {_text(each.name.replace('_', ' '))}, {_text(each.evidence)}" for each in record.concerns]
    return lines


def _decisions(facts: Facts) -> list[str]:
    known, lines = facts.thresholds, ["## Probabilities, sets, and what it does not know", ""]
    calibration = known.calibration
    splits = " and ".join(SPLIT_TITLES.get(split, split) for split in calibration.splits)
    if known.note:
        return [*lines, known.note]
    lines.append(
        f"- Probabilities are calibrated by a temperature of {calibration.temperature:.3f}, fitted on "
        f"{calibration.num_images:,} images of {splits}, with views `{calibration.tta}`."
    )
    share = f"{known.coverage:.0%}" if known.coverage is not None else ""
    each = "in each class" if known.by_class else "over all classes"
    lines.append(f"- The set of an image holds the true class for at least {share} of the images of this kind, {each}.")
    lines.append(
        f"- An image counts as unknown when its {known.outlier_score} is above that of {known.outlier_kept:.0%} of known "
        "images."
    )
    if "val" in calibration.splits:
        lines.append("- Validation images, which chose the weights, are among these, as the confirm split has few.")
    if facts.confirm_chose:
        lines.append(
            "- A cure has chosen the configuration on the confirm split, so these thresholds may be a little too sure."
        )
    if (point := known.operating_point) is not None:
        lines.append(
            f"- {_text(point.label)} is named as soon as its probability reaches {point.threshold:.3f}, set to find "
            f"{point.recall:.0%} of its images."
        )
        if point.cost is None:
            lines.append(f"  What that costs: {NOT_EVALUATED}.")
        else:
            cost, precision = point.cost, point.cost.precision
            lines.append(
                f"  On {SPLIT_TITLES[cost.split]} images that gives recall {cost.recall}, precision "
                f"{precision if precision is not None else 'unknown, as none was named'}, and false alarms for "
                f"{cost.false_alarms} of the others."
            )
    return lines


def _limits(facts: Facts) -> list[str]:
    return [
        "## Limits of use", "",
        "- The numbers hold for images like those of the source above; for others they are unknown. "
        "`python -m pipeline.predict NEW --drift` compares new images with them.",
        "- Every image gets one of these classes. One that shows something else is called unknown only where it is unlike all "
        "that the network has seen.",
        "- Decisions about people need more than this card: who is on the images, and what a mistake costs them.",
    ]  # fmt: skip


def _training(run: RunRecord) -> list[str]:
    config = run.config
    commit = (
        f"commit {run.git_commit}{' with local changes' if run.git_dirty else ''}" if run.git_commit else "no commit"
    )
    return [
        "## How it was trained", "",
        f"- Network: {config['model']['name']}, {run.num_parameters:,} parameters, weights of epoch {run.best_epoch} of "
        f"{run.epochs}; stopped because {run.stop_reason}",
        *_start(config["model"], run),
        f"- Training {run.id}, run {_text(run.name)}"
        f"{f' ({run.mlflow_run_id} in MLflow)' if run.mlflow_run_id else ''}, {commit}, fingerprint {run.fingerprint}",
    ]  # fmt: skip


def _start(model: Mapping[str, Any], run: RunRecord) -> list[str]:
    """The lines about the weights that the training started from and the layers that learned; none for random weights."""
    if run.weights_fingerprint is None:
        return []
    learned = {"head": "its last layer alone", "gradual": "its last layer first, then all", "all": "all its layers"}
    layers = learned[model["train_layers"]]
    return [
        f"- Started from the weights {_text(masked(model['weights']))}; {layers} learned. Their licence holds for them"
    ]


def _use(run: RunRecord) -> list[str]:
    return [
        "## Use and remake it", "",
        "```sh",
        "python -m pipeline.predict FOLDER --model .   # in the folder of this card",
        f"python -m pipeline.reproduce {run.mlflow_run_id or 'TRAINING'}   # in the project: the same weights again",
        "```",
    ]  # fmt: skip


def _text(text: str) -> str:
    """Text from users in one line, in which Markdown sees no markup.

    >>> _text("a_b*c")
    'a\\\\_b\\\\*c'
    """
    line = " ".join(printable(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in line)


def _cell(text: str) -> str:
    return _text(text.removeprefix("'"))
