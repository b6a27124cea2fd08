"""Scores predicted probabilities: `labels` int64 `(n,)` against `probabilities` float `(n, classes)`, n >= 1.

Averages over classes ("macro") leave out a class that no label names, as it has no recall. Predictions of such a class
already lower the recall of the others. scikit-learn is imported by the functions that need it, as that takes a second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.history import CALIBRATION_BINS
from pipeline.metrics.intervals import mean_of_proportions, wilson

IMBALANCED = 1.5
"""Ratio of the largest to the smallest class from which accuracy tells little about the small classes."""

Labels = NDArray[np.int64]
Probabilities = NDArray[np.floating]

SMALLEST_PROBABILITY = 1e-12
"""Lower bound of a probability in the loss, so that one confident mistake costs ln 10¹² = 27.6 instead of infinity."""


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class; one that is undefined, for want of images or of predictions, is 0.

    Attributes:
        count: Number of images of the class.
        predicted: Number of images predicted as the class.
        correct: Number of images of the class that were predicted as it.
        recall: `correct` as a share of `count`.
        precision: `correct` as a share of `predicted`.
        f1: Harmonic mean of both.
    """

    count: int
    predicted: int
    correct: int
    recall: float
    precision: float
    f1: float

    def recall_interval(self) -> tuple[float, float]:
        return _share_interval(self.correct, self.count)

    def precision_interval(self) -> tuple[float, float]:
        return _share_interval(self.correct, self.predicted)


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """The share of images whose most probable class is the label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def balanced_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """The mean recall of the classes that occur in `labels` (macro recall)."""
    from sklearn.metrics import recall_score

    return _macro(recall_score, labels, probabilities)


def balanced_accuracy_interval(labels: Labels, probabilities: Probabilities) -> tuple[float, float]:
    """The 95 % interval of the balanced accuracy, given the number of images of each class."""
    matrix = confusion(labels, probabilities)
    counts = matrix.sum(axis=1)
    occurring = counts > 0
    return mean_of_proportions(matrix.diagonal()[occurring].tolist(), counts[occurring].tolist())


def precision_macro(labels: Labels, probabilities: Probabilities) -> float:
    """The mean precision of the classes that occur in `labels`; a class that is never predicted counts as 0."""
    from sklearn.metrics import precision_score

    return _macro(precision_score, labels, probabilities)


def f1_macro(labels: Labels, probabilities: Probabilities) -> float:
    """The mean F1 of the classes that occur in `labels`."""
    from sklearn.metrics import f1_score

    return _macro(f1_score, labels, probabilities)


def negative_log_likelihood(labels: Labels, probabilities: Probabilities) -> float:
    """The mean of −ln p(label) in nats, each p at least `SMALLEST_PROBABILITY`."""
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(of_label.clip(min=SMALLEST_PROBABILITY)).mean())


def expected_calibration_error(labels: Labels, probabilities: Probabilities) -> float:
    """The mean distance of confidence from accuracy over bins, weighted by their images (Guo et al. 2017).

    Bin i holds the confidences in (i/15, (i + 1)/15].
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bins = (np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1).clip(0, CALIBRATION_BINS - 1)
    # images · (confidence − accuracy) of each bin
    excess = np.bincount(bins, weights=confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(excess).sum() / len(labels))


def confusion(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """The number of images by true class (rows) and predicted class (columns), `(classes, classes)`."""
    from sklearn.metrics import confusion_matrix

    classes = np.arange(probabilities.shape[1])
    matrix: NDArray[np.int64] = confusion_matrix(labels, probabilities.argmax(axis=1), labels=classes)
    return matrix


def per_class(labels: Labels, probabilities: Probabilities) -> list[ClassScore]:
    """The scores of each class, in the order of the columns of `probabilities`."""
    from sklearn.metrics import precision_recall_fscore_support

    matrix = confusion(labels, probabilities)
    precision, recall, f1, count = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(len(matrix)), zero_division=0.0
    )
    columns = (count, matrix.sum(axis=0), matrix.diagonal(), recall, precision, f1)
    return [ClassScore(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]


def imbalance(counts: Sequence[int]) -> float:
    """The ratio of the largest class to the smallest, among those that have images.

    >>> imbalance([30, 10, 0])
    3.0
    """
    return max(counts) / min(count for count in counts if count)


def _macro(score: Callable[..., float], labels: Labels, probabilities: Probabilities) -> float:
    """A score of scikit-learn's as the mean over the classes that occur in `labels`."""
    predicted = probabilities.argmax(axis=1)
    return float(score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0.0))


def _share_interval(correct: int, count: int) -> tuple[float, float]:
    """Wilson's interval; without images, any share is possible."""
    return wilson(correct, count) if count else (0.0, 1.0)
