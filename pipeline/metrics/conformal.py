"""Finds sets of classes that hold the true one with a chosen probability (split conformal prediction).

The set of an image holds each class whose probability is at least a threshold. The thresholds are quantiles of the
probability of the true class over images that chose nothing; images of the same kind are then covered at least as often as
asked for. Each class has its own threshold where there are images enough, so that no class pays for another (Sadinle, Lei
and Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels").
"""

from math import floor

import numpy as np
from numpy.typing import NDArray

MIN_PER_CLASS = 50
"""Number of images of each class from which each class has a threshold of its own."""


def thresholds(labels: NDArray[np.int64], probabilities: NDArray[np.floating], coverage: float) -> list[float]:
    """The least probability with which each class is in the set.

    Args:
        labels: True classes, of shape (n,).
        probabilities: Shape (n, classes).
        coverage: Share of the images whose set shall hold the true class, in (0, 1).

    >>> thresholds(np.array([0, 1, 0]), np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]), 0.5)
    [0.7, 0.7]
    """
    of_label = probabilities[np.arange(len(labels)), labels]
    num_classes = probabilities.shape[1]
    if is_by_class(labels, num_classes):
        return [lower_quantile(of_label[labels == label], coverage) for label in range(num_classes)]
    return [lower_quantile(of_label, coverage)] * num_classes


def is_by_class(labels: NDArray[np.int64], num_classes: int) -> bool:
    """Whether each class has images enough for a threshold of its own."""
    return int(np.bincount(labels, minlength=num_classes).min()) >= MIN_PER_CLASS


def lower_quantile(values: NDArray[np.floating], share: float) -> float:
    """The value that a further one, drawn like `values`, reaches with a probability of at least `share`; 0 for too few values.

    It is the ⌊(1 − share)·(n + 1)⌋-th smallest (Vovk et al. 2005).

    >>> lower_quantile(np.arange(1, 20) / 20, 0.9), lower_quantile(np.array([0.5]), 0.9)
    (0.1, 0.0)
    """
    rank = floor((1 - share) * (len(values) + 1) + 1e-9)
    return float(np.sort(values)[rank - 1]) if rank >= 1 else 0.0


def sets(probabilities: NDArray[np.floating], limits: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether each class is in the set of each image, of shape (n, classes). A set may be empty."""
    inside: NDArray[np.bool_] = probabilities >= limits
    return inside
