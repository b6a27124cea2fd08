"""Turns a network's outputs into decisions: probabilities, the class, the set of classes, and whether an image is unknown."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.package import OperatingPoint, ThresholdsRecord
from pipeline.metrics import conformal, outliers
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.outliers import Clusters


@dataclass(frozen=True)
class Decisions:
    """The decisions for n images.

    Attributes:
        probabilities: Calibrated probabilities, float32 of shape (n, classes).
        labels: Index of the class that is named, of shape (n,).
        sets: Whether each class is in the set of each image, of shape (n, classes); None where there are no sets.
        unknown: Whether each image is unlike those that the network knows, of shape (n,); None where nothing tells.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    sets: NDArray[np.bool_] | None
    unknown: NDArray[np.bool_] | None


def decide(
    logits: NDArray[np.floating], features: NDArray[np.floating], log_probabilities: NDArray[np.floating],
    thresholds: ThresholdsRecord, clusters: Clusters | None, classes: list[str],
) -> Decisions:  # fmt: skip
    """The decisions for n images.

    Args:
        logits: Outputs of the network for the images themselves, of shape (n, classes).
        features: Its last features for them, of shape (n, features).
        log_probabilities: Logarithms of its mean probabilities over the views of each image, of shape (n, classes).
        thresholds: What turns these into decisions.
        clusters: Clusters of the training images' features.
        classes: Names of the classes.
    """
    probabilities = calibrated(log_probabilities, thresholds.calibration.temperature)
    sets = unknown = None
    if thresholds.set_thresholds:
        sets = conformal.sets(probabilities, np.array(thresholds.set_thresholds, np.float32))
    if thresholds.outlier_score is not None and thresholds.outlier_threshold is not None:
        scores = outlier_scores(thresholds.outlier_score, logits, features, clusters)
        unknown = scores > thresholds.outlier_threshold
    return Decisions(probabilities, named(probabilities, thresholds.operating_point, classes), sets, unknown)


def outlier_scores(
    kind: str, logits: NDArray[np.floating], features: NDArray[np.floating], clusters: Clusters | None
) -> NDArray[np.float64]:
    """How far each image is from those that the network knows, of shape (n,); `kind` is `energy` or `distance`."""
    if kind == "energy" or clusters is None:
        return outliers.energy(logits)
    return outliers.distance(features, clusters)


def named(probabilities: NDArray[np.floating], point: OperatingPoint | None, classes: list[str]) -> NDArray[np.int64]:
    """The class of each image: the most probable one, or that of the operating point where its threshold is reached, and
    the most probable of the others where it is not."""
    if point is None:
        most_probable: NDArray[np.int64] = probabilities.argmax(axis=1)
        return most_probable
    column = classes.index(point.label)
    others = np.array(probabilities)
    others[:, column] = -1
    result: NDArray[np.int64] = np.where(
        probabilities[:, column] >= np.float32(point.threshold), column, others.argmax(axis=1)
    )
    return result
