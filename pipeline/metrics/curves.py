"""Computes curves over all thresholds of a probability: ROC, precision and recall, and how far confidence can be believed.

scikit-learn is imported by the functions that need it, as that takes a second.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.history import CALIBRATION_BINS
from pipeline.metrics.intervals import wilson

MOST_POINTS = 200
"""Largest number of points that a curve keeps, evenly along its length."""


@dataclass(frozen=True)
class Curve:
    """A curve in the unit square, as points from left to right, and one number that sums it up.

    Attributes:
        x: Horizontal position of each point.
        y: Vertical position of each point.
        area: Area under the ROC curve, or the average precision.
    """

    x: list[float]
    y: list[float]
    area: float


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in one range.

    Attributes:
        count: Number of images, at least 1.
        confidence: Their mean confidence.
        accuracy: Share of them that was classified rightly.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
    """

    count: int
    confidence: float
    accuracy: float
    low: float
    high: float


def roc(is_class: NDArray[np.bool_], probability: NDArray[np.floating]) -> Curve:
    """Recall (y) over the share of false alarms (x), with the area under it: 0.5 for chance, 1 for perfect order.

    Args:
        is_class: Whether each image is of the class, of shape (n,); both occur.
        probability: Probability of the class for each image, of shape (n,).

    >>> roc(np.array([False, True, True]), np.array([0.1, 0.8, 0.9])).area
    1.0
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    false_alarms, recall, _ = roc_curve(is_class, probability)
    return _curve(false_alarms, recall, roc_auc_score, is_class, probability)


def precision_recall(is_class: NDArray[np.bool_], probability: NDArray[np.floating]) -> Curve:
    """Precision (y) over recall (x), with the average precision: the share of the class for chance, 1 for perfect order."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(is_class, probability, drop_intermediate=True)
    measured = slice(len(recall) - 2, None, -1)  # without the last point, which stands for no image
    return _curve(recall[measured], precision[measured], average_precision_score, is_class, probability)


def reliability(labels: NDArray[np.int64], probabilities: NDArray[np.floating]) -> list[Bin]:
    """The accuracy of the images in each bin of the confidence, without empty bins; see `scores.expected_calibration_error`.

    Args:
        labels: True classes, of shape (n,).
        probabilities: Shape (n, classes).
    """
    confidence, correct = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    number = (np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1).clip(0, CALIBRATION_BINS - 1)
    bins = []
    for index in np.unique(number):
        inside = number == index
        count, right = int(inside.sum()), int(correct[inside].sum())
        bins.append(Bin(count, float(confidence[inside].mean()), right / count, *wilson(right, count)))
    return bins


def _curve(
    x: NDArray[np.float64], y: NDArray[np.float64], area: Callable[..., float], is_class: NDArray[np.bool_],
    probability: NDArray[np.floating],
) -> Curve:  # fmt: skip
    if len(x) > MOST_POINTS:
        length = np.concatenate([[0.0], np.hypot(np.diff(x), np.diff(y)).cumsum()])
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS)).clip(max=len(x) - 1))
        x, y = x[kept], y[kept]
    return Curve(x.tolist(), y.tolist(), float(area(is_class, probability)))
