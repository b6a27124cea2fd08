"""Turns a network's outputs into decisions: probabilities, the class, the set of classes, and whether an image is unknown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.outputs import NetworkOutputs
from pipeline.artefacts.package import OperatingPoint, ThresholdsRecord
from pipeline.config.section import nearest
from pipeline.errors import ConfigError
from pipeline.metrics import conformal, outliers
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.outliers import Clusters
from pipeline.views import VIEWS


@dataclass(frozen=True)
class Decisions:
    """The decisions for n images.

    Attributes:
        probabilities: Calibrated probabilities, float32 of shape (n, classes).
        labels: Index of the class that is named, of shape (n,).
        sets: Whether each class is in the set of each image, of shape (n, classes); None where there are no sets.
        unknown: Whether each image is unlike those that the network knows, of shape (n,); None where nothing tells.
        features: Last features of the network, float32 of shape (n, features).
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    sets: NDArray[np.bool_] | None
    unknown: NDArray[np.bool_] | None
    features: NDArray[np.floating]


@dataclass(frozen=True)
class Wishes:
    """What the caller asks for in place of what the package says.

    Attributes:
        tta: Views of each image to average over: `none`, `flip` or `flip_shift`; None: those of the evaluation, for which the
            probabilities are calibrated.
        least: Probability below which an image is unknown; None: only the package's outlier score tells.
        point: Name of a class, and the probability from which it is named, even where another one is more probable; None: the
            package's operating point, if it has one.
    """

    tta: str | None = None
    least: float | None = None
    point: tuple[str, float] | None = None

    def check(self, classes: Sequence[str]) -> None:
        """Refuse what cannot be had.

        Raises:
            ConfigError: There are no such views, no such class, or a probability is outside of [0, 1].
        """
        if self.tta is not None and self.tta not in VIEWS:
            raise ConfigError(f"tta must be one of {', '.join(VIEWS)}; got {self.tta!r}.")
        for value in (self.least, self.point and self.point[1]):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"threshold must be a probability from 0 to 1; got {value:g}.")
        if self.point is not None and self.point[0] not in classes:
            raise ConfigError(
                f"threshold must name a class of the model, such as {classes[0]!r}; got {self.point[0]!r}."
                f"{nearest(self.point[0], classes)}"
            )


def decide(
    logits: NDArray[np.floating], features: NDArray[np.floating], log_probabilities: NDArray[np.floating],
    thresholds: ThresholdsRecord, clusters: Clusters | None, classes: list[str],
    wishes: Wishes = Wishes(),
) -> Decisions:  # fmt: skip
    """The decisions for n images.

    Args:
        logits: Outputs of the network for the images themselves, of shape (n, classes).
        features: Its last features for them, of shape (n, features).
        log_probabilities: Logarithms of its mean probabilities over the views of each image, of shape (n, classes).
        thresholds: What turns these into decisions.
        clusters: Clusters of the training images' features.
        classes: Names of the classes.
        wishes: What the caller asks for.
    """
    probabilities = calibrated(log_probabilities, thresholds.calibration.temperature)
    sets = unknown = None
    if thresholds.set_thresholds:
        sets = conformal.sets(probabilities, np.array(thresholds.set_thresholds, np.float32))
    if thresholds.outlier_score is not None and thresholds.outlier_threshold is not None:
        scores = outlier_scores(thresholds.outlier_score, logits, features, clusters)
        unknown = scores > thresholds.outlier_threshold
    labels = named(probabilities, wishes.point or limit_of(thresholds.operating_point), classes)
    if wishes.least is not None:
        is_unsure = probabilities[np.arange(len(labels)), labels] < np.float32(wishes.least)
        unknown = is_unsure if unknown is None else unknown | is_unsure
    return Decisions(probabilities, labels, sets, unknown, features)


def outlier_scores(
    kind: str, logits: NDArray[np.floating], features: NDArray[np.floating], clusters: Clusters | None
) -> NDArray[np.float64]:
    """How far each image is from those that the network knows, of shape (n,); `kind` is `energy` or `distance`."""
    if kind == "energy" or clusters is None:
        return outliers.energy(logits)
    return outliers.distance(features, clusters)


def answers_of(outputs: NetworkOutputs, thresholds: ThresholdsRecord, classes: list[str]) -> NDArray[np.int64]:
    """The class that is named for each image of a split."""
    probabilities = calibrated(outputs.log_probabilities, thresholds.calibration.temperature)
    return named(probabilities, limit_of(thresholds.operating_point), classes)


def limit_of(point: OperatingPoint | None) -> tuple[str, float] | None:
    """The class of an operating point and its threshold."""
    return None if point is None else (point.label, point.threshold)


def named(
    probabilities: NDArray[np.floating], point: tuple[str, float] | None, classes: list[str]
) -> NDArray[np.int64]:
    """The class of each image: the most probable one, or that of the operating point where its threshold is reached, and
    the most probable of the others where it is not. The point is the name of a class and its threshold."""
    if point is None:
        most_probable: NDArray[np.int64] = probabilities.argmax(axis=1)
        return most_probable
    column = classes.index(point[0])
    others = np.array(probabilities)
    others[:, column] = -1
    result: NDArray[np.int64] = np.where(
        probabilities[:, column] >= np.float32(point[1]), column, others.argmax(axis=1)
    )
    return result
