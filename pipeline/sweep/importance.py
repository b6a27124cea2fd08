"""Which of the varied keys moved the result of a sweep, as far as its jobs can tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_JOBS = 8
"""Fewer jobs say nothing that a forest could learn and be tested on."""


@dataclass(frozen=True)
class Importances:
    """What shuffling each key costs a forest that predicts the metric (permutation importance, Breiman 2001).

    Attributes:
        means: For each key, by how much shuffling its values lowers R², the most important first.
        spreads: The standard deviation of each over the repetitions.
        explained: R² of the forest on jobs that its trees have not seen; at or below 0 it has learned nothing.
        num_jobs: Jobs that it was fitted to.
    """

    means: dict[str, float]
    spreads: dict[str, float]
    explained: float
    num_jobs: int


def measure(settings: Mapping[str, Sequence[str]], scores: Sequence[float]) -> Importances | None:
    """Fit the forest and shuffle each key; None with fewer than `MIN_JOBS` jobs or nothing that varies.

    Args:
        settings: The values of each varied key, one for each job, as text.
        scores: The metric of each job.
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
    """Texts as numbers: themselves where all are numbers, else their places in the order of the alphabet.

    >>> encode(["1e-3", "0.1"]), encode(["none", "light", "none"])
    ([0.001, 0.1], [1.0, 0.0, 1.0])
    """
    try:
        return [float(value) for value in values]
    except ValueError:
        places = {value: float(place) for place, value in enumerate(sorted(set(values)))}
        return [places[value] for value in values]
