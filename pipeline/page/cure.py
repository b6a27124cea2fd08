"""Renders the page of a cure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pipeline.artefacts.rounds import RoundsRecord, TrainingRecord
from pipeline.diagnosis import DATA_VERDICTS
from pipeline.diagnosis.record import MEANING
from pipeline.metrics.ablation import Arm
from pipeline.page import tiles
from pipeline.page.templates import configuration, fill
from pipeline.plotting import ablation


@dataclass(frozen=True)
class CureResults:
    """The content of the page.

    Attributes:
        dataset: Name of the images.
        rounds: Record of the cure.
        config: Configuration of the user.
        headline: Adopted changes, and the reason why the cure ended.
        worth_of_data: Promise of more training images; empty where it was not measured.
        patch: Change of `params.yaml` as a diff.
        command: Command that repeats the cure.
        suspects: Sentence about labels that look wrong; empty where the data are not at fault.
        picture: PNG of the images with these labels; None likewise.
        curves: Histories before and after, seed by seed; empty where nothing was adopted or a training diverged.
    """

    dataset: str
    rounds: RoundsRecord
    config: Mapping[str, Any]
    headline: str
    worth_of_data: str
    patch: str
    command: str
    suspects: str
    picture: bytes | None
    curves: Sequence[Arm]


def render(results: CureResults) -> str:
    """The page as one HTML file that needs no other file."""
    return fill(
        "cure.html", results=results, cure=results.rounds, config=results.config, number=_number, mean=_mean,
        data_at_fault=results.rounds.after[0].verdict in DATA_VERDICTS, meaning=MEANING[results.rounds.after[0].verdict],
        suspects=None if results.picture is None else tiles.data_uri(results.picture),
        curves=tiles.data_uri(ablation.curves(results.curves)) if results.curves else None,
        configuration=configuration(results.config),
    )  # fmt: skip


def _number(number: float | None) -> str:
    """
    >>> _number(0.5), _number(None)
    ('0.500', '–')
    """
    return "–" if number is None else f"{number:.3f}"


def _mean(trainings: Sequence[TrainingRecord], name: str) -> str:
    """The mean of a measure over the seeds; a dash where one of them diverged."""
    numbers = [getattr(training, name) for training in trainings]
    return _number(None if None in numbers else fmean(numbers))
