"""Finds labels that look wrong by confident learning on out-of-fold predictions of a logistic regression."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5

STRENGTH = 0.003
"""C of the logistic regression on features, weaker than a probe's: with 0.01 it learns some of the wrong labels by heart."""

EVEN, UNEVEN, UNKNOWN = 0.9, 0.3, 0.75
"""Share of equal rates among those with which labels are taken to be flipped, by how evenly the counts are spread; chosen, like
the two limits below, on the sets of `benchmarks/labels/`."""

EVENNESS = (0.1, 0.3)
"""Quartile of the rates, as a share of their mean, up to which they count as uneven, and from which as even: nearly all pairs
of classes occur."""

FEW = 2.0
"""Mean number of images counted for a pair of classes below which the spread tells nothing."""

ODDS = 10.0
"""How much more probable than its label a class must be for an image to be suspected, whatever the counts say."""

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """One way to see the images: a row of numbers for each, and a function that makes a classifier for such rows."""

    name: str
    rows: Floats
    classifier: Callable[[], Any]


@dataclass(frozen=True)
class Audit:
    """The labels of n images beside their out-of-fold predictions.

    Attributes:
        views: Names of the views whose mean prediction they are: one, or two.
        accuracies: Share of the labels that the predictions of each view agree with, by its name.
        accuracy: That of the predictions.
        classes: The labels that occur, rising; of shape (k,).
        positions: Index of each image's label in `classes`; of shape (n,).
        probabilities: float64 of shape (n, k), each row of a classifier that was not fitted on that image or its group.
    """

    views: tuple[str, ...]
    accuracies: dict[str, float]
    accuracy: float
    classes: Labels
    positions: Labels
    probabilities: NDArray[np.float64]

    def method(self) -> str:
        """How the labels were judged, and how well that predicts them."""
        each = [f"{name} {share:.3f}" for name, share in self.accuracies.items() if len(self.accuracies) > 1]
        kind = "a logistic regression on" if len(self.views) == 1 else "the mean of logistic regressions on"
        return (
            f"{kind} {' and '.join(self.views)}, which predicts {self.accuracy:.3f} of the labels of images that it was not "
            "fitted on" + (f" ({', '.join(each)})" if each else "")
        )


@dataclass(frozen=True)
class Suspects:
    """Images whose labels look wrong, the surest first: correcting these gains the most.

    Attributes:
        images: Indices of the images; int64 of shape (m,).
        labels: Their labels; int64 of shape (m,).
        likely: Classes that they look like; int64 of shape (m,).
        confidence: Probabilities that the labels are wrong; float64 of shape (m,).
        probability: The classifier's probabilities of the likely classes.
    """

    images: Labels
    labels: Labels
    likely: Labels
    confidence: NDArray[np.float64]
    probability: NDArray[np.float64]

    def headline(self, num_images: int) -> str:
        """The number of labels that look wrong among all.

        >>> nothing = np.zeros(0, dtype=np.int64)
        >>> Suspects(nothing, nothing, nothing, nothing * 1.0, nothing * 1.0).headline(1200)
        '0 of 1,200 labels look wrong (0.0%)'
        """
        return f"{len(self.images):,} of {num_images:,} labels look wrong ({len(self.images) / num_images:.1%})"


def audit(views: Sequence[View], labels: Labels, groups: NDArray[Any] | None = None, seed: int = 0) -> Audit:
    """Predict each image by classifiers that were fitted without it, in the view that predicts the labels best.

    The mean of the two best views is taken where it predicts them better still.

    Args:
        views: Ways to see the images, the rows of each in the order of the labels.
        labels: int64 of shape (n,).
        groups: For each image, the name of its group, whose images are never on both sides of a split; None: no groups.
        seed: Seed of the folds.

    Raises:
        ValueError: A class has fewer images than there are folds.
    """
    classes, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < FOLDS:
        raise ValueError(f"each class must have {FOLDS} images or more to be audited; one has {counts.min()}")
    splits = folds(positions, groups, seed)
    predictions = {view.name: out_of_fold(view, positions, splits, len(classes)) for view in views}

    def accuracy_of(names: tuple[str, ...]) -> float:
        return float((_mean(predictions, names).argmax(axis=1) == positions).mean())

    accuracies = {name: accuracy_of((name,)) for name in predictions}
    ranked = sorted(accuracies, key=lambda name: -accuracies[name])
    best = max([(ranked[0],), tuple(ranked[:2])], key=accuracy_of)
    return Audit(best, accuracies, accuracy_of(best), classes, positions.astype(np.int64), _mean(predictions, best))


def _mean(predictions: Mapping[str, NDArray[np.float64]], names: tuple[str, ...]) -> NDArray[np.float64]:
    return np.mean([predictions[name] for name in names], axis=0)


