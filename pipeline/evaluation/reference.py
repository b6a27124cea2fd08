"""Measures what simple methods reach on the same split: a network that does worse on its training images underfits."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.storage.arrays import read_array

MOST_TRAIN, MOST_VAL, MOST_PIXELS = 10_000, 5_000, 16
"""Largest numbers of images, and largest side in pixels: more cost much and change the accuracy little."""

NEIGHBOURS = 5
IMAGES_AT_A_TIME = 256


def reference_accuracy(prepared: Path) -> tuple[float, int]:
    """The better validation accuracy of k nearest neighbours and of logistic regression, on the pixels of the output of
    prepare, and the number of validation images behind it."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    (train, train_labels), (val, val_labels) = (
        pixels(prepared / "train", MOST_TRAIN),
        pixels(prepared / "val", MOST_VAL),
    )
    scaler = StandardScaler().fit(train)
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(train))).fit(train, train_labels)
    accuracies = [float((neighbours.predict(val) == val_labels).mean())]
    if len(np.unique(train_labels)) > 1:
        with quick_regression() as regression:
            linear = regression.fit(scaler.transform(train), train_labels)
        accuracies.append(float((linear.predict(scaler.transform(val)) == val_labels).mean()))
    return max(accuracies), len(val_labels)


@contextmanager
def stops_early() -> Iterator[None]:
    """No warning where a regression stops before its end within the block: more digits are not worth the time."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@contextmanager
def quick_regression() -> Iterator[Any]:
    """A logistic regression that stops early, without a warning within the block."""
    from sklearn.linear_model import LogisticRegression

    with stops_early():
        yield LogisticRegression(C=0.01, max_iter=50, tol=1e-3)


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many indices below `count`, evenly spaced; int64.

    >>> evenly(3, 5).tolist(), evenly(5, 3).tolist()
    ([0, 1, 2], [0, 2, 4])
    """
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def pixels(folder: Path, most: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images of a split, evenly chosen, as rows of pixels in [0, 1], and their labels; large images made smaller by
    averages over squares."""
    images, labels = read_array(folder / "images.npy"), read_array(folder / "labels.npy", mapped=False)
    chosen = evenly(len(labels), most)
    square = -(-images.shape[1] // MOST_PIXELS)
    side = images.shape[1] // square * square

    def means(part: NDArray[np.int64]) -> NDArray[np.float32]:
        picked = np.asarray(images[part][:, :side, :side], dtype=np.float32) / 255
        squares = picked.reshape(len(part), side // square, square, side // square, square, -1)
        return squares.mean(axis=(2, 4)).reshape(len(part), -1)

    at_a_time = range(0, len(chosen), IMAGES_AT_A_TIME)  # of large images, all together would fill the memory
    return np.concatenate([means(chosen[first : first + IMAGES_AT_A_TIME]) for first in at_a_time]), labels[chosen]
