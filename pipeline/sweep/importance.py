"""Estimates how much each varied key of a sweep moved its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_JOBS = 8
"""Smallest number of jobs that a forest can be fitted to and tested on."""


@dataclass(frozen=True)
class Importances:
    """Permutation importance of each key for a random forest that predicts the metric (Breiman 2001).

    Attributes:
        means: Mean loss of R² when a key's values are shuffled, by key, the most important first.
        spreads: Standard deviation of that loss over the repetitions, by key.
        explained: R² of the forest on jobs that its trees have not seen; at or below 0 it has learned nothing.
        num_jobs: Number of jobs that it was fitted to.
    """

    means: dict[str, float]
    spreads: dict[str, float]
    explained: float
    num_jobs: int


def measure(settings: Mapping[str, Sequence[str]], scores: Sequence[float]) -> Importances | None:
    """Fit the forest and shuffle each key; None with fewer than `MIN_JOBS` jobs or nothing that varies.

    Args:
        settings: Values of each varied key, one for each job, as text.
        scores: Metric of each job.
    """
    if len(scores) < MIN_JOBS or not settings or len(set(scores)) == 1:
        return None
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    columns = np.column_stack([encode(values) for values in settings.values()])
    targets = np.asarray(scores, dtype=np.float64)
    forest = RandomForestRegressor(n_estimators=100, oob_score=True, random_state=0, n_jobs=1).fit(columns, targets)
    shuffled = permutation_importance(forest, columns, targets, n_repeats=20, random_state=0, n_jobs=1)
    order = sorted(range(len(settings)), key=lambda index: -shuffled.importances_mean[index])
    names = list(settings)
    return Importances(
        {names[index]: float(shuffled.importances_mean[index]) for index in order},
        {names[index]: float(shuffled.importances_std[index]) for index in order},
        float(forest.oob_score_),
        len(scores),
    )


def encode(values: Sequence[str]) -> list[float]:
    """Texts as numbers: themselves where all are numbers, else their ranks in the order of the alphabet.

    >>> encode(["1e-3", "0.1"]), encode(["none", "light", "none"])
    ([0.001, 0.1], [1.0, 0.0, 1.0])
    """
    try:
        return [float(value) for value in values]
    except ValueError:
        ranks = {value: float(rank) for rank, value in enumerate(sorted(set(values)))}
        return [ranks[value] for value in values]
