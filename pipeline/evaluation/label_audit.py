"""Finds labels that look wrong, by a method that knows nothing of our networks, for data that no training cures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.reference import MOST_TRAIN, evenly, pixels, quick_regression
from pipeline.storage.arrays import read_array

FOLDS = 5


@dataclass(frozen=True)
class Audit:
    """The result of a cross-validation of the labels of a split.

    Attributes:
        num_images: Number of images that were looked at.
        accuracy: Accuracy on images that the model was not fitted on.
        share: Share of the images whose label looks wrong.
        images: Indices in the split of those images, the surest first; int64 of shape (n,).
        labels: Their labels; int64 of shape (n,).
        predicted: Classes that they look like; int64 of shape (n,).
        confidence: Probabilities of these classes; float64 of shape (n,).
    """

    num_images: int
    accuracy: float
    share: float
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]


def audit(split: Path) -> Audit:
    """Confident learning (Northcutt, Jiang and Chuang 2021, https://doi.org/10.1613/jair.1.12125) on the pixels.

    A label looks wrong where a cross-validated logistic regression is surer of another class than it is on average for
    the images of that class.

    Args:
        split: A split's folder, as prepare leaves it.

    Raises:
        ValueError: A class has fewer images than there are folds.
    """
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = pixels(split, MOST_TRAIN)
    classes, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < FOLDS:
        raise ValueError(f"each class must have {FOLDS} images or more to be audited; one has {counts.min()}")
    with quick_regression() as regression:
        model = make_pipeline(StandardScaler(), regression)
        probabilities = cross_val_predict(model, rows, positions, cv=FOLDS, method="predict_proba")
    usual = np.array([probabilities[positions == each, each].mean() for each in range(len(classes))])
    sure = np.where(probabilities >= usual, probabilities, -1.0)
    looks_like = sure.argmax(axis=1)
    wrong = np.flatnonzero((sure.max(axis=1) > 0) & (looks_like != positions))
    margin = probabilities[wrong, looks_like[wrong]] - probabilities[wrong, positions[wrong]]
    order = wrong[np.argsort(-margin, kind="stable")]
    total = len(read_array(split / "labels.npy"))
    return Audit(
        num_images=len(labels), accuracy=float((probabilities.argmax(axis=1) == positions).mean()),
        share=len(wrong) / len(labels), images=evenly(total, MOST_TRAIN)[order], labels=labels[order],
        predicted=classes[looks_like[order]], confidence=probabilities[order, looks_like[order]],
    )  # fmt: skip
