"""Scales images down, so that a figure can show many."""

import numpy as np
from numpy.typing import NDArray

MOST_PIXELS = 64


def thumbnails(images: NDArray[np.uint8], most_pixels: int = MOST_PIXELS) -> NDArray[np.uint8]:
    """Scale images down to at most `most_pixels` high and wide, by means over areas; smaller ones stay as they are.

    Args:
        images: uint8 of shape (n, height, width, channels).
        most_pixels: Largest length of the longer side.

    >>> thumbnails(np.zeros((2, 300, 150, 3), np.uint8)).shape, thumbnails(np.zeros((2, 28, 28, 1), np.uint8)).shape
    ((2, 64, 32, 3), (2, 28, 28, 1))
    """
    count, height, width, channels = images.shape
    scale = most_pixels / max(height, width)
    if scale >= 1:
        return images
    import cv2

    small = np.empty((count, max(1, round(scale * height)), max(1, round(scale * width)), channels), np.uint8)
    for image, target in zip(images, small, strict=True):
        resized = cv2.resize(image, (target.shape[1], target.shape[0]), interpolation=cv2.INTER_AREA)
        target[...] = resized.reshape(target.shape)
    return small
