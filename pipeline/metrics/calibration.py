"""Calibrates probabilities by one temperature, so that a probability of 0.8 means right in 8 of 10 (Guo et al. 2017)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature. At the lowest, probabilities are nearly 0 and 1; at the highest, they are nearly even."""


def fit_temperature(labels: NDArray[np.int64], log_probabilities: NDArray[np.floating]) -> float:
    """The temperature that makes the cross-entropy least; a function of it with one minimum.

    Args:
        labels: True classes, of shape (n,), n >= 1.
        log_probabilities: Logarithms of probabilities, of shape (n, classes).
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = log_probabilities.astype(np.float64) / np.exp(log_temperature)
        return float((_log_sum(scaled) - scaled[rows, labels]).mean())

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def calibrated(log_probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Probabilities p^(1/temperature), each row summing to 1, float32 of shape (n, classes).

    The logarithm of probabilities may stand for logits, as it differs from them by the same number in a row.

    >>> calibrated(np.log([[0.9, 0.1]]), 2.0).round(2).tolist()
    [[0.75, 0.25]]
    """
    scaled = log_probabilities.astype(np.float64) / temperature
    probabilities: NDArray[np.float32] = np.exp(scaled - _log_sum(scaled)[:, None]).astype(np.float32)
    return probabilities


def log_mean_softmax(logits: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """The logarithm of the mean probability over several views of the same images, whose logits have the shape (n, classes).

    >>> np.exp(log_mean_softmax([np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])])).round(2).tolist()
    [[0.7, 0.3]]
    """
    each = [values.astype(np.float64) - _log_sum(values.astype(np.float64))[:, None] for values in logits]
    mean: NDArray[np.float64] = np.logaddexp.reduce(each, axis=0) - np.log(len(each))
    return mean


def _log_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """log Σ exp of each row."""
    highest = values.max(axis=1, keepdims=True)
    total: NDArray[np.float64] = np.log(np.exp(values - highest).sum(axis=1)) + highest[:, 0]
    return total
