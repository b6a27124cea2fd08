"""What a cure tells: on the terminal round by round, and at its end as a page."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.diagnosis.record import MEANING
from pipeline.evaluation.label_audit import Audit
from pipeline.lab.treatment import Patient, Round
from pipeline.metrics.ablation import Arm
from pipeline.metrics.paired import Difference
from pipeline.page import tiles
from pipeline.page.templates import configuration, fill
from pipeline.plotting import ablation, figures

MOST_SUSPECTS = 30
REMARKABLE = 0.005
"""Accuracy that the second half of the training images must surely have brought for more of them to be worth a word."""


@dataclass(frozen=True)
class Suspects:
    """Training images whose labels look wrong.

    Attributes:
        audit: What was found.
        images: The surest of them, uint8 of shape (n, height, width, channels).
        classes: Names in the order of the labels.
    """

    audit: Audit
    images: NDArray[np.uint8]
    classes: Sequence[str]

    def sentence(self) -> str:
        found = self.audit
        return (
            f"Of {found.num_images:,} training images, {found.share:.0%} look as if they were of another class, to a logistic "
            f"regression on pixels that was cross-validated and is right on {found.accuracy:.0%} of them"
        )


@dataclass(frozen=True)
class Ending:
    """What came of a cure.

    Attributes:
        asked: The configuration that was to be cured.
        reason: Why it ended.
        before: The trainings of that configuration.
        after: Those of what was adopted, which may be the same.
        rounds: In their order.
        adopted: The overrides that are left of all adoptions, in their order.
        more_data: What the second half of the training images brought; None where nobody asked.
        patch: Of params.yaml, as a diff.
        command: What makes all this again.
        num_trained: Trainings behind it.
        suspects: Images to look at, where the data are at fault.
        curves: Histories of `before` and `after`, seed by seed; empty where nothing was adopted, or one diverged.
    """

    asked: Mapping[str, Any]
    reason: str
    before: Sequence[Patient]
    after: Sequence[Patient]
    rounds: Sequence[Round]
    adopted: Sequence[str]
    more_data: Difference | None
    patch: str
    command: str
    num_trained: int
    suspects: Suspects | None
    curves: Sequence[Arm]

    def headline(self) -> str:
        """What was adopted, or that nothing was, and why it ended."""
        what = f"Adopted: {', '.join(self.adopted)}" if self.adopted else "Nothing was adopted"
        return f"{what}. It ended because {self.reason}."

    def data_sentence(self) -> str:
        """What more data would be worth; empty where nobody asked."""
        found = self.more_data
        if found is None:
            return ""
        span = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        if found.low > REMARKABLE:
            return f"The second half of the training images brought {span} of accuracy: more images would help."
        return f"The second half of the training images brought {span} of accuracy: more of them promise little."


def print_round(number: int, over: Round) -> None:
    """Print what a round tried, and what came of it."""
    table = Table(
        title=f"round {number}: {over.verdict.replace('_', ' ')}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("change", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("training", "validation", "gap", "val/loss"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("none", *_cells(over.champion[0]))
    for _, patient in over.tried:
        chosen = over.chosen is not None and over.chosen in patient.overrides
        table.add_row(_change(over, patient), *_cells(patient), style="bold" if chosen else None)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    console.print(f"round {number}: {over.sentence()}", soft_wrap=True)


def closing(ended: Ending) -> str:
    """The last lines on the terminal."""
    lines = [ended.headline()]
    if ended.adopted:
        lines += [
            f"Before: {_summary(ended.before)}",
            f"After:  {_summary(ended.after)}",
            "The change of params.yaml:",
            ended.patch,
        ]
    if ended.data_sentence():
        lines.append(ended.data_sentence())
    if ended.suspects is not None:
        lines.append(f"{ended.suspects.sentence()}. The page shows the surest ones.")
    return "\n".join(lines)


def render(ended: Ending) -> str:
    """The page as one HTML file that needs nothing else."""
    suspects = None
    if ended.suspects is not None:
        found, shown = ended.suspects.audit, len(ended.suspects.images)
        picture = figures.mistakes(
            ended.suspects.images,
            found.labels[:shown],
            found.predicted[:shown],
            found.confidence[:shown].astype(np.float32),
            ended.suspects.classes,
        )
        suspects = tiles.data_uri(picture)
    return fill(
        "cure.html",
        ended=ended,
        before=ended.before,
        after=ended.after,
        mean=_mean,
        meaning=MEANING[ended.after[0].diagnosis.verdict],
        rounds=[
            {
                "round": over,
                "lines": [("none", over.champion[0]), *((_change(over, each), each) for _, each in over.tried)],
                "remedies": ["", *(remedy for remedy, _ in over.tried)],
            }
            for over in ended.rounds
        ],
        suspects=suspects,
        curves=tiles.data_uri(ablation.curves(ended.curves)) if ended.curves else None,
        configuration=configuration(ended.asked),
    )


def to_json(ended: Ending) -> str:
    """The rounds for other programs."""
    rounds = [
        {
            "verdict": over.verdict,
            "champion": [_plain(each) for each in over.champion],
            "tried": [
                {"remedy": remedy, "override": _change(over, each), **_plain(each)} for remedy, each in over.tried
            ],
            "chosen": over.chosen,
            "adopted": over.adopted,
            "confirmation": None if over.confirmation is None else asdict(over.confirmation),
        }
        for over in ended.rounds
    ]
    content = {
        "reason": ended.reason,
        "adopted": list(ended.adopted),
        "before": [_plain(each) for each in ended.before],
        "after": [_plain(each) for each in ended.after],
        "rounds": rounds,
        "more_data": None if ended.more_data is None else asdict(ended.more_data),
        "trainings": ended.num_trained,
    }
    return json.dumps(content, indent=2) + "\n"


def _change(over: Round, patient: Patient) -> str:
    """What sets a candidate apart from the champion."""
    return " ".join(each for each in patient.overrides if each not in over.champion[0].overrides)


def _cells(patient: Patient) -> list[str]:
    numbers = [patient.measured(name) for name in ("train_accuracy", "val_accuracy", "gap")]
    return [
        patient.diagnosis.verdict.replace("_", " "),
        *(f"{number:.3f}" for number in numbers),
        f"{patient.loss:.3f}",
    ]


def _mean(patients: Sequence[Patient], name: str) -> float:
    return fmean(each.measured(name) for each in patients)


def _summary(patients: Sequence[Patient]) -> str:
    train, val, gap = (_mean(patients, name) for name in ("train_accuracy", "val_accuracy", "gap"))
    verdicts = ", ".join(dict.fromkeys(each.diagnosis.verdict.replace("_", " ") for each in patients))
    return f"training {train:.3f}, validation {val:.3f}, gap {gap:.3f}; {verdicts} (means of {len(patients)} seeds)"


def _plain(patient: Patient) -> dict[str, Any]:
    names = ("train_accuracy", "val_accuracy", "gap")
    return {
        "overrides": list(patient.overrides),
        "verdict": patient.diagnosis.verdict,
        "sentence": patient.diagnosis.sentence,
        **{name: patient.measured(name) for name in names if name in patient.diagnosis.evidence},
    }
