"""Repeats a configuration: with other seeds on the same splits or, with few images, on the folds of a cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.lab.trainings import Overrides
from pipeline.metrics import paired
from pipeline.metrics.paired import Difference

FEW = 100
"""Number of images to confirm on below which folds take the place of seeds: one of 100 is a point of accuracy."""


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

    def compare(self, challenger: Sequence[float], champion: Sequence[float]) -> tuple[Difference, float]:
        """The mean difference between paired values with its interval, and the p value."""
        return paired.difference(challenger, champion), paired.sign_flip_p(challenger, champion)


@dataclass(frozen=True)
class Folds:
    """Each repetition is a cross-validation of all images outside of test, each divided in another way.

    A comparison counts that the training images of the folds overlap (`pipeline.metrics.paired.resampled`).

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

    def compare(self, challenger: Sequence[float], champion: Sequence[float]) -> tuple[Difference, float]:
        found = paired.resampled(challenger, champion, share=1 / (self.folds - 1))
        return found, paired.t_p(found)


Repetition = Seeds | Folds
