"""Prepares an image as a network takes it: for `prepare`, and in the same way for every image that is predicted later."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.data.decoding import decode, with_channels
from pipeline.data.pixels import Decoded, Images, fit_image
from pipeline.data.wide_samples import White


@dataclass(frozen=True)
class Preprocessing:
    """Settings of what happens to each image; see the keys of `prepare` of the same names.

    Attributes:
        size: Height and width afterwards, in pixels.
        channels: 1 for grey, 3 for red, green and blue.
        fit: `pad`, `crop` or `stretch`.
        fill: `auto`, `edge` or a grey level.
        white_level: Value that is white in images of more than 8 bits; None: the largest of 16 bits.
        white_level_given: Whether it holds for files that tell another one too, and for those that tell nothing at all.
    """

    size: int
    channels: int
    fit: str
    fill: int | str
    white_level: float | None
    white_level_given: bool

    @classmethod
    def of(cls, record: DatasetRecord) -> Self:
        """Preprocessing of the images that a network was trained on."""
        return cls(**{field.name: getattr(record, field.name) for field in fields(cls)})


def prepared(image: bytes | Images, how: Preprocessing, max_pixels: int) -> tuple[Images, Decoded]:
    """The image as a network takes it, uint8 of shape (size, size, channels), and as it was decoded.

    Args:
        image: Content of an image file, or pixels of shape (height, width, 1 or 3).
        how: What to do to it.
        max_pixels: Limit for a file's height × width, checked before decoding.

    Raises:
        BadImageError: The file cannot be decoded.
    """
    background = how.fill if isinstance(how.fill, int) else None
    if isinstance(image, np.ndarray):
        decoded = Decoded(image)
    else:
        decoded = decode(image, max_pixels, White(how.white_level, how.white_level_given), background)
    return put_in_frame(decoded, how), decoded


def put_in_frame(decoded: Decoded, how: Preprocessing) -> Images:
    """A decoded image as a network takes it, uint8 of shape (size, size, channels)."""
    frame = how.fill if decoded.background is None or how.fill != "auto" else decoded.background
    return fit_image(with_channels(decoded.pixels, how.channels), how.size, how.fit, frame)
