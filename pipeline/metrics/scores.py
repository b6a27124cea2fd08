"""How good predicted probabilities are, from `labels` int64 `(n,)` and `probabilities` float `(n, classes)`, n >= 1.

A class that no label names is left out of averages over classes ("macro"): nothing can be said of it. Where it was
predicted, the recall of other classes has suffered already.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.history import CALIBRATION_BINS
from pipeline.metrics.intervals import mean_of_proportions, wilson

TEST_ACCURACY, TEST_ACCURACY_LOW, TEST_ACCURACY_HIGH = "test/accuracy", "test/accuracy_low", "test/accuracy_high"
TEST_BALANCED, TEST_BALANCED_LOW, TEST_BALANCED_HIGH = (f"test/balanced_accuracy{end}" for end in ("", "_low", "_high"))
TEST_PRECISION_MACRO, TEST_F1_MACRO = "test/precision_macro", "test/f1_macro"
TEST_LOSS, TEST_ECE = "test/loss", "test/ece"
"""Keys of `metrics.json`, in MLflow too."""

IMBALANCED = 1.5
"""Images of the largest class for each one of the smallest, from where on accuracy says little of the small ones."""

Labels = NDArray[np.int64]
Probabilities = NDArray[np.floating]

SMALLEST_PROBABILITY = 1e-12
"""What a smaller one is taken for, so that a single sure mistake costs ln 10¹² = 27.6 and not infinity."""


@dataclass(frozen=True)
class ClassScore:
    """How one class fares.

    Attributes:
        count: Images whose label it is.
        predicted: Images that were taken for it.
        found: Images that are both.
    """

    count: int
    predicted: int
    found: int

    @property
    def recall(self) -> float:
        """Share of its images that are found; of none, 0."""
        return self.found / max(self.count, 1)

    @property
    def precision(self) -> float:
        """Share of the predictions of this class that are right; of none, 0."""
        return self.found / max(self.predicted, 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.found / max(self.count + self.predicted, 1)

    def recall_interval(self) -> tuple[float, float]:
        return _share_interval(self.found, self.count)

    def precision_interval(self) -> tuple[float, float]:
        return _share_interval(self.found, self.predicted)


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """The share of images whose likeliest class is the right one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def balanced_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Macro recall: the mean recall of the classes that occur in `labels`, blind to how often each does."""
    return float(np.mean([score.recall for score in _occurring(labels, probabilities)]))


def balanced_accuracy_interval(labels: Labels, probabilities: Probabilities) -> tuple[float, float]:
    """The 95 % interval of the balanced accuracy, for as many images of each class."""
    occurring = _occurring(labels, probabilities)
    return mean_of_proportions([score.found for score in occurring], [score.count for score in occurring])


def precision_macro(labels: Labels, probabilities: Probabilities) -> float:
    """The mean precision of the classes that occur in `labels`; one that is never predicted counts as 0."""
    return float(np.mean([score.precision for score in _occurring(labels, probabilities)]))


def f1_macro(labels: Labels, probabilities: Probabilities) -> float:
    """The mean F1 of the classes that occur in `labels`."""
    return float(np.mean([score.f1 for score in _occurring(labels, probabilities)]))


def negative_log_likelihood(labels: Labels, probabilities: Probabilities) -> float:
    """The mean of −ln p(right class) in nats, each p at least `SMALLEST_PROBABILITY`."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(right.clip(min=SMALLEST_PROBABILITY)).mean())


def expected_calibration_error(labels: Labels, probabilities: Probabilities) -> float:
    """How far confidence and accuracy lie apart, over bins of equal width weighted by their images (Guo et al. 2017).

    A bin holds the confidences in (i/15, (i + 1)/15].
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bins = (np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1).clip(0, CALIBRATION_BINS - 1)
    surplus = np.bincount(
        bins, weights=confidence - correct, minlength=CALIBRATION_BINS
    )  # images · (confidence − accuracy)
    return float(np.abs(surplus).sum() / len(labels))


def confusion(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Images counted by true class (rows) and predicted class (columns), `(classes, classes)`."""
    num_classes = probabilities.shape[1]
    cells = labels * num_classes + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class(labels: Labels, probabilities: Probabilities) -> list[ClassScore]:
    """The scores of each class, in the order of the columns of `probabilities`."""
    matrix = confusion(labels, probabilities)
    columns = zip(matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal(), strict=True)
    return [ClassScore(int(count), int(predicted), int(found)) for count, predicted, found in columns]


def imbalance(counts: Sequence[int]) -> float:
    """How many images the largest class has for each one of the smallest, of those that have any.

    >>> imbalance([30, 10, 0])
    3.0
    """
    return max(counts) / min(count for count in counts if count)


def _occurring(labels: Labels, probabilities: Probabilities) -> list[ClassScore]:
    return [score for score in per_class(labels, probabilities) if score.count]


def _share_interval(found: int, count: int) -> tuple[float, float]:
    """Wilson's; of nothing, any share is possible."""
    return wilson(found, count) if count else (0.0, 1.0)
