"""Describes images by the directions of their edges, for a classifier of small pictures without a network."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.storage.arrays import read_array

SIDE, CELL, DIRECTIONS = 32, 4, 8
IMAGES_AT_A_TIME = 256


def edges(split: Path, chosen: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Histograms of the directions of gradients, of shape (n, 512).

    As in Dalal and Triggs 2005 (https://doi.org/10.1109/CVPR.2005.177), without normalisation by blocks. Images count as
    grey, 32 pixels wide, in cells of 4 pixels with 8 directions each.

    Args:
        split: A split's folder, as prepare leaves it.
        chosen: Indices of the images; None: all.
    """
    images = read_array(split / "images.npy")
    pieces = [histograms(grey) for grey in _small(images if chosen is None else images[chosen])]
    return np.concatenate(pieces) if pieces else np.zeros((0, (SIDE // CELL) ** 2 * DIRECTIONS), np.float32)


def histograms(grey: NDArray[np.float32], cell: int = CELL) -> NDArray[np.float32]:
    """The square roots of the histograms, which weigh strong edges less.

    Args:
        grey: Images of shape (n, height, width) in [0, 1], the sides multiples of `cell`.
        cell: Side of a cell in pixels.

    >>> ramp = np.tile(np.arange(8, dtype=np.float32) / 8, (1, 8, 1))
    >>> histograms(ramp).reshape(2, 2, 8)[0, 0].argmax()  # all edges point to the right
    np.int64(0)
    """
    count, height, width = grey.shape
    framed = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    down, right = framed[:, 2:, 1:-1] - framed[:, :-2, 1:-1], framed[:, 1:-1, 2:] - framed[:, 1:-1, :-2]
    strength = np.hypot(down, right)
    direction = np.arctan2(down, right) / (2 * np.pi) % 1 * DIRECTIONS
    below, part = np.floor(direction).astype(np.int64) % DIRECTIONS, direction - np.floor(direction)
    found = np.empty((count, height // cell, width // cell, DIRECTIONS), np.float32)
    for each in range(DIRECTIONS):
        share = (below == each) * (1 - part) + ((below + 1) % DIRECTIONS == each) * part
        cells = (strength * share).reshape(count, height // cell, cell, width // cell, cell)
        found[..., each] = cells.mean(axis=(2, 4))
    return np.sqrt(found).reshape(count, -1)


def _small(images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """Grey images of `SIDE` pixels in [0, 1], some at a time."""
    import cv2

    for start in range(0, len(images), IMAGES_AT_A_TIME):
        grey = np.asarray(images[start : start + IMAGES_AT_A_TIME]).mean(axis=3, dtype=np.float32) / 255
        method = cv2.INTER_AREA if images.shape[1] > SIDE else cv2.INTER_LINEAR
        yield np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=method) for image in grey])
