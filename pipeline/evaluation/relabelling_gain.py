"""Measures what corrected labels brought: the audit's classifiers fitted before and after, on the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import label_audit
from pipeline.evaluation.label_audit import View
from pipeline.metrics.paired import PairedShares, paired_shares


@dataclass(frozen=True)
class Gain:
    """Out-of-fold predictions before and after a correction of labels, both judged by the corrected labels.

    Attributes:
        corrected: Number of images with another label than before.
        measured_before: Accuracy before, judged by the labels of before: what was shown until now.
        all: The comparison on all images.
        untouched: That on the images whose label is as before, which did not choose the corrections; None where all changed.
    """

    corrected: int
    measured_before: float
    all: PairedShares
    untouched: PairedShares | None


def gain(
    views: Sequence[View], before: NDArray[np.int64], after: NDArray[np.int64], groups: NDArray[np.int64], seed: int
) -> tuple[Gain, str]:
    """Compare labels before and after, and name the classifier that was used.

    Both are judged by the corrected labels on the same folds, by exact McNemar's test and Tango's interval. The view is the one
    that predicts the labels of before best, as an audit would choose it.

    Args:
        views: Ways to see the images.
        before: Labels before; int64 of shape (n,).
        after: Labels after.
        groups: Group of each image.
        seed: Seed of the folds.

    Raises:
        ValueError: A class has fewer images than there are folds.
    """
    first = label_audit.audit(views, before, groups, seed)
    splits = label_audit.folds(first.positions, groups, seed)
    classes, positions = np.unique(after, return_inverse=True)
    chosen = [view for view in views if view.name in first.views]
    second = np.mean([label_audit.out_of_fold(view, positions, splits, len(classes)) for view in chosen], axis=0)
    said_before, said_after = first.classes[first.probabilities.argmax(axis=1)], classes[second.argmax(axis=1)]
    right_before, right_after, same = said_before == after, said_after == after, before == after
    return Gain(
        corrected=int((~same).sum()), measured_before=float((said_before == before).mean()),
        all=paired_shares(right_after, right_before),
        untouched=paired_shares(right_after[same], right_before[same]) if same.any() else None,
    ), " and ".join(first.views)  # fmt: skip


def sentence(shares: PairedShares, what: str) -> str:
    """The difference in accuracy with its interval.

    >>> sentence(paired_shares(np.ones(9, bool), np.zeros(9, bool)), "all images")
    'on all images (9) accuracy +1.000 [+0.402, +1.000], 9 gained and 0 lost, McNemar p 0.0039: better'
    """
    clear = ("better" if shares.difference > 0 else "worse") if shares.is_clear else "no clear difference"
    return (
        f"on {what} ({shares.n:,}) accuracy {shares.difference:+.3f} [{shares.low:+.3f}, {shares.high:+.3f}], "
        f"{shares.gained:,} gained and {shares.lost:,} lost, McNemar p {shares.p:.2g}: {clear}"
    )
