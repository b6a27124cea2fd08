"""Assigns images to splits, from their content and a seed alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.seeds import derive_seed

Indices = NDArray[np.int64]

LARGE_GROUP = 0.02
"""Share of a class's images. Where a group is larger, drawing groups one by one would miss the share of a split by as much."""


@dataclass(frozen=True)
class Fractions:
    """Fractions of the images for each split: `test` of all, the others of those outside the test split."""

    test: float
    confirm: float
    val: float


def assign(
    labels: NDArray[np.int64],
    keys: NDArray[np.bytes_],
    given: NDArray[np.str_],
    classes: Sequence[str],
    fractions: Fractions,
    seed: int,
    folds: int | None = None,
    fold: int = 0,
    repeat: int = 0,
) -> NDArray[np.str_]:
    """Assign each image to a split: `train`, `val`, `confirm` or `test`.

    A number in [0, 1) that is drawn from an image's key alone decides. So images with the same key stay together, new images
    move no old one, and neither labels nor other images matter; only a class that a split would lack gets the image with
    the nearest number there. The share of a split is therefore near its fraction, not equal to it. Where a group holds more
    than 2 % of a class, that class's groups are taken in the order of their numbers until its fraction is reached, without
    those that would exceed it by 2 points: new images may then move old groups.
    Changing `val` leaves `test` and `confirm` as they are, changing `confirm` leaves `test`.

    Args:
        labels: int64 of shape (n,), in [0, number of classes).
        keys: Key of each image, of shape (n,); equal where images belong together.
        given: Split that the source gives each image; an empty text counts as `train`. A split that the source gives to any
            image gets no others.
        classes: Names of the classes, for messages.
        fractions: Fractions for the splits that the source does not give.
        seed: Seed of the whole preparation; each split has a stream of its own.
        folds: Number of folds, each with all classes evenly, that the images outside the test split are divided into; one
            of them is `val`. None: no folds.
        fold: Number of the fold that is `val`, from 0.
        repeat: Number of the repeat of the cross-validation, from 0: each divides the same images into other folds.

    Returns:
        Names of splits, of shape (n,).

    Raises:
        DataError: A class has too few images, or none to train on.
    """
    splits = np.where(np.isin(given, ["val", "test"]), given, "train").astype("<U7")
    wanted = {
        "test": 0.0 if (given == "test").any() else fractions.test,
        "confirm": fractions.confirm,
        "val": 0.0 if folds or (given == "val").any() else fractions.val,
    }
    groups = _Groups.of(labels, keys, splits == "train", len(classes))
    _check_classes(labels, splits, classes)
    needed = 1 + sum(fraction > 0 for fraction in wanted.values()) + (folds - 1 if folds else 0)
    _check_sizes(groups, classes, needed, folds)
    chosen = np.full(len(groups.keys), "train", dtype="<U7")
    _draw(groups, chosen, "test", wanted["test"], needed - 1, seed)
    if folds:
        chosen[_folds(groups, chosen == "train", folds, seed, repeat) == fold] = "val"
    _draw(groups, chosen, "confirm", fractions.confirm, 1 + (wanted["val"] > 0), seed)
    # a fraction of all images outside the test split, drawn from those that `confirm` leaves
    _draw(groups, chosen, "val", wanted["val"] / (1 - fractions.confirm), 1, seed)
    splits[splits == "train"] = chosen[groups.number]
    _check_shares(labels, splits, classes)
    return splits


@dataclass(frozen=True)
class _Groups:
    """Groups of images, each with one key."""

    keys: NDArray[np.bytes_]
    label: NDArray[np.int64]
    """Commonest label of each group; the smallest of several."""
    size: NDArray[np.int64]
    """Number of images of each group."""
    number: NDArray[np.int64]
    """Number of each image's group."""
    members: list[Indices]
    """For each class, the groups with an image of it."""
    counts: list[Indices]
    """For each class, the number of its images in each of `members`."""

    @classmethod
    def of(
        cls, labels: NDArray[np.int64], keys: NDArray[np.bytes_], free: NDArray[np.bool_], num_classes: int
    ) -> "_Groups":
        names, number, size = np.unique(keys[free], return_inverse=True, return_counts=True)
        pairs, counts = np.unique(np.stack([number, labels[free]]), axis=1, return_counts=True)
        order = np.lexsort((-pairs[1], counts))  # the last entry of a group is its commonest label
        label = np.zeros(len(names), dtype=np.int64)
        label[pairs[0][order]] = pairs[1][order]
        by_class = np.argsort(pairs[1], kind="stable")
        ends = np.searchsorted(pairs[1][by_class], np.arange(1, num_classes))
        members = np.split(pairs[0][by_class], ends)
        return cls(names, label, size, number, members, np.split(counts[by_class], ends))


def _check_classes(labels: NDArray[np.int64], splits: NDArray[np.str_], classes: Sequence[str]) -> None:
    trained = set(labels[splits == "train"].tolist())
    for split in ("val", "test"):
        lacking = sorted(set(labels[splits == split].tolist()) - trained)
        if lacking:
            raise DataError(
                f"each class must have images to train on; {classes[lacking[0]]!r} has some in {split} only. Add images of it "
                f"to the training split, or take it out of {split}."
            )
    for label, name in enumerate(classes):
        if label not in trained:
            raise DataError(
                f"each class must have images; {name!r} has none. Add some, or leave it out of data.classes."
            )


