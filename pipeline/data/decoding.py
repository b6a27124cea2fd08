"""Decodes image files of any format into pixels, the same way for every stage.

OpenCV, which is fast, decodes JPEG and plain PNG, as nearly all files are. Pillow decodes the others: it knows alpha,
palettes, CMYK and the rarer formats, and tells why a file that OpenCV refuses is damaged. The size of an image is checked
before any pixel is decoded.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data.dicom_files import decode_dicom
from pipeline.data.image_headers import (
    NOT_AN_IMAGE,
    UNREADABLE,
    BadImageError,
    check_size,
    check_storage,
    jpeg_flag,
    png_flag,
)  # fmt: skip
from pipeline.data.pixels import FULL_RANGE, Decoded
from pipeline.data.transparency import on_background
from pipeline.data.wide_samples import MAX_SAMPLE_VALUE, PHOTOMETRIC, WHITE_IS_ZERO, White, decode_wide, scaled
from pipeline.errors import DataError
from pipeline.image_formats import JPEG, PNG, extra_for, has_signature, is_installed

Pixels = NDArray[np.uint8]

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that Pillow may try: none that runs a program, reads other files or is recognised by its name alone."""

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` replaces it
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the exception tells what it refuses


def decode(data: bytes, max_pixels: int, white: White = White(), background: int | None = None) -> Decoded:  # noqa: B008
    """Decode an image file, or its first frame or page, and turn it upright.

    An image with a palette of greys alone is grey. Values of more than 8 bits are scaled so that the level of white becomes
    255; values above it too.

    Args:
        data: Content of the file.
        max_pixels: Limit for height × width, checked before decoding. Memory is at most about 25 bytes for each pixel.
        white: Value that is white in files of more than 8 bits.
        background: Grey level that transparent pixels become; None: white, or black under a white drawing.

    Raises:
        BadImageError: The file is empty, truncated, damaged, too large, or not an image.
        DataError: Its format needs an extra that is not installed.
    """
    flag = None
    if data.startswith(PNG):
        flag = png_flag(data, max_pixels)
    elif data.startswith(JPEG):
        flag = jpeg_flag(data, max_pixels)
    if flag is not None:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        except cv2.error:
            pixels = None
        if pixels is not None:
            return Decoded(pixels if pixels.ndim == 3 else pixels[:, :, None])  # type: ignore[arg-type]
    if not data:
        raise BadImageError(UNREADABLE, "it is empty")
    extra = extra_for(data)
    if extra is not None and not is_installed(extra):
        raise DataError(
            f"the images must be in formats that are read here; some need the extra {extra}. Run `pip install -e .[{extra}]`."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if extra == "dicom":
                return decode_dicom(data, max_pixels, white)
            if wide := decode_wide(data, max_pixels, white, background):
                return wide
            return _decode_with_pillow(data, max_pixels, white, background, extra == "heif")
        except BadImageError:
            raise
        except UnidentifiedImageError as error:
            raise _unidentified(data) from error
        except Exception as error:  # a damaged file makes Pillow raise nearly anything, KeyError and struct.error too
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise BadImageError(UNREADABLE, f"decoding it ends with: {reason}") from error


def decode_pillow(image: Image.Image, white: White = White(), background: int | None = None) -> Decoded:  # noqa: B008
    """The pixels of an image that Pillow has opened, as `decode` gives those of its file; the image stays as it is.

    Raises:
        BadImageError: It cannot be loaded.
    """
    try:
        return _decoded(image.copy(), dict(getattr(image, "tag_v2", {})), None, white, background)
    except BadImageError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadImageError(UNREADABLE, f"decoding it ends with: {reason}") from error


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert an image of shape (height, width, 1 or 3) to 1 channel, its luma, or to 3."""
    if pixels.shape[2] == channels:
        return pixels
    code = cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB
    return cv2.cvtColor(pixels, code).reshape(*pixels.shape[:2], channels)  # type: ignore[return-value]


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Turn off the process's standard error, where libpng and libjpeg print a line for many damaged files.

    Only for a worker that does nothing else meanwhile: other output there is lost too.
    """
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _decode_with_pillow(data: bytes, max_pixels: int, white: White, background: int | None, is_heif: bool) -> Decoded:
    if is_heif:
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    with Image.open(BytesIO(data), formats=[*FORMATS, "HEIF"] if is_heif else FORMATS) as image:
        check_size(*image.size, max_pixels)
        check_storage(image, data, max_pixels)
        tags = dict(getattr(image, "tag_v2", {}))
        # Pillow has scaled a PPM file to 16 bits, unless these are the file's own.
        has_range = image.format == "PPM" and image.mode == "I"
        told = FULL_RANGE if has_range and image.tile[0][0] != "raw" else tags.get(MAX_SAMPLE_VALUE, (None,))[0]
        image.load()
        return _decoded(image.convert("I;16") if has_range else image, tags, told, white, background)


def _unidentified(data: bytes) -> BadImageError:
    if has_signature(data):
        return BadImageError(UNREADABLE, f"its header is truncated or damaged ({len(data):,} bytes in all)")
    return BadImageError(NOT_AN_IMAGE, f"it begins with {data[:16]!r}, as no known image format does")


def _decoded(
    image: Image.Image, tags: Mapping[int, Any], told: float | None, white: White, background: int | None
) -> Decoded:
    """The pixels of an image that Pillow has loaded; `tags` are those of a TIFF file."""
    with suppress(Exception):  # damaged EXIF turns nothing, as in OpenCV
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)[:, :, None]
        return scaled(values, white, told, tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
    mode = "L" if _is_grey(image) else "RGB"
    if image.has_transparency_data:
        return on_background(_converted(image, "LA" if mode == "L" else "RGBA"), background)
    pixels = np.array(_converted(image, mode))
    return Decoded(pixels if mode == "RGB" else pixels[:, :, None])


def _is_grey(image: Image.Image) -> bool:
    palette = image.getpalette("RGB")
    if palette is None:
        return image.mode in ("1", "L", "LA", "La")
    return palette[0::3] == palette[1::3] == palette[2::3]


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # Pillow would copy
