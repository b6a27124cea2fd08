"""Estimates the share of wrong labels from out-of-fold predictions of a logistic regression."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.diagnosis import LabelNoiseRecord
from pipeline.artefacts.run import RunRecord
from pipeline.config import validation
from pipeline.evaluation.edges import edges
from pipeline.evaluation.label_audit import FOLDS, STRENGTH, Audit, View, audit
from pipeline.evaluation.probe import MOST_PROBED, probe, regression
from pipeline.evaluation.reference import evenly, pixels
from pipeline.stage import lineage
from pipeline.storage.arrays import read_array

SPLITS = ("train", "val")

SUREST = 0.75
"""Share of the images, the surest ones, over which the estimate is extrapolated."""

FEWEST = 100
"""Smallest number of images from which anything is estimated."""


def label_noise(training: Path, prepared: Path) -> LabelNoiseRecord | None:
    """The share of wrong labels in training and validation; computed once for the data, and for the weights of a start.

    Images of one group are not kept together here, as an audit keeps them: that hides wrong labels, and invents none.

    Args:
        training: Output of the train stage; where it began from weights, their features are looked at too.
        prepared: Output of the prepare stage that the training used.

    Returns:
        The estimate; None with fewer than `FEWEST` images in classes of `FOLDS` or more, or with a single such class.
    """
    run = RunRecord.read(training)
    started = "" if run.weights_fingerprint is None else f"-{run.weights_fingerprint}"
    folder = lineage.CACHE / f"label-noise-{lineage.content('prepare', prepared)}{started}"
    if not (folder / LabelNoiseRecord.FILE).exists():
        views, labels = _views(prepared, run)
        found = measured(views, labels)
        if found is None:
            return None
        found.write(folder)
    return LabelNoiseRecord.read(folder)


def measured(views: Sequence[View], labels: NDArray[np.int64]) -> LabelNoiseRecord | None:
    """The estimate from views of images, as `label_noise` returns it."""
    classes, counts = np.unique(labels, return_counts=True)
    rows = np.flatnonzero(np.isin(labels, classes[counts >= FOLDS]))
    if len(rows) < FEWEST or len(np.unique(labels[rows])) < 2:
        return None
    found = audit([View(view.name, view.rows[rows], view.classifier) for view in views], labels[rows])
    share, low, high = wrong_at_random(found)
    majority = float(np.bincount(found.positions).max() / len(rows))
    return LabelNoiseRecord(
        share=share, low=low, high=high, accuracy=found.accuracy, majority=majority, num_images=len(rows),
        views=list(found.views),
    )  # fmt: skip


def wrong_at_random(found: Audit) -> tuple[float, float, float]:
    """The share of labels that were replaced by another one at random, with its 95 % interval.

    A random label is among the less likely half of the classes as often as chance has it, while classes that look alike are
    taken for each other within the likelier half. Of k classes that gives the share for any set of images, as long as the
    predictions are right; they become so towards the surest ones. So a straight line is fitted through the `SUREST` images
    in the order of their highest probability, and its beginning is the estimate, with the standard error of White 1980
    (https://doi.org/10.2307/1912934).
    """
    num_classes = len(found.classes)
    least_likely = max(1, num_classes // 2)
    own = found.probabilities[np.arange(len(found.positions)), found.positions]
    ranks = (found.probabilities > own[:, None]).sum(axis=1)
    surest = np.argsort(-found.probabilities.max(axis=1), kind="stable")[: max(2, int(SUREST * len(ranks)))]
    disagrees = (ranks[surest] >= num_classes - least_likely) * (num_classes - 1) / least_likely
    line = np.column_stack([np.ones(len(surest)), np.linspace(0, 1, len(surest))])
    inverse = np.linalg.inv(line.T @ line)
    coefficients = inverse @ line.T @ disagrees
    residuals = disagrees - line @ coefficients
    variance = inverse @ ((line * residuals[:, None] ** 2).T @ line) @ inverse
    share, half = float(coefficients[0]), 1.96 * float(np.sqrt(variance[0, 0]))
    return max(0.0, share), max(0.0, share - half), min(1.0, max(0.0, share + half))


def _views(prepared: Path, run: RunRecord) -> tuple[list[View], NDArray[np.int64]]:
    """Pixels, edges and, of weights, features of at most `MOST_PROBED` images of each split; and the labels."""
    labels = [read_array(prepared / split / "labels.npy", mapped=False) for split in SPLITS]
    chosen = {split: evenly(len(each), MOST_PROBED) for split, each in zip(SPLITS, labels, strict=True)}
    views = [
        View("the pixels", np.concatenate([pixels(prepared / split, MOST_PROBED)[0] for split in SPLITS]), regression),
        View("the edges", np.concatenate([edges(prepared / split, chosen[split]) for split in SPLITS]), regression),
    ]
    if run.weights_fingerprint is not None:
        features = probe(validation.validate(run.config), SPLITS, prepared=prepared, most=MOST_PROBED).features
        views.append(View("the features of the weights it began from", features, partial(regression, STRENGTH)))
    return views, np.concatenate([each[chosen[split]] for split, each in zip(SPLITS, labels, strict=True)])
