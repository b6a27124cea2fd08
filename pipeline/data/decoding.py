"""Decodes image files of any format into pixels, the same way for every stage.

OpenCV, which is fast, decodes JPEG and plain PNG, as nearly all files are. Pillow decodes the others: it knows alpha,
palettes, CMYK and the rarer formats, and tells why a file that OpenCV refuses is damaged. The size of an image is checked
before any pixel is decoded.
"""

import os
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from pipeline.data.pixels import FULL_RANGE, eight_bits
from pipeline.image_formats import JPEG, PNG, has_signature

Pixels = NDArray[np.uint8]

UNREADABLE = "unreadable"
"""Empty, truncated or damaged, or with pixels whose colours nothing tells."""
NOT_AN_IMAGE = "not_an_image"
BOMB = "bomb"
"""More pixels than allowed, or made to take too long."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that Pillow may try: none that runs a program, reads other files or is recognised by its name alone."""

MAX_SCANS = 20
"""Number of scans that a progressive JPEG of `max_pixels` may have; ten are usual. Each scan passes over all pixels."""

MAX_SLOW_PIXELS = 1_000_000
"""Limit for images that Pillow decodes in Python, at 1–2 µs a pixel: PPM as text or of odd ranges, and packed BMP."""

FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
SEGMENTS = {0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE}
TILE_WIDTH, TILE_LENGTH = 322, 323
PHOTOMETRIC, MAX_SAMPLE_VALUE, SAMPLE_FORMAT = 262, 281, 339
"""Tags of TIFF (revision 6.0, section 8): whether 0 is white, the largest value in use, and the type of the values."""

