"""Brings images to one size, and computes the mean and the standard deviation of their pixels."""

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

FULL_RANGE = 65535
"""Largest value of 16 bits."""

EDGE = "edge"
"""Fill that repeats the pixels of an image's border."""


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 of shape (height, width, channels): 1 channel for a grey image, otherwise red, green and blue.
        peak: Largest value in a file of more than 8 bits that does not tell which value is white; 0 for other files.
        inverted: Whether the file stores white as 0.
        background: Grey level that transparent pixels became; None for an image without any.
        white_drawing: Whether they became black, since the image is a white drawing that would vanish on white.
    """

    pixels: Images
    peak: float = 0
    inverted: bool = False
    background: int | None = None
    white_drawing: bool = False


def eight_bits(values: NDArray[Any], white: float) -> Images:
    """Scale values so that `white` becomes 255; values below 0 become 0, values above `white` 255.

    >>> eight_bits(np.array([-5, 0, 2048, 4095, 9999]), 4095).tolist()
    [0, 0, 128, 255, 255]
    """
    if white != FULL_RANGE or values.dtype != np.uint16:
        return np.floor(np.clip(values.astype(np.float64), 0, white) * (255 / white) + 0.5).astype(np.uint8)
    wide = values.astype(np.uint32)
    wide *= 255
    wide += 32895  # so that it rounds, as in libpng's png_set_scale_16
    wide >>= 16
    return wide.astype(np.uint8)


def median_of_border(image: Images) -> tuple[int, ...]:
    """The median of each channel over the outermost pixels; the lower one of two.

    >>> median_of_border(np.array([[[9], [9]], [[9], [0]]], np.uint8))
    (9,)
    """
    border = image.reshape(-1, image.shape[2]).take(_places_of_border(*image.shape[:2]), axis=0)
    middle = (len(border) - 1) // 2
    border.partition(middle, axis=0)
    return tuple(border[middle].tolist())


@lru_cache(maxsize=256)
def _places_of_border(height: int, width: int) -> NDArray[np.int64]:
    """Indices of the outermost pixels into all pixels, row by row."""
    is_inside = np.zeros((height, width), np.bool_)
    is_inside[1:-1, 1:-1] = True
    return np.flatnonzero(~is_inside)


def fit_image(image: Images, size: int, fit: str, fill: int | str = 0) -> Images:
    """Bring an image to `size` × `size` pixels.

    Args:
        image: uint8 of shape (height, width, channels).
        size: Height and width in pixels afterwards.
        fit: `pad` shrinks a larger image and centres it in a frame; `crop` resizes the largest square in its middle;
            `stretch` resizes it without its proportions.
        fill: Frame of `pad`: a grey level, `auto` for the median colour of the scaled image's border, or `edge`, which
            repeats the border's pixels.

    Returns:
        uint8 of shape (size, size, channels).
    """
    height, width, channels = image.shape
    if (height, width) == (size, size):
        return image
    if fit == "pad":
        scale = min(1.0, size / max(height, width))
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (size - height) // 2, (size - width) // 2
        scaled = _resized(image, height, width)
        if (height, width) == (size, size):
            return scaled
        sides = top, size - height - top, left, size - width - left
        if fill == EDGE:
            framed = cv2.copyMakeBorder(scaled, *sides, cv2.BORDER_REPLICATE)
        else:
            colour = (fill,) * channels if isinstance(fill, int) else median_of_border(scaled)
            framed = cv2.copyMakeBorder(scaled, *sides, cv2.BORDER_CONSTANT, value=colour)
        return framed.reshape(size, size, channels)  # type: ignore[return-value]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    return _resized(image, size, size)


def _resized(image: Images, height: int, width: int) -> Images:
    """Shrink an image by area means, then enlarge it linearly.

    In one call, OpenCV would use no area means for an image that shrinks along one axis and grows along the other.
    """
    channels = image.shape[2]
    smaller = min(height, image.shape[0]), min(width, image.shape[1])
    for shape, method in ((smaller, cv2.INTER_AREA), ((height, width), cv2.INTER_LINEAR)):
        if image.shape[:2] != shape:
            image = cv2.resize(image, shape[::-1], interpolation=method).reshape(*shape, channels)  # type: ignore[assignment]
    return image


class PixelCounts:
    """Counts the values of each channel piece by piece, so that mean and standard deviation are exact.

    >>> counts = PixelCounts(num_channels=1)
    >>> counts.add(np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1))
    >>> counts.mean(), counts.std()
    ([0.5], [0.5])
    """

    def __init__(self, num_channels: int) -> None:
        self._counts = np.zeros((num_channels, 256), dtype=np.int64)

    def add(self, images: Images) -> None:
        """Count uint8 images of shape (n, height, width, channels)."""
        for channel, counts in enumerate(self._counts):
            counts += np.bincount(images[..., channel].ravel(), minlength=256)

    def mean(self) -> list[float]:
        """Mean of each channel, with values in [0, 1]."""
        return self._mean().tolist()

    def std(self) -> list[float]:
        """Standard deviation of each channel, with values in [0, 1]; 1 for a constant channel, which cannot be scaled."""
        squares = (np.arange(256) / 255 - self._mean()[:, None]) ** 2
        std = np.sqrt((self._counts * squares).sum(axis=1) / self._counts.sum(axis=1))
        return [float(value) or 1.0 for value in std]

    def _mean(self) -> NDArray[np.float64]:
        return (self._counts @ np.arange(256)) / (255 * self._counts.sum(axis=1))
