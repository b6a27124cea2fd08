"""Which image goes into which split: pure functions of the labels and a seed."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config.errors import ConfigError, DataError
from pipeline.data.seeds import derive_seed

Indices = NDArray[np.int64]


def split_counts(num_images: int, *, val: float, confirm: float, test: float) -> dict[str, int]:
    """How many of a class's images each split gets.

    `test` is a fraction of all of them, `val` and `confirm` are fractions of what the test split leaves. Each is
    rounded down, but a split with a fraction above 0 gets at least one image; the rest is `train`, and is below 1
    where there are too few.

    >>> split_counts(178, val=0.1, confirm=0.1, test=0.15)
    {'test': 26, 'confirm': 15, 'val': 15, 'train': 122}
    >>> split_counts(6000, val=0.1, confirm=0.1, test=0)
    {'test': 0, 'confirm': 600, 'val': 600, 'train': 4800}
    """
    counts = {"test": _share(num_images, test)}
    rest = num_images - counts["test"]
    counts |= {"confirm": _share(rest, confirm), "val": _share(rest, val)}
    return counts | {"train": num_images - sum(counts.values())}


def stratified_split(
    labels: NDArray[np.int64], classes: Sequence[str], *, val: float, confirm: float, test: float, seed: int
) -> dict[str, Indices]:
    """Share the images out, class by class and at random, into `train`, `val`, `confirm` and `test`.

    Every image is in exactly one split, every class in every split whose fraction is above 0. Changing `val` leaves
    `test` and `confirm` as they are.

    Args:
        labels: Of shape (n,), in [0, number of classes).
        classes: Their names, for messages.
        val: Fraction of what the test split leaves.
        confirm: Fraction of what the test split leaves.
        test: Fraction of all images.
        seed: Of the whole preparation; the split has a stream of its own.

    Returns:
        Positions in `labels`, rising, by split.

    Raises:
        ConfigError: The fractions leave nothing to train on.
        DataError: A class has too few images.
    """
    if val + confirm >= 1:
        raise ConfigError(
            f"prepare.val_fraction + prepare.confirm_fraction must be < 1; got {val} + {confirm}. "
            f"Lower one of them, so that images to train on are left."
        )
    generator = np.random.default_rng(derive_seed(seed, "split"))
    chosen: dict[str, list[Indices]] = {"train": [], "val": [], "confirm": [], "test": []}
    for label, name in enumerate(classes):
        members = generator.permutation(np.flatnonzero(labels == label))
        counts = split_counts(len(members), val=val, confirm=confirm, test=test)
        if counts["train"] < 1:
            raise DataError(
                f"each class must have at least {_smallest_number(val, confirm, test)} images, so that every split "
                f"gets some; {name!r} has {len(members)}. Add images, or lower prepare.val_fraction, "
                f"prepare.confirm_fraction or prepare.test_fraction."
            )
        begin = 0
        for split, num_members in counts.items():
            chosen[split].append(members[begin : begin + num_members])
            begin += num_members
    return {split: np.sort(np.concatenate(parts)) for split, parts in chosen.items()}


def limited(labels: NDArray[np.int64], classes: Sequence[str], limit: int | None, seed: int) -> Indices:
    """At most `limit` images, each class in proportion to its size and with one image at least.

    The images of a smaller limit are among those of a larger one, so that a curve over `limit` adds images and never
    exchanges them.

    Args:
        labels: Of shape (n,).
        classes: Their names.
        limit: None keeps all.
        seed: Of the whole preparation.

    Returns:
        Positions in `labels`, rising.

    Raises:
        ConfigError: `limit` leaves a class without an image.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    if limit < len(classes):
        raise ConfigError(
            f"prepare.limit must be >= {len(classes)}, one image for each class; got {limit}. "
            f"Raise it, or set it to null."
        )
    generator = np.random.default_rng(derive_seed(seed, "limit"))
    turn = np.empty(len(labels))  # in [0, 1): when an image has its turn; evenly spaced within each class
    for label in range(len(classes)):
        members = generator.permutation(np.flatnonzero(labels == label))
        turn[members] = np.arange(len(members)) / max(1, len(members))
    return np.sort(np.lexsort((labels, turn))[:limit])


def _share(num_images: int, fraction: float) -> int:
    """`fraction` of `num_images`, rounded down (the 1e-9 keeps 0.29 × 100 at 29), but 1 at least."""
    return max(1, math.floor(num_images * fraction + 1e-9)) if fraction > 0 else 0


def _smallest_number(val: float, confirm: float, test: float) -> int:
    """How many images a class needs. The search ends: it is at most a few times 1 / (what is left to train on)."""
    num_images = 1
    while split_counts(num_images, val=val, confirm=confirm, test=test)["train"] < 1:
        num_images += 1
    return num_images


def with_noise(labels: NDArray[np.int64], num_classes: int, share: float, seed: int) -> NDArray[np.int64]:
    """The labels, a share of them drawn anew from all classes alike; a drawn one may be the old one.

    Args:
        labels: Shape (n,).
        num_classes: From which to draw.
        share: In [0, 1]; 1 leaves nothing that images and labels have in common.
        seed: Of the draw. The labels that a smaller share changes are among those of a larger one.

    Returns:
        int64 of shape (n,).

    >>> with_noise(np.zeros(6, dtype=np.int64), 4, 1.0, seed=0).tolist()
    [2, 3, 3, 3, 2, 3]
    """
    generator = np.random.default_rng(derive_seed(seed, "random labels"))
    drawn, chances = generator.integers(0, num_classes, len(labels)), generator.random(len(labels))
    return np.where(chances < share, drawn, labels)
