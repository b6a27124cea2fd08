"""Tests whether the splits of a dataset hold the classes in equal shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.intervals import newcombe

LARGEST_P = 0.001
"""Splits drawn at random differ by this much in one dataset of a thousand."""

SMALLEST_DIFFERENCE = 0.02
"""Difference of shares that matters; among very many images smaller ones are beyond chance too."""

_SMALLEST_EXPECTED = 5
"""Expected number of images below which the χ² distribution does not hold; rarer classes are counted together."""


@dataclass(frozen=True)
class Shift:
    """A split whose class shares differ from those of the training split beyond chance.

    Attributes:
        split: Name of the split.
        label: Class whose share differs most.
        share: Share of that class in the split, in [0, 1].
        train_share: Its share in the training split.
        low, high: 95 % interval of `share` less `train_share` (Newcombe 1998, method 10).
        p: Probability of a difference as large by chance: that of a χ² test, times the number of splits that are tested
            (Bonferroni).
    """

    split: str
    label: int
    share: float
    train_share: float
    low: float
    high: float
    p: float


def split_shifts(counts: Mapping[str, Sequence[int]]) -> list[Shift]:
    """Compare the class shares of each other split with those of `train`.

    Args:
        counts: Number of images of each class, by split.

    Returns:
        The splits with p < 0.001 and a share that differs by 0.02 or more, the largest difference first.

    >>> [shift] = split_shifts({"train": [500, 500], "val": [90, 10], "test": [50, 50]})
    >>> shift.split, shift.label, shift.share, shift.train_share
    ('val', 0, 0.9, 0.5)
    """
    train = np.array(counts["train"])
    others = {name: np.array(values) for name, values in counts.items() if name != "train" and any(values)}
    shifts = []
    for name, values in others.items():
        p = min(1.0, _p_value(train, values) * len(others))
        difference = values / values.sum() - train / train.sum()
        label = int(np.abs(difference).argmax())
        if p < LARGEST_P and abs(difference[label]) >= SMALLEST_DIFFERENCE:
            sizes = (int(values[label]), int(values.sum()), int(train[label]), int(train.sum()))
            low, high = newcombe(*sizes)
            shifts.append(Shift(name, label, sizes[0] / sizes[1], sizes[2] / sizes[3], low, high, p))
    return sorted(shifts, key=lambda shift: -abs(shift.share - shift.train_share))


def _p_value(first: np.ndarray, second: np.ndarray) -> float:
    """The p value of the χ² test that two samples of n classes, each of shape (n,), have equal shares."""
    from scipy.stats import chi2_contingency

    table = np.stack([first, second])
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    rare = expected < _SMALLEST_EXPECTED
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    return float(chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else 1.0
