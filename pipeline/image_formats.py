"""Signatures of image files, and the formats that need an extra."""

from importlib.util import find_spec

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
BIG_TIFF = (b"II+\0", b"MM\0+")
TIFF = (b"II*\0", b"MM\0*", *BIG_TIFF)
SIGNATURES = (JPEG, PNG, b"GIF8", *TIFF, b"\0\0\0\x0cjP  ")
"""The bytes that a file of each format begins with."""

WEAK_SIGNATURES = (b"BM", b"P5\n", b"P6\n")
"""Signatures of BMP and PNM, so short that a text may begin with one too."""

HEAD = 132
"""Number of bytes that tell the format of any file: DICOM's signature stands behind 128 others."""

EXTRAS = {"dicom": "pydicom", "heif": "pillow_heif"}
"""Extras that read a format, and the package that each brings."""

_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_ANY_CODEC = (b"mif1", b"msf1")


def has_signature(data: bytes) -> bool:
    """Whether a file that begins with `data`, `HEAD` bytes or more of it, is an image of a known format.

    >>> has_signature(PNG + bytes(8)), has_signature(b"RIFF0000WEBP"), has_signature(b"BMW and others")
    (True, True, False)
    """
    known = data.startswith(SIGNATURES) or data[8:12] == b"WEBP" or data[4:12] in (b"ftypavif", b"ftypavis")
    return known or extra_for(data) is not None


def extra_for(data: bytes) -> str | None:
    """The extra that reads a file that begins with `data`: `dicom` or `heif`; None where none is needed.

    >>> extra_for(b"\\0\\0\\0\\x18ftypheic"), extra_for(bytes(128) + b"DICM"), extra_for(PNG)
    ('heif', 'dicom', None)
    """
    if data[4:8] == b"ftyp" and (data[8:12] in _HEVC or (data[8:12] in _ANY_CODEC and b"avif" not in data[12:64])):
        return "heif"
    is_other = data.startswith(SIGNATURES) and not data.startswith(TIFF)  # some scanners begin their files as TIFF too
    return "dicom" if data[128:132] == b"DICM" and not is_other else None


def is_installed(extra: str) -> bool:
    return find_spec(EXTRAS[extra]) is not None
