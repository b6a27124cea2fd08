"""How good predicted probabilities are, from `labels` int64 `(n,)` and `probabilities` float `(n, classes)`, n >= 1.

A class that no label names is left out of averages over classes, unless it was predicted: then it counts as 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.fit.history import CALIBRATION_BINS

Labels = NDArray[np.int64]
Probabilities = NDArray[np.floating]

SMALLEST_PROBABILITY = 1e-12
"""What a smaller one is taken for, so that a single sure mistake costs ln 10¹² = 27.6 and not infinity."""


@dataclass(frozen=True)
class ClassScore:
    """How one class fares; a share of nothing is 0.

    Attributes:
        count: Images whose label it is.
        precision: Share of the predictions of this class that are right.
        recall: Share of its images that are found.
        f1: The harmonic mean of both.
    """

    count: int
    precision: float
    recall: float
    f1: float


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """The share of images whose likeliest class is the right one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def balanced_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """The mean recall of the classes that occur in `labels`: blind to how often each does."""
    return float(np.mean([score.recall for score in per_class(labels, probabilities) if score.count]))


def f1_macro(labels: Labels, probabilities: Probabilities) -> float:
    """The mean F1 of the classes that occur in `labels` or among the predictions."""
    predicted = set(probabilities.argmax(axis=1))
    scores = enumerate(per_class(labels, probabilities))
    return float(np.mean([score.f1 for index, score in scores if score.count or index in predicted]))


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
    found, counts, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    return [
        ClassScore(
            count=int(count),
            precision=float(right / max(guesses, 1)),
            recall=float(right / max(count, 1)),
            f1=float(2 * right / max(count + guesses, 1)),
        )
        for right, count, guesses in zip(found, counts, predicted, strict=True)
    ]
