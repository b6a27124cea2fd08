"""Finds labels that look wrong by confident learning on out-of-fold predictions of a logistic regression."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5

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
        view: Name of the view whose predictions they are.
        accuracies: Share of the labels that the predictions of each view agree with, by its name.
        classes: The labels that occur, rising; of shape (k,).
        positions: Index of each image's label in `classes`; of shape (n,).
        probabilities: float64 of shape (n, k), each row of a classifier that was not fitted on that image or its group.
    """

    view: str
    accuracies: dict[str, float]
    classes: Labels
    positions: Labels
    probabilities: NDArray[np.float64]

    def method(self) -> str:
        """How the labels were judged, and how well that predicts them."""
        others = [f"{name} {share:.3f}" for name, share in self.accuracies.items() if name != self.view]
        return (
            f"a logistic regression on {self.view}, which predicts {self.accuracies[self.view]:.3f} of the labels of images "
            "that it was not fitted on" + (f" ({', '.join(others)})" if others else "")
        )


@dataclass(frozen=True)
class Suspects:
    """Images whose labels look wrong, the most promising first.

    Attributes:
        images: Indices of the images; int64 of shape (m,).
        labels: Their labels; int64 of shape (m,).
        predicted: Classes that they look like; int64 of shape (m,).
        confidence: Probabilities of these classes; float64 of shape (m,).
        margin: These less the probabilities of the labels.
    """

    images: Labels
    labels: Labels
    predicted: Labels
    confidence: NDArray[np.float64]
    margin: NDArray[np.float64]

    def headline(self, num_images: int) -> str:
        """The number of labels that look wrong among all.

        >>> nothing = np.zeros(0, dtype=np.int64)
        >>> Suspects(nothing, nothing, nothing, nothing * 1.0, nothing * 1.0).headline(1200)
        '0 of 1,200 labels look wrong (0.0%)'
        """
        return f"{len(self.images):,} of {num_images:,} labels look wrong ({len(self.images) / num_images:.1%})"


def audit(views: Sequence[View], labels: Labels, groups: NDArray[Any] | None = None, seed: int = 0) -> Audit:
    """Predict each image by classifiers that were fitted without it, in the view whose predictions agree best with the labels.

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
    accuracies = {name: float((found.argmax(axis=1) == positions).mean()) for name, found in predictions.items()}
    best = max(accuracies, key=accuracies.__getitem__)
    return Audit(best, accuracies, classes, positions.astype(np.int64), predictions[best])


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


def suspects(found: Audit) -> Suspects:
    """Confident learning (Northcutt, Jiang and Chuang 2021, https://doi.org/10.1613/jair.1.12125).

    A label looks wrong where the classifier is surer of another class than it is on average for the images of that class.
    """
    probabilities, positions = found.probabilities, found.positions
    usual = np.array([probabilities[positions == each, each].mean() for each in range(len(found.classes))])
    sure = np.where(probabilities >= usual, probabilities, -1.0)
    looks_like = sure.argmax(axis=1)
    wrong = np.flatnonzero((sure.max(axis=1) > 0) & (looks_like != positions))
    margin = probabilities[wrong, looks_like[wrong]] - probabilities[wrong, positions[wrong]]
    order = np.argsort(-margin, kind="stable")
    images = wrong[order]
    return Suspects(
        images, found.classes[positions[images]], found.classes[looks_like[images]], probabilities[images, looks_like[images]],
        margin[order],
    )  # fmt: skip
