"""Tests whether the size of an image or the name of its file tells its class, so that a model could learn that instead."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]

THRESHOLD = 0.8
"""Smallest share of the way from chance (0) to certainty (1) that makes a shortcut."""


def shortcuts(
    names: Sequence[str], labels: Labels, classes: Sequence[str], measurements: Mapping[str, NDArray[np.generic]]
) -> Iterator[str]:
    """Give a clause about each shortcut among the paths of n images and their measurements, arrays of shape (n,)."""
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < 2 or counts.min() < 3:
        return
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
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=2 * num_classes, min_samples_leaf=3, random_state=0)
    scores = cross_val_score(tree, values.reshape(-1, 1), labels, cv=3, scoring="balanced_accuracy")
    return float((scores.mean() - 1 / num_classes) / (1 - 1 / num_classes))


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
