"""Reads the headers of image files, and refuses what would take too much memory or time to decode."""

import struct
from typing import Any

import cv2
from PIL import Image, ImageFile

UNREADABLE = "unreadable"
"""Empty, truncated or damaged, or with pixels whose colours nothing tells."""
NOT_AN_IMAGE = "not_an_image"
BOMB = "bomb"
"""More pixels than allowed, or made to take too long."""

MAX_SCANS = 20
"""Number of scans that a progressive JPEG of `max_pixels` may have; ten are usual. Each scan passes over all pixels."""

MAX_SLOW_PIXELS = 1_000_000
"""Limit for images that Pillow decodes in Python, at 1–2 µs a pixel: PPM as text or of odd ranges, and packed BMP."""

FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
SEGMENTS = {0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE}
TILE_WIDTH, TILE_LENGTH = 322, 323

_IHDR = struct.Struct(">4sIIBB7xI4s").unpack_from  # and the head of the next chunk
_CHUNK = struct.Struct(">I4s").unpack_from
_SOF = struct.Struct(">HHB").unpack_from


class BadImageError(Exception):
    """Raised when a file cannot be decoded: its problem, such as `BOMB`, and a clause about it, such as "it is empty"."""

    def __init__(self, problem: str, evidence: str) -> None:
        super().__init__(problem, evidence)  # both arguments, so that a worker can pickle it
        self.problem = problem
        self.evidence = evidence

    def __str__(self) -> str:
        return f"{self.problem}: {self.evidence}"


def png_flag(data: bytes, max_pixels: int) -> int | None:
    """OpenCV's flag for a whole PNG file of 8 bits in grey or RGB without alpha; None for any other file."""
    try:
        header, width, height, depth, colour, length, chunk = _IHDR(data, 12)
    except struct.error:
        return None
    if header != b"IHDR" or depth != 8 or colour not in (0, 2):
        return None
    check_size(width, height, max_pixels)
    if chunk != b"IDAT" or length + 57 != len(data):  # more than IHDR, one IDAT and IEND
        chunks = png_chunks(data)
        if b"IEND" not in chunks or b"tRNS" in chunks or b"acTL" in chunks:
            return None
    return cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE


def png_has_wide_colour(data: bytes) -> bool:
    """Whether a PNG file has 16 bits for each sample, and more than one sample for each pixel."""
    try:
        header, _, _, depth, colour, _, _ = _IHDR(data, 12)
    except struct.error:
        return False
    return header == b"IHDR" and depth == 16 and colour in (2, 4, 6)


def png_chunks(data: bytes) -> set[bytes]:
    """Names of the whole chunks of a PNG file. OpenCV would allocate up to 2 GB for a truncated one."""
    position, chunk, chunks = 8, b"", set()
    while position + 12 <= len(data) and chunk != b"IEND":
        length, chunk = _CHUNK(data, position)
        position += 12 + length
        if position <= len(data):
            chunks.add(chunk)
    return chunks


def jpeg_flag(data: bytes, max_pixels: int) -> int | None:
    """OpenCV's flag for a JPEG file in grey or colour; None for CMYK, and where the frame header is not found.

    Decoders take the size from the first frame header, so this does too: an unknown marker ends the search
    (ITU-T T.81, B.1.1).
    """
    position, end = 2, len(data) - 10
    while position < end and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in FRAME_HEADERS:
            height, width, components = _SOF(data, position + 5)
            check_size(width, height, max_pixels)
            if marker in PROGRESSIVE:
                check_scans(data, width * height, max_pixels)
            return {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR_RGB}.get(components)
        if marker not in SEGMENTS:
            return None
        position += 2 + (data[position + 2] << 8 | data[position + 3])
    return None


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image of more than `max_pixels`."""
    if width * height > max_pixels:
        raise BadImageError(BOMB, f"its header promises {width:,}×{height:,} pixels, more than {max_pixels:,}")


def check_scans(data: bytes, num_pixels: int, max_pixels: int) -> None:
    """Refuse a progressive JPEG whose scans, each of a few bytes, would keep a decoder busy for minutes."""
    num_scans = data.count(b"\xff\xda")
    if num_scans * num_pixels > MAX_SCANS * max_pixels:
        raise BadImageError(BOMB, f"its {num_pixels:,} pixels come in {num_scans:,} scans")


def check_storage(image: ImageFile.ImageFile, data: bytes, max_pixels: int) -> None:
    """Refuse files that Pillow would accept: truncated ones, and ones whose tiles or scans take more than the image."""
    if image.format == "PNG":
        check_png_end(data)
    if image.format == "GIF" and not _has_gif_trailer(data):
        raise BadImageError(UNREADABLE, "it is truncated: the trailer is missing")
    if image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        check_size(tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0), max_pixels)
    num_pixels = image.width * image.height
    if image.info.get("progressive"):
        check_scans(data, num_pixels, max_pixels)
    if num_pixels > MAX_SLOW_PIXELS and any(tile[0] in Image.DECODERS for tile in image.tile):
        evidence = f"its {num_pixels:,} pixels are stored in a way that takes too long to decode, unlike PNG"
        raise BadImageError(BOMB, evidence)


def check_png_end(data: bytes) -> None:
    """Refuse a truncated PNG file."""
    if b"IEND" not in png_chunks(data):
        raise BadImageError(UNREADABLE, "it is truncated: its chunks do not end with IEND")


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