def folds(positions: Labels, groups: NDArray[Any] | None, seed: int) -> list[tuple[Labels, Labels]]:
    """Indices to fit on and to predict, for each fold; all folds have the classes in like shares."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if groups is None or len(np.unique(groups)) == len(groups):
        return list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(positions, positions))
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(positions, positions, groups))


def out_of_fold(
    view: View, positions: Labels, splits: Sequence[tuple[Labels, Labels]], num_classes: int
) -> NDArray[np.float64]:
    """Probabilities of the classes for each image, from the classifier that was not fitted on its fold."""
    from pipeline.evaluation.reference import stops_early

    found = np.zeros((len(positions), num_classes))
    for fitted, held_out in splits:
        with stops_early():
            model = view.classifier().fit(view.rows[fitted], positions[fitted])
        found[np.ix_(held_out, model.classes_)] = model.predict_proba(view.rows[held_out])
    return found


def suspects(found: Audit, most: int | None = None) -> Suspects:
    """Confident learning (Northcutt, Jiang and Chuang 2021, https://doi.org/10.1613/jair.1.12125), ranked by Bayes' rule.

    A label is confidently another class where the classifier is surer of that class than it is on average for the images of
    that class, and their counts estimate how many labels are wrong. So many images are suspected, the likeliest ones. The
    counts also tell how often one class is labelled as another, and with that Bayes' rule gives the probability that a
    label is wrong. The rates are shrunk towards equal ones, as some counts are the classifier's own mistakes: much where
    nearly all pairs of classes occur, as with slips of the hand, and little where a few do, as with classes that look alike.
    Where fewer are counted than have another class that is `ODDS` times as probable, as in small sets, these are suspected.

    Args:
        found: Predictions of the images.
        most: Number of images to rank; None: as many as are confidently another class.
    """
    probabilities, positions = found.probabilities, found.positions
    counts = confident_joint(probabilities, positions)
    posterior = probabilities * flip_rates(counts)[positions]
    posterior /= np.maximum(posterior.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    everything = np.arange(len(positions))
    wrong = 1 - posterior[everything, positions]
    others = np.where(np.eye(len(found.classes), dtype=bool)[positions], 0.0, probabilities).max(axis=1)
    improbable = int((others >= ODDS * probabilities[everything, positions]).sum())
    number = max(improbable, number_wrong(counts, positions)) if most is None else most
    images = np.argsort(-wrong, kind="stable")[:number]
    candidates = posterior[images]
    candidates[np.arange(len(images)), positions[images]] = -1.0
    likely = candidates.argmax(axis=1)
    return Suspects(
        images, found.classes[positions[images]], found.classes[likely], wrong[images], probabilities[images, likely]
    )  # fmt: skip


def confident_joint(probabilities: NDArray[np.float64], positions: Labels) -> NDArray[np.float64]:
    """Number of images by their label (row) and the class that they confidently are (column).

    >>> confident_joint(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]]), np.array([0, 0, 1])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    num_classes = probabilities.shape[1]
    usual = np.array([probabilities[positions == each, each].mean() for each in range(num_classes)])
    sure = np.where(probabilities >= usual, probabilities, -1.0)
    confident = sure.max(axis=1) >= 0
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (positions[confident], sure.argmax(axis=1)[confident]), 1)
    return counts


def number_wrong(counts: NDArray[np.float64], positions: Labels) -> int:
    """Estimated number of wrong labels: the counts, as if the images that are confidently no class were like the others.

    >>> number_wrong(np.array([[3.0, 1.0], [0.0, 4.0]]), np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]))
    2
    """
    sizes = np.bincount(positions, minlength=len(counts))
    scaled = counts * (sizes / np.maximum(counts.sum(axis=1), 1))[:, None]
    return round(float(scaled.sum() - np.trace(scaled)))


def flip_rates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of each label (row) for an image of each class (column), from the confident joint.

    >>> flip_rates(np.array([[9.0, 0.0], [1.0, 10.0]])).round(3).tolist()
    [[0.938, 0.038], [0.062, 0.962]]
    """
    num_classes = len(counts)
    rates = counts / np.maximum(counts.sum(axis=0), np.finfo(float).tiny)
    apart = ~np.eye(num_classes, dtype=bool)
    equal = max(rates[apart].mean(), 1 / (counts.sum() * num_classes)) if num_classes > 1 else 0.0
    share = shrinkage(counts, rates)
    others = np.where(apart, (1 - share) * rates + share * equal, 0.0)
    return others + np.diag(1 - others.sum(axis=0))


def shrinkage(counts: NDArray[np.float64], rates: NDArray[np.float64]) -> float:
    """Share of equal rates to take, from how evenly the rates of flips are spread over the pairs of classes."""
    apart = ~np.eye(len(counts), dtype=bool)
    if not apart.any() or counts[apart].mean() < FEW:
        return UNKNOWN
    evenness = np.quantile(rates[apart], 0.25) / max(rates[apart].mean(), np.finfo(float).tiny)
    return float(np.interp(evenness, EVENNESS, (UNEVEN, EVEN)))