_IHDR = struct.Struct(">4sIIBB7xI4s").unpack_from  # and the head of the next chunk
_CHUNK = struct.Struct(">I4s").unpack_from
_SOF = struct.Struct(">HHB").unpack_from

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` replaces it
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the exception tells what it refuses


class BadImageError(Exception):
    """Raised when a file cannot be decoded: its problem, such as `BOMB`, and a clause about it, such as "it is empty"."""

    def __init__(self, problem: str, evidence: str) -> None:
        super().__init__(problem, evidence)  # both arguments, so that a worker can pickle it
        self.problem = problem
        self.evidence = evidence

    def __str__(self) -> str:
        return f"{self.problem}: {self.evidence}"


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 of shape (height, width, channels): 1 channel for a grey image, otherwise red, green and blue.
        peak: Largest value in a grey file of more than 8 bits that does not tell which value is white; 0 for other files.
        inverted: Whether such a file stores white as 0.
    """

    pixels: Pixels
    peak: float = 0
    inverted: bool = False


def decode(data: bytes, max_pixels: int, white_level: float | None = None) -> Decoded:
    """Decode an image file, or its first frame or page, and turn it upright.

    Transparent pixels become white. An image with a palette of greys alone is grey. Values of more than 8 bits are scaled so
    that the level of white becomes 255; values above it too.

    Args:
        data: Content of the file.
        max_pixels: Limit for height × width, checked before decoding. Memory is at most about 25 bytes for each pixel.
        white_level: Value that is white in grey files of more than 8 bits; None: what the file tells, or else 65,535.

    Raises:
        BadImageError: The file is empty, truncated, damaged, too large, or not an image.
    """
    flag = None
    if data.startswith(PNG):
        flag = _png_flag(data, max_pixels)
    elif data.startswith(JPEG):
        flag = _jpeg_flag(data, max_pixels)
    if flag is not None:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        except cv2.error:
            pixels = None
        if pixels is not None:
            return Decoded(pixels if pixels.ndim == 3 else pixels[:, :, None])  # type: ignore[arg-type]
    return _decode_with_pillow(data, max_pixels, white_level)


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


def _png_flag(data: bytes, max_pixels: int) -> int | None:
    """OpenCV's flag for a whole PNG file of 8 bits in grey or RGB without alpha; None for any other file."""
    try:
        header, width, height, depth, colour, length, chunk = _IHDR(data, 12)
    except struct.error:
        return None
    if header != b"IHDR" or depth != 8 or colour not in (0, 2):
        return None
    _check_size(width, height, max_pixels)
    if chunk != b"IDAT" or length + 57 != len(data):  # more than IHDR, one IDAT and IEND
        chunks = _png_chunks(data)
        if b"IEND" not in chunks or b"tRNS" in chunks or b"acTL" in chunks:
            return None
    return cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE


def _png_chunks(data: bytes) -> set[bytes]:
    """Names of the whole chunks of a PNG file. OpenCV would allocate up to 2 GB for a truncated one."""
    position, chunk, chunks = 8, b"", set()
    while position + 12 <= len(data) and chunk != b"IEND":
        length, chunk = _CHUNK(data, position)
        position += 12 + length
        if position <= len(data):
            chunks.add(chunk)
    return chunks


def _jpeg_flag(data: bytes, max_pixels: int) -> int | None:
    """OpenCV's flag for a JPEG file in grey or colour; None for CMYK, and where the frame header is not found.

    Decoders take the size from the first frame header, so this does too: an unknown marker ends the search
    (ITU-T T.81, B.1.1).
    """
    position, end = 2, len(data) - 10
    while position < end and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in FRAME_HEADERS:
            height, width, components = _SOF(data, position + 5)
            _check_size(width, height, max_pixels)
            if marker in PROGRESSIVE:
                _check_scans(data, width * height, max_pixels)
            return {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR_RGB}.get(components)
        if marker not in SEGMENTS:
            return None
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    return None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImageError(BOMB, f"its header promises {width:,}×{height:,} pixels, more than {max_pixels:,}")


def _check_scans(data: bytes, num_pixels: int, max_pixels: int) -> None:
    """Refuse a progressive JPEG whose scans, each of a few bytes, would keep a decoder busy for minutes."""
    num_scans = data.count(b"\xff\xda")
    if num_scans * num_pixels > MAX_SCANS * max_pixels:
        raise BadImageError(BOMB, f"its {num_pixels:,} pixels come in {num_scans:,} scans")


def _decode_with_pillow(data: bytes, max_pixels: int, white_level: float | None) -> Decoded:
    if not data:
        raise BadImageError(UNREADABLE, "it is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _check_size(*image.size, max_pixels)
                _check_storage(image, data, max_pixels)
                tags = dict(getattr(image, "tag_v2", {}))
                image.load()
                return _decoded(image, tags, white_level)
        except BadImageError:
            raise
        except UnidentifiedImageError as error:
            raise _unidentified(data) from error
        except Exception as error:  # a damaged file makes Pillow raise nearly anything, KeyError and struct.error too
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise BadImageError(UNREADABLE, f"decoding it ends with: {reason}") from error


def _check_storage(image: ImageFile.ImageFile, data: bytes, max_pixels: int) -> None:
    """Refuse files that Pillow would accept: truncated ones, and ones whose tiles or scans take more than the image."""
    if image.format == "PNG" and b"IEND" not in _png_chunks(data):
        raise BadImageError(UNREADABLE, "it is truncated: its chunks do not end with IEND")
    if image.format == "GIF" and not _has_gif_trailer(data):
        raise BadImageError(UNREADABLE, "it is truncated: the trailer is missing")
    if image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        _check_size(tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0), max_pixels)
    num_pixels = image.width * image.height
    if image.info.get("progressive"):
        _check_scans(data, num_pixels, max_pixels)
    if num_pixels > MAX_SLOW_PIXELS and any(tile[0] in Image.DECODERS for tile in image.tile):
        evidence = f"its {num_pixels:,} pixels are stored in a way that takes too long to decode, unlike PNG"
        raise BadImageError(BOMB, evidence)


def _has_gif_trailer(data: bytes) -> bool:
    """Walk the blocks of a GIF file to the byte that ends it (GIF89a, sections 15 to 27)."""
    position = 13 + _palette_bytes(data[10])
    while position < len(data) and data[position] in b"!,":
        if data[position] == ord("!"):
            position += 2
        else:
            position += 11 + (_palette_bytes(data[position + 9]) if position + 9 < len(data) else 0)
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    return data[position : position + 1] == b";"


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _unidentified(data: bytes) -> BadImageError:
    if has_signature(data):
        return BadImageError(UNREADABLE, f"its header is truncated or damaged ({len(data):,} bytes in all)")
    return BadImageError(NOT_AN_IMAGE, f"it begins with {data[:16]!r}, as no known image format does")


def _decoded(image: Image.Image, tags: Mapping[int, Any], white_level: float | None) -> Decoded:
    """The pixels of an image that Pillow has loaded; `tags` are those of a TIFF file."""
    if image.mode == "I" and image.format == "PPM":
        image, white_level = image.convert("I;16"), FULL_RANGE  # the file tells its range, and Pillow has scaled it
    if image.mode in ("I", "F") and white_level is None:
        bits = "signed 16-bit" if tags.get(SAMPLE_FORMAT) == (2,) and tags.get(258) == (16,) else "32-bit"
        evidence = f"its pixels are {bits} numbers, and nothing tells which is white; prepare.white_level can"
        raise BadImageError(UNREADABLE, evidence)
    with suppress(Exception):  # damaged EXIF turns nothing, as in OpenCV
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled(np.asarray(image), tags, white_level)
    mode = "L" if _is_grey(image) else "RGB"
    if image.has_transparency_data:
        layer = _converted(image, "LA" if mode == "L" else "RGBA")
        image = Image.new(mode, layer.size, "white")
        image.paste(layer.convert(mode), mask=layer.getchannel("A"))
    pixels = np.array(_converted(image, mode))
    return Decoded(pixels if mode == "RGB" else pixels[:, :, None])


def _scaled(values: NDArray[Any], tags: Mapping[int, Any], white_level: float | None) -> Decoded:
    told = tags.get(MAX_SAMPLE_VALUE, (None,))[0]
    white = white_level or told or FULL_RANGE
    inverted = tags.get(PHOTOMETRIC) == 0
    scaled = eight_bits(white - np.clip(values.astype(np.float64), 0, white) if inverted else values, white)
    return Decoded(scaled[:, :, None], 0.0 if told else float(values.max()), inverted)


def _is_grey(image: Image.Image) -> bool:
    palette = image.getpalette("RGB")
    if palette is None:
        return image.mode in ("1", "L", "LA", "La")
    return palette[0::3] == palette[1::3] == palette[2::3]


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # Pillow would copy
