"""Shows which parts of an image a prediction rests on, by covering them one after the other.

The method needs nothing of a network but its probabilities (Zeiler and Fergus 2014, "Visualizing and understanding
convolutional networks", section 4.2).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

POSITIONS = 7
"""Usual number of places of the patch along each axis."""


def occlusion(
    images: Images, classes: Sequence[int], predict: Callable[[Images], NDArray[np.floating]], fill: Sequence[int],
    positions: int = POSITIONS,
) -> NDArray[np.float32]:  # fmt: skip
    """The loss of a class's probability where a part of the image is covered.

    A square patch moves over the image by half its side. A cell of the result is half as long as the patch; its value is the
    mean over the patches that cover it.

    Args:
        images: uint8 of shape (n, height, width, channels).
        classes: Class whose probability is followed, one for each image.
        predict: Gives the probabilities, of shape (k, classes), of k images.
        fill: Colour of the patch, a value for each channel.
        positions: Number of places of the patch along each axis; it takes positions² + 1 predictions an image.

    Returns:
        Shape (n, positions + 1, positions + 1), in [-1, 1]; positive where the prediction rests on what is there.

    >>> bright = np.zeros((1, 8, 8, 1), np.uint8); bright[0, :2, :2] = 255
    >>> def share_of_light(images):
    ...     light = images.reshape(len(images), -1).sum(axis=1) / 1020
    ...     return np.stack([1 - light, light], axis=1)
    >>> occlusion(bright, [1], share_of_light, [0], positions=3)[0].round(2)[0].tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    num_cells = positions + 1
    _, height, width, _ = images.shape
    rows, columns = (np.rint(np.linspace(0, length, num_cells + 1)).astype(int).tolist() for length in (height, width))
    heat = np.zeros((len(images), num_cells, num_cells), np.float32)
    num_patches = np.zeros((num_cells, num_cells), np.float32)
    places = [(row, column) for row in range(positions) for column in range(positions)]
    for row, column in places:
        num_patches[row : row + 2, column : column + 2] += 1
    for image, label, cells in zip(images, classes, heat, strict=True):
        covered = np.repeat(image[None], len(places) + 1, axis=0)
        for one, (row, column) in zip(covered, places, strict=False):
            one[rows[row] : rows[row + 2], columns[column] : columns[column + 2]] = fill
        *others, whole = predict(covered)[:, label].tolist()  # the last one is not covered
        for probability, (row, column) in zip(others, places, strict=True):
            cells[row : row + 2, column : column + 2] += whole - probability
        cells /= num_patches
    return heat
