"""Scores how far an image is from those that a network was trained on; higher scores are further away."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


class Clusters(NamedTuple):
    """The features of training images: their mean in each class, and the inverse of the covariance around these means.

    Attributes:
        means: Shape (classes with images, features), float32.
        precision: Shape (features, features), float32.
    """

    means: NDArray[np.float32]
    precision: NDArray[np.float32]


def fit_clusters(features: Features, labels: NDArray[np.int64]) -> Clusters:
    """The clusters of training images; the covariance is shrunk, so that it has an inverse (Ledoit and Wolf 2004).

    Args:
        features: Shape (n, features).
        labels: Classes, of shape (n,).
    """
    from sklearn.covariance import LedoitWolf

    names, positions = np.unique(labels, return_inverse=True)
    means = np.stack([features[labels == name].mean(axis=0) for name in names])
    centred = (features - means[positions]).astype(np.float64)
    covariance = LedoitWolf(assume_centered=True, store_precision=False).fit(centred).covariance_
    precision = np.linalg.inv(covariance)  # sklearn's pseudo-inverse takes five times as long
    return Clusters(means.astype(np.float32), precision.astype(np.float32))


def distance(features: Features, clusters: Clusters) -> NDArray[np.float64]:
    """The squared Mahalanobis distance to the nearest cluster (Lee et al. 2018), of shape (n,)."""
    distances = np.empty((len(features), len(clusters.means)))
    for column, mean in enumerate(clusters.means):
        centred = (features - mean).astype(np.float64)
        distances[:, column] = np.einsum("ij,ij->i", centred @ clusters.precision.astype(np.float64), centred)
    nearest: NDArray[np.float64] = distances.min(axis=1)
    return nearest


def energy(logits: Features) -> NDArray[np.float64]:
    """The energy −log Σ exp(logits) (Liu et al. 2020), of shape (n,)."""
    values = logits.astype(np.float64)
    highest = values.max(axis=1)
    result: NDArray[np.float64] = -(np.log(np.exp(values - highest[:, None]).sum(axis=1)) + highest)
    return result
