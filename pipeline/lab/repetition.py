"""Repeats a configuration: with other seeds on the same splits or, with few images, on the folds of a cross-validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.lab.trainings import Overrides
from pipeline.metrics import paired
from pipeline.metrics.paired import Difference

FEW = 100
"""Number of images to confirm on below which folds take the place of seeds: one of 100 is a point of accuracy."""


@dataclass(frozen=True)
class Confirmed:
    """A training on the images to confirm on.

    Attributes:
        right: 1 for each image that it classifies rightly, 0 for the others, by its id; what guessing reaches for all images
            of a training that diverged.
        train_accuracy: Accuracy on training images.
    """

    right: Mapping[str, float]
    train_accuracy: float

    @property
    def accuracy(self) -> float:
        return fmean(self.right.values())

    @property
    def gap(self) -> float:
        return self.train_accuracy - self.accuracy


@dataclass(frozen=True)
class Comparison:
    """Differences of the challenger from the champion.

    Attributes:
        accuracy: Difference in accuracy.
        gap: Difference in the gap.
        p: p value of the difference in accuracy.
    """

    accuracy: Difference
    gap: Difference
    p: float


@dataclass(frozen=True)
class Seeds:
    """Each repetition is one training with a seed of its own; it is confirmed on the confirm split."""

    split = "confirm"
    folds = None

    def named(self, seed: int) -> str:
        """One repetition in words."""
        return f"seed {seed}"

    def all_of(self, repetitions: int) -> str:
        """So many repetitions in words."""
        return "its seed" if repetitions == 1 else f"each of {repetitions} seeds"

    def trainings(self, overrides: Overrides) -> list[Overrides]:
        """The trainings of one repetition, given its overrides with the seed at the end."""
        return [overrides]

    def number(self, pairs: int) -> int:
        """Number of repetitions that give so many pairs of trainings."""
        return pairs

    def compare(self, challenger: Sequence[Confirmed], champion: Sequence[Confirmed]) -> Comparison:
        """The mean differences, paired by seed, with intervals of Student's t and the p value of sign flips."""
        (new, new_gaps), (old, old_gaps) = map(_numbers, (challenger, champion))
        p = paired.sign_flip_p(new, old)
        return Comparison(paired.difference(new, old), paired.difference(new_gaps, old_gaps), p)


@dataclass(frozen=True)
class Folds:
    """Each repetition is a cross-validation of all images outside of test, each divided in another way.

    Attributes:
        folds: Number of folds.
    """

    folds: int

    split = "val"

    def named(self, seed: int) -> str:
        return f"{self.folds} folds together"

    def all_of(self, repetitions: int) -> str:
        return f"{self.folds} folds together" if repetitions == 1 else f"{repetitions} times {self.folds} folds"

    def trainings(self, overrides: Overrides) -> list[Overrides]:
        *own, seed = overrides
        common = ["prepare.confirm_fraction=0", f"prepare.folds={self.folds}", f"prepare.repeat={seed.split('=')[1]}"]
        return [(*own, *common, f"prepare.fold={fold}", seed) for fold in range(self.folds)]

    def number(self, pairs: int) -> int:
        return -(-pairs // self.folds)

    def compare(self, challenger: Sequence[Confirmed], champion: Sequence[Confirmed]) -> Comparison:
        """The mean differences, paired by fold, with intervals that hold the chance of trainings and of images."""
        (new, new_gaps), (old, old_gaps) = map(_numbers, (challenger, champion))
        changes = paired.by_image([each.right for each in challenger], [each.right for each in champion])
        accuracy, gap = paired.over_folds(new, old, changes), paired.over_folds(new_gaps, old_gaps, changes)
        return Comparison(accuracy, gap, paired.t_p(accuracy))


def _numbers(trainings: Sequence[Confirmed]) -> tuple[list[float], list[float]]:
    """Their accuracies and gaps."""
    return [each.accuracy for each in trainings], [each.gap for each in trainings]


Repetition = Seeds | Folds
