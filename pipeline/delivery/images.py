"""Prepares an image for the network, whatever it is given as: a path, the content of a file, pixels, or a Pillow image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.package import PreprocessingRecord
from pipeline.data.decoding import decode_pillow
from pipeline.data.image_headers import BadImageError
from pipeline.data.pixels import Decoded
from pipeline.data.preparation import Preprocessing, prepared, put_in_frame
from pipeline.data.wide_samples import White
from pipeline.errors import DataError

Pixels = NDArray[np.uint8]

Image = Any
"""A path, the bytes of an image file, an array of pixels, a Pillow image, or a function without arguments that gives one."""


class Prepared(NamedTuple):
    """A prepared image, uint8 of shape (size, size, channels), and the height and width that it had before."""

    pixels: Pixels
    shape: tuple[int, int]


def preparer(record: PreprocessingRecord) -> Callable[[Image], Prepared | str]:
    """Makes the function that prepares an image, or tells in a sentence why it cannot be."""
    how = Preprocessing(
        size=record.size, channels=record.channels, fit=record.fit, fill=record.fill, white_level=record.white_level,
        white_level_given=record.white_level_given,
    )  # fmt: skip

    def prepare(image: Image) -> Prepared | str:
        try:
            return _prepared(image, how, record.max_pixels)
        except BadImageError as error:
            return f"{error.problem.replace('_', ' ')}: {error.evidence}"
        except (DataError, OSError) as error:
            return error.strerror or str(error) if isinstance(error, OSError) else str(error)

    return prepare


def _prepared(image: Image, how: Preprocessing, max_pixels: int) -> Prepared:
    if callable(image) and not hasattr(image, "convert"):
        image = image()
    if isinstance(image, str | Path):
        image = Path(image).expanduser().read_bytes()
    if isinstance(image, bytearray | memoryview):
        image = bytes(image)
    if isinstance(image, bytes):
        return _with_shape(*prepared(image, how, max_pixels))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))):
            raise DataError(
                "an array must be uint8 of shape (height, width), or (height, width, channels) with 1, 3 or 4 channels; got "
                f"{image.dtype} of shape {image.shape}"
            )
        if 0 in image.shape:
            raise DataError(f"an array must hold pixels; got one of shape {image.shape}")
        if image.ndim == 2 or image.shape[2] != 4:
            pixels = np.ascontiguousarray(image if image.ndim == 3 else image[:, :, None])
            return _with_shape(*prepared(pixels, how, max_pixels))
        from PIL.Image import fromarray

        image = fromarray(image)
    if hasattr(image, "convert"):
        background = how.fill if isinstance(how.fill, int) else None
        decoded = decode_pillow(image, White(how.white_level, how.white_level_given), background)
        return _with_shape(put_in_frame(decoded, how), decoded)
    raise DataError(
        f"an image must be a path, the bytes of a file, an array or a Pillow image; got {type(image).__name__}"
    )


def _with_shape(pixels: Pixels, decoded: Decoded) -> Prepared:
    height, width = decoded.pixels.shape[:2]
    return Prepared(pixels, (height, width))


def broken(why: str) -> Callable[[], bytes]:
    """An image that cannot be read, for the reason `why`."""

    def fail() -> bytes:
        raise DataError(why)

    return fail