def _check_sizes(groups: _Groups, classes: Sequence[str], needed: int, folds: int | None) -> None:
    counts = np.array([len(members) for members in groups.members])
    label = int(counts.argmin())
    if counts[label] < needed:
        way_out = (
            "or cross-validate: prepare.test_fraction=0 prepare.confirm_fraction=0 prepare.folds=2 prepare.fold=0,1 -m"
        )
        if folds:
            way_out = f"lower prepare.folds={folds}"
        raise DataError(
            f"each class must have at least {needed} images that do not belong together, so that every split gets one; "
            f"{classes[label]!r} has {counts[label]}. Add images, lower a fraction of prepare to 0, {way_out}."
        )


def _check_shares(labels: NDArray[np.int64], splits: NDArray[np.str_], classes: Sequence[str]) -> None:
    trained = set(labels[splits == "train"].tolist())
    lacking = [name for label, name in enumerate(classes) if label not in trained]
    if lacking:
        raise DataError(
            f"each class must have images to train on; all of {lacking[0]!r} went to other splits with the groups that they "
            "are in. Take another prepare.seed, smaller groups, or smaller fractions."
        )


def _draw(groups: _Groups, chosen: NDArray[np.str_], split: str, fraction: float, keep: int, seed: int) -> None:
    """Move groups from `train` to `split`: at least one of each class, and so few that `keep` of each class stay."""
    if fraction <= 0:
        return
    numbers = _numbers(groups.keys, seed, split)
    free = chosen == "train"
    drawn = free & (numbers < fraction)
    for label, (members, counts) in enumerate(zip(groups.members, groups.counts, strict=True)):
        mine, sizes = members[free[members]], counts[free[members]]
        order = np.argsort(numbers[mine], kind="stable")
        mine, sizes = mine[order], sizes[order]
        if sizes.max(initial=0) > max(1, LARGE_GROUP * sizes.sum()):
            of_class = groups.label[mine] == label
            drawn[mine[of_class]] = _filling(sizes[of_class], fraction)
        most = max(1, len(mine) - keep)
        drawn[mine[:1]] |= not drawn[mine].any()
        drawn[mine[drawn[mine]][most:]] = False
    chosen[drawn] = split


def _filling(sizes: Indices, fraction: float) -> NDArray[np.bool_]:
    """Take groups in their order until they are a fraction of all images, without those that would overfill it.

    >>> _filling(np.array([1, 60, 8, 30, 1]), 0.1).tolist()
    [True, False, True, False, True]
    """
    wanted, most = fraction * sizes.sum(), (fraction + LARGE_GROUP) * sizes.sum()
    taken, num_images = np.zeros(len(sizes), np.bool_), 0
    for index, size in enumerate(sizes.tolist()):
        if num_images < wanted and num_images + size <= most:
            taken[index] = True
            num_images += size
    if len(sizes) and not taken.any():
        taken[sizes.argmin()] = True
    return taken


def _numbers(keys: NDArray[np.bytes_], seed: int, stream: str) -> NDArray[np.float64]:
    """A uniform number in [0, 1) for each key: the first 53 bits of the SHA-256 of seed, stream and key."""
    prefix = f"{seed}:{stream}:".encode()
    digests = (hashlib.sha256(prefix + key).digest() for key in keys)
    return np.fromiter(((int.from_bytes(digest[:8], "big") >> 11) / 2**53 for digest in digests), np.float64, len(keys))


def _folds(groups: _Groups, free: NDArray[np.bool_], folds: int, seed: int, repeat: int) -> NDArray[np.int64]:
    """The fold of each free group: large groups first, each to the fold with the fewest images of its class, then of all."""
    numbers = _numbers(groups.keys, seed, f"folds {repeat}" if repeat else "folds")
    by_class = [[0] * folds for _ in range(int(groups.label.max()) + 1)]
    totals = [0] * folds
    assigned = np.full(len(groups.keys), -1, dtype=np.int64)
    for group in np.lexsort((numbers, -groups.size)):
        if free[group]:
            counts = by_class[groups.label[group]]
            target = min(range(folds), key=lambda number: (counts[number], totals[number]))
            assigned[group] = target
            counts[target] += int(groups.size[group])
            totals[target] += int(groups.size[group])
    return assigned


def limited(labels: NDArray[np.int64], classes: Sequence[str], limit: int | None, seed: int) -> Indices:
    """Choose at most `limit` images, from each class in proportion to its size, and at least one.

    A larger limit keeps the images of a smaller one, so that a learning curve adds images and never exchanges them. None keeps
    all.

    Returns:
        Indices into `labels`, rising.

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
    turn = np.empty(len(labels))  # rank of an image in [0, 1), evenly spaced within each class
    for label in range(len(classes)):
        members = generator.permutation(np.flatnonzero(labels == label))
        turn[members] = np.arange(len(members)) / max(1, len(members))
    return np.sort(np.lexsort((labels, turn))[:limit])


def with_noise(labels: NDArray[np.int64], num_classes: int, share: float, seed: int) -> NDArray[np.int64]:
    """Draw a share of the labels again, uniformly from all classes; a label may stay the same by chance.

    At share 1, images tell nothing about labels. A larger share changes the labels that a smaller one changes, and more.

    >>> with_noise(np.zeros(6, dtype=np.int64), 4, 1.0, seed=0).tolist()
    [2, 3, 3, 3, 2, 3]
    """
    generator = np.random.default_rng(derive_seed(seed, "random labels"))
    drawn, chances = generator.integers(0, num_classes, len(labels)), generator.random(len(labels))
    return np.where(chances < share, drawn, labels)
