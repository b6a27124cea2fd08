"""Tests whether the size of an image or the name of its file tells its class, so that a model could learn that instead."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.intervals import mean_of_proportions

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeClassifier

Labels = NDArray[np.int64]

THRESHOLD = 0.8
"""Smallest share of the way from chance (0) to certainty (1) that makes a shortcut."""

_FOLDS = 3

SIZE_THRESHOLD = 0.5
"""That share for width and height, of the lower end of the 95 % interval: surely more than half of the way."""


def shortcuts(
    names: Sequence[str],
    labels: Labels,
    classes: Sequence[str],
    sizes: NDArray[np.generic],
    measurements: Mapping[str, NDArray[np.generic]],
) -> Iterator[str]:
    """Give a clause about each shortcut among n images.

    Args:
        names: Their paths.
        labels: int64 of shape (n,).
        classes: Names, in the order of the labels.
        sizes: Height and width, of shape (n, 2).
        measurements: Other numbers of each image, of shape (n,), by what they are.
    """
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < 2 or counts.min() < 3:
        return
    yield from _of_sizes(sizes.astype(np.float64), labels, counts)
    for measurement, values in measurements.items():
        if len(np.unique(values)) > 1 and (share := _share_by_number(values, labels, len(present))) >= THRESHOLD:
            yield f"{measurement} alone tells the class, {share:.0%} of the way from chance"
    prefixes = list(map(_prefix, names))
    share = _share_by_prefix(prefixes, labels, [classes[label].lower() for label in labels.tolist()], len(present))
    if share >= THRESHOLD:
        yield f"the first letters of the file's name tell the class, {share:.0%} of the way from chance"


def _share_by_number(values: NDArray[np.generic], labels: Labels, num_classes: int) -> float:
    """Cross-validated balanced accuracy of a small tree on one number, from 0 (chance) to 1 (certainty)."""
    from sklearn.model_selection import cross_val_score

    scores = cross_val_score(
        _small_tree(num_classes), values.reshape(-1, 1), labels, cv=_FOLDS, scoring="balanced_accuracy"
    )
    return float((scores.mean() - 1 / num_classes) / (1 - 1 / num_classes))


def _of_sizes(sizes: NDArray[np.float64], labels: Labels, counts: NDArray[np.int64]) -> Iterator[str]:
    """A clause where a small tree on height, width and their ratio surely tells the class; none where all sizes are equal."""
    from sklearn.model_selection import cross_val_predict

    if (sizes == sizes[0]).all():
        return
    chance = 1 / len(counts)
    features = np.column_stack([sizes, sizes[:, 0] / sizes[:, 1]])
    right = cross_val_predict(_small_tree(len(counts)), features, labels, cv=_FOLDS) == labels
    successes = [int(right[labels == label].sum()) for label in np.unique(labels)]
    low, high = mean_of_proportions(successes, counts.tolist())
    if low > chance + SIZE_THRESHOLD * (1 - chance):
        accuracy = float(np.mean(np.array(successes) / counts))
        yield (
            f"width and height alone tell the class: balanced accuracy {accuracy:.2f} ({low:.2f} to {high:.2f}), "
            f"by chance {chance:.2f}"
        )


def _small_tree(num_classes: int) -> "DecisionTreeClassifier":
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_leaf_nodes=2 * num_classes, min_samples_leaf=3, random_state=0)


def _prefix(name: str) -> str:
    """The letters before the first digit of a file's name.

    >>> _prefix("cats/IMG_0012.jpg"), _prefix("7/0012.png")
    ('img_', '')
    """
    match = re.match(r"\D*", PurePosixPath(name).stem)
    return match[0].lower() if match else ""


def _share_by_prefix(prefixes: Sequence[str], labels: Labels, classes: Sequence[str], num_classes: int) -> float:
    """Balanced accuracy of each prefix's commonest label; 0 where prefixes are many, or are the names of the classes."""
    pairs = zip(prefixes, classes, strict=True)
    num_named = sum(name in prefix or (prefix.strip("-_ ") or "?") in name for prefix, name in pairs)
    by_prefix = defaultdict(list)
    for prefix, label in zip(prefixes, labels.tolist(), strict=True):
        by_prefix[prefix].append(label)
    if len(by_prefix) < 2 or len(by_prefix) > len(labels) / 5 or num_named > len(labels) / 2:
        return 0.0
    commonest = {prefix: Counter(labels_of).most_common(1)[0][0] for prefix, labels_of in by_prefix.items()}
    correct = np.array([commonest[prefix] for prefix in prefixes]) == labels
    accuracy = float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))
    return (accuracy - 1 / num_classes) / (1 - 1 / num_classes)
