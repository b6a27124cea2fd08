"""Renders the page of a cure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.rounds import RoundsRecord, TrainingRecord
from pipeline.diagnosis.record import MEANING
from pipeline.metrics.ablation import Arm
from pipeline.page import tiles
from pipeline.page.templates import configuration, fill
from pipeline.plotting import ablation, figures


@dataclass(frozen=True)
class Suspects:
    """Training images whose labels look wrong, the surest first.

    Attributes:
        sentence: How many labels look wrong, and to which method.
        images: Images that are shown, uint8 of shape (n, height, width, channels).
        labels: Their labels, int64 of shape (n,) or longer.
        predicted: Labels that they look like, int64 of shape (n,) or longer.
        confidence: Probability of the predicted label in [0, 1], of shape (n,) or longer.
        classes: Names of the classes, in the order of the labels.
    """

    sentence: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    classes: Sequence[str]

    def picture(self) -> str:
        """The images with their labels, as a data URI."""
        shown = slice(len(self.images))
        confidence = self.confidence[shown].astype(np.float32)
        return tiles.data_uri(
            figures.mistakes(self.images, self.labels[shown], self.predicted[shown], confidence, self.classes)
        )


@dataclass(frozen=True)
class CureResults:
    """The content of the page.

    Attributes:
        rounds: Record of the cure.
        config: Configuration of the user.
        headline: What was adopted, and why the cure ended.
        worth_of_data: What more training images promise; empty where that was not measured.
        patch: Change of `params.yaml` as a diff.
        command: Command that repeats the cure.
        suspects: Images to look at, where the data are at fault.
        curves: Histories before and after, seed by seed; empty where nothing was adopted or a training diverged.
    """

    rounds: RoundsRecord
    config: Mapping[str, Any]
    headline: str
    worth_of_data: str
    patch: str
    command: str
    suspects: Suspects | None
    curves: Sequence[Arm]


def render(results: CureResults) -> str:
    """The page as one HTML file that needs no other file."""
    return fill(
        "cure.html",
        results=results,
        cure=results.rounds,
        config=results.config,
        number=_number,
        mean=_mean,
        meaning=MEANING[results.rounds.after[0].verdict],
        suspects=None if results.suspects is None else results.suspects.picture(),
        curves=tiles.data_uri(ablation.curves(results.curves)) if results.curves else None,
        configuration=configuration(results.config),
    )


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
