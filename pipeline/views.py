"""Views of images that are averaged over when classes are predicted (test-time augmentation)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


def _same(images: Images) -> Images:
    return images


def _mirrored(images: Images) -> Images:
    return images[:, :, ::-1]


def _shifted(pixels: int) -> Callable[[Images], Images]:
    """Moves images down and right by so many pixels; the edge that this uncovers repeats the border."""

    def shift(images: Images) -> Images:
        rows, columns = ((np.arange(length) - pixels).clip(0, length - 1) for length in images.shape[1:3])
        return images[:, rows][:, :, columns]

    return shift


_SHIFTS = [_shifted(pixels) for pixels in (-1, 1)]
VIEWS: dict[str, list[Callable[[Images], Images]]] = {
    "none": [_same],
    "flip": [_same, _mirrored],
    "flip_shift": [
        *(_same, _mirrored),
        *_SHIFTS,
        *(lambda images, shift=shift: shift(_mirrored(images)) for shift in _SHIFTS),
    ],
}
"""Views of images, uint8 of shape (n, height, width, channels): themselves, always first; also their mirror images; and
both also moved by a pixel up and left, and down and right."""
