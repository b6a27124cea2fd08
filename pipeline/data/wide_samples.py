"""Decodes images of more than 8 bits: which of their values is white, and the colours that Pillow would cut to 8 bits.

OpenCV decodes PNG of 16 bits in colour or with alpha, and TIFF of 16 bits in colour or of 32 and 64 bits, after the size was
checked.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.data.image_headers import (
    TILE_LENGTH,
    TILE_WIDTH,
    UNREADABLE,
    BadImageError,
    check_png_end,
    check_size,
    png_has_wide_colour,
)  # fmt: skip
from pipeline.data.pixels import FULL_RANGE, Decoded, eight_bits
from pipeline.data.transparency import on_background
from pipeline.image_formats import BIG_TIFF, PNG, TIFF

Values = NDArray[Any]

WIDTH, LENGTH, BITS, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANES = 256, 257, 258, 262, 274, 277, 284
MAX_SAMPLE_VALUE, EXTRA_SAMPLES, SAMPLE_FORMAT = 281, 338, 339
"""Tags of TIFF (revision 6.0, section 8): whether 0 is white, the largest value in use, the type of the values, …"""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
SIGNED, IN_TURN = 2, 2
"""Values of `SAMPLE_FORMAT` and `PLANES`."""
ASSOCIATED, UNASSOCIATED = 1, 2
"""Values of `EXTRA_SAMPLES`: alpha by which the colours are multiplied already, and alpha by which they are not."""

_TURNS: Mapping[Any, Callable[[Values], Values]] = {
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: np.rot90(values),
}
"""What turns an image upright, by its orientation in EXIF and TIFF."""


@dataclass(frozen=True)
class White:
    """The value that is white in images of more than 8 bits.

    Attributes:
        level: That value; None: the largest of 16 bits.
        given: Whether it holds for files that tell another one too, and for those that tell nothing at all.
    """

    level: float | None = None
    given: bool = False

    def of(self, told: float | None) -> float:
        """The level for a file that tells `told`."""
        return (None if told and not self.given else self.level) or told or FULL_RANGE


def scaled(values: Values, white: White, told: float | None = None, inverted: bool = False) -> Decoded:
    """Grey or colour of shape (height, width, channels), scaled so that the level of white becomes 255.

    Values below 0 become 0, and those that are no numbers too. `told` is the level of white that the file tells, and
    `inverted` whether it stores white as 0.

    Raises:
        BadImageError: Nothing tells which value is white: they are negative or not of 16 bits, and no level is given.
    """
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0)
    if not white.given and told is None and (values.dtype.kind, values.dtype.itemsize) != ("u", 2):
        kind = f"{8 * values.dtype.itemsize}-bit"
        kind = kind if values.dtype.itemsize > 2 else f"signed {kind}"
        evidence = f"its pixels are {kind} numbers, and nothing tells which is white; prepare.white_level can"
        raise BadImageError(UNREADABLE, evidence)
    level = white.of(told)
    pixels = eight_bits(level - np.clip(values.astype(np.float64), 0, level) if inverted else values, level)
    return Decoded(pixels, 0.0 if told else float(values.max()), inverted)


def decode_wide(data: bytes, max_pixels: int, white: White, background: int | None) -> Decoded | None:
    """Decode a file whose samples Pillow would cut to 8 bits or refuse; None for any other file.

    Raises:
        BadImageError: The file is damaged or too large, or nothing tells which value is white.
    """
    if data.startswith(PNG):
        return _decode_png(data, max_pixels, white, background) if png_has_wide_colour(data) else None
    tags = _tiff_tags(data) if data.startswith(TIFF) else {}
    bits, samples, signed = tags.get(BITS, (8,))[0], tags.get(SAMPLES, 1), tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    grey = (
        (bits > 16 or (bits == 16 and signed))
        and samples == 1
        and tags.get(PHOTOMETRIC) in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    )
    colour = bits > 8 and samples in (3, 4) and tags.get(PHOTOMETRIC) == RGB
    return _decode_tiff(data, tags, max_pixels, white, background) if grey or colour else None


def _decode_png(data: bytes, max_pixels: int, white: White, background: int | None) -> Decoded:
    check_png_end(data)
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        check_size(*image.size, max_pixels)
        transparent = image.info.get("transparency")
        orientation = image.getexif().get(ORIENTATION)
    values = _opencv(data)
    if transparent is not None and values.shape[2] == 3:
        alpha = np.where((values == transparent).all(axis=2), 0, FULL_RANGE).astype(values.dtype)
        values = np.dstack([values, alpha])
    if values.shape[2] == 4 and data[25] == 4:  # grey with alpha
        values = values[:, :, 2:]
    return _shown(_turned(values, orientation), white, None, background)


def _decode_tiff(
    data: bytes, tags: Mapping[int, Any], max_pixels: int, white: White, background: int | None
) -> Decoded:
    check_size(tags[WIDTH], tags[LENGTH], max_pixels)
    check_size(tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0), max_pixels)
    if tags.get(PLANES) == IN_TURN:  # which OpenCV would mix up
        raise BadImageError(
            UNREADABLE, "its colours, of more than 8 bits, are stored one after the other, which is not read"
        )
    values = _opencv(data)  # it turns TIFF upright itself, other than PNG
    extra = tags.get(EXTRA_SAMPLES, (UNASSOCIATED,))[0]  # as Pillow, where nothing tells
    if values.shape[2] == 4 and extra not in (ASSOCIATED, UNASSOCIATED):
        values = values[:, :, :3]
    told = tags.get(MAX_SAMPLE_VALUE, (None,))[0]
    if values.shape[2] == 1:
        return scaled(values, white, told, tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
    return _shown(values, white, told, background, extra == ASSOCIATED)


def _shown(
    values: Values, white: White, told: float | None, background: int | None, associated: bool = False
) -> Decoded:
    """Pixels of colour, or of colour or grey with alpha as the last channel."""
    num_colours = values.shape[2] - (values.shape[2] in (2, 4))
    decoded = scaled(values[:, :, :num_colours], white, told)
    if num_colours == values.shape[2]:
        return decoded
    alpha, level = values[:, :, num_colours:], white.of(told)
    opacity = eight_bits(alpha, level if alpha.max() <= level else FULL_RANGE)
    layer = np.dstack([decoded.pixels, opacity])
    if associated:
        image = Image.frombytes("RGBa", (values.shape[1], values.shape[0]), layer.tobytes()).convert("RGBA")
    else:
        image = Image.fromarray(layer)
    return on_background(image, background)._replace(peak=decoded.peak)


def _turned(values: Values, orientation: Any) -> Values:
    return np.ascontiguousarray(_TURNS[orientation](values)) if orientation in _TURNS else values


def _opencv(data: bytes) -> Values:
    """Samples as they are stored, red first, of shape (height, width, channels)."""
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None:
        raise BadImageError(
            UNREADABLE, "it is truncated, damaged, or of more than 8 bits in a way that is not read, unlike PNG"
        )
    values = values if values.ndim == 3 else values[:, :, None]
    return values if values.shape[2] < 3 else values[:, :, [2, 1, 0, 3][: values.shape[2]]]  # OpenCV has blue first


def _tiff_tags(data: bytes) -> Mapping[int, Any]:
    """Tags of a TIFF file's first image; none where they are damaged."""
    file = BytesIO(data)
    try:
        tags = ImageFileDirectory_v2(file.read(16 if data[:4] in BIG_TIFF else 8))
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    except (SyntaxError, OSError, ValueError, TypeError, KeyError, IndexError, struct.error, OverflowError):
        return {}
