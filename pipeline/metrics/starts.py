"""Compares ways to start a training by their accuracies on the same folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.metrics.paired import Difference, by_image, over_folds

Right = Mapping[str, float]


@dataclass(frozen=True)
class Way:
    """One way to start, at one number of training images.

    Attributes:
        name: Name of the way.
        accuracies: Validation accuracy on each fold.
        seconds: Mean time of a fold's training.
        gain: Accuracy above that of the baseline, paired by fold; None for the baseline itself.
    """

    name: str
    accuracies: Sequence[float]
    seconds: float
    gain: Difference | None

    @property
    def accuracy(self) -> float:
        """Mean over the folds."""
        return fmean(self.accuracies)

    @property
    def is_better(self) -> bool:
        """Whether it is surely better than the baseline."""
        return self.gain is not None and self.gain.excludes_zero and self.gain.mean > 0


def compare(right: Mapping[str, Sequence[Right]], seconds: Mapping[str, float], baseline: str) -> list[Way]:
    """The ways, the most accurate first.

    Args:
        right: By way, for each fold, 1 for each validation image that is classified rightly and 0 for the others; the same
            folds in the same order.
        seconds: Mean time of a fold's training, by way.
        baseline: Name of the way that the others are compared with.
    """
    accuracies = {name: tuple(fmean(fold.values()) for fold in folds) for name, folds in right.items()}
    ways = []
    for name, folds in right.items():
        gain = over_folds(accuracies[name], accuracies[baseline], by_image(folds, right[baseline]))
        ways.append(Way(name, accuracies[name], seconds[name], None if name == baseline else gain))
    return sorted(ways, key=lambda way: -way.accuracy)


def best(ways: Sequence[Way]) -> Way:
    """The most accurate way if it is surely better than the baseline, else the baseline."""
    baseline = next(way for way in ways if way.gain is None)
    better = [way for way in ways if way.is_better]
    return better[0] if better else baseline
