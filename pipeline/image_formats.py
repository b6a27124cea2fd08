"""Signatures of image files: the bytes that a file of each format begins with."""

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
BIG_TIFF = (b"II+\0", b"MM\0+")
TIFF = (b"II*\0", b"MM\0*", *BIG_TIFF)
SIGNATURES = (JPEG, PNG, b"GIF8", *TIFF, b"\0\0\0\x0cjP  ")

WEAK_SIGNATURES = (b"BM", b"P5\n", b"P6\n")
"""Signatures of BMP and PNM, so short that a text may begin with one too."""


def has_signature(data: bytes) -> bool:
    """Whether a file that begins with `data`, at least 12 bytes of it, is an image of a known format.

    >>> has_signature(PNG + bytes(8)), has_signature(b"RIFF0000WEBP"), has_signature(b"BMW and others")
    (True, True, False)
    """
    return data.startswith(SIGNATURES) or data[8:12] == b"WEBP" or data[4:12] in (b"ftypavif", b"ftypavis")
