"""Image files as people have them: good ones in many formats, damaged ones, false ones and bombs; drawn by a seed."""

import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, features

BOMB_SIDE = 50_000


@dataclass(frozen=True)
class Mutated:
    """A file with what is expected of it.

    Attributes:
        name: A file name; of some, the extension is wrong.
        data: The content.
        kind: How it was made.
        must_fail: True where no decoder can make an image of it, False where it is a good one, None where both will do.
    """

    name: str
    data: bytes
    kind: str
    must_fail: bool | None


def mutations(seed: int, count: int) -> Iterator[Mutated]:
    """`count` files, of each kind about as many; the same for the same seed and libraries."""
    generator = np.random.default_rng(seed)
    for number, (kind, make) in zip(range(count), itertools.cycle(KINDS.items()), strict=False):
        extension, data, must_fail = make(generator)
        yield Mutated(f"{number:05d}.{extension}", data, kind, must_fail)


Made = tuple[str, bytes, bool | None]

TURNED = b"Exif\0\0" + struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0)

STORED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("jpg", "JPEG", "RGB", {}),
    ("jpg", "JPEG", "L", {}),
    ("jpg", "JPEG", "CMYK", {}),
    ("jpg", "JPEG", "RGB", {"progressive": True}),
    ("jpg", "JPEG", "L", {"progressive": True, "exif": TURNED}),
    ("png", "PNG", "RGB", {}),
    ("png", "PNG", "L", {}),
    ("png", "PNG", "RGBA", {}),
    ("png", "PNG", "LA", {}),
    ("png", "PNG", "P", {}),
    ("png", "PNG", "1", {}),
    ("png", "PNG", "I;16", {}),
    ("gif", "GIF", "P", {}),
    ("bmp", "BMP", "RGB", {}),
    ("bmp", "BMP", "P", {}),
    ("tif", "TIFF", "RGB", {}),
    ("tif", "TIFF", "L", {"compression": "tiff_lzw"}),
    ("tif", "TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    ("tif", "TIFF", "RGB", {"compression": "jpeg"}),
    ("tif", "TIFF", "I;16", {}),
    ("webp", "WEBP", "RGB", {}),
    ("webp", "WEBP", "RGBA", {"lossless": True}),
    ("jp2", "JPEG2000", "RGB", {}),
    ("pgm", "PPM", "L", {}),
    *([("avif", "AVIF", "RGB", {})] if features.check("avif") else []),
]


def _stored(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def _photograph(generator: Generator) -> Image.Image:
    """Something with edges, slopes and a little noise, of a random size."""
    width, height = (int(side) for side in generator.integers(1, 140, 2))
    coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), np.uint8)).resize((width, height))
    noise = generator.integers(0, 12, (height, width, 3), np.uint8)
    return Image.fromarray(np.asarray(coarse) // 2 + noise)


def _good(generator: Generator) -> Made:
    extension, format_, mode, options = STORED[generator.integers(len(STORED))]
    image = _photograph(generator)
    if mode in ("LA", "I;16"):
        image = image.convert("L")
    return extension, _stored(image.convert(mode), format_, **options), False


def _wrong_extension(generator: Generator) -> Made:
    _, data, _ = _good(generator)
    return str(generator.choice(["jpg", "png", "gif", "txt", "jpeg"])), data, False


def _trailing(generator: Generator) -> Made:
    """A camera's or an editor's own data behind the end."""
    extension, data, _ = _good(generator)
    appended = bytes(50) if extension in ("webp", "avif", "jp2") else generator.bytes(50)
    return extension, data + appended, None if extension == "avif" else False


def _truncated(generator: Generator) -> Made:
    """At least 1 % lacks at the end, and all but a byte at most."""
    extension, data, _ = _good(generator)
    least = max(2, -(-len(data) // 100))
    return extension, data[: -int(generator.integers(least, len(data)))], True


def _barely_truncated(generator: Generator) -> Made:
    extension, data, _ = _good(generator)
    return extension, data[: -int(generator.integers(1, 3))], None


def _bits_flipped(generator: Generator) -> Made:
    extension, data, _ = _good(generator)
    flipped = np.frombuffer(data, np.uint8).copy()
    for _ in range(generator.integers(1, 9)):
        flipped[generator.integers(len(flipped))] ^= 1 << generator.integers(8)
    return extension, flipped.tobytes(), None


def _header_flipped(generator: Generator) -> Made:
    """Among the first 64 bytes: sizes, offsets, magic numbers."""
    extension, data, _ = _good(generator)
    flipped = bytearray(data)
    flipped[generator.integers(min(64, len(data)))] ^= 1 << generator.integers(8)
    return extension, bytes(flipped), None


def _zeros_inside(generator: Generator) -> Made:
    """A hole, as an interrupted copy leaves."""
    extension, data, _ = _good(generator)
    begin, length = generator.integers(len(data)), generator.integers(1, 1 + len(data) // 2)
    hole = bytes(min(int(length), len(data) - int(begin)))
    return extension, data[:begin] + hole + data[begin + len(hole) :], None


def _spliced(generator: Generator) -> Made:
    """The beginning of one file and the end of another."""
    extension, first, _ = _good(generator)
    second = _good(generator)[1]
    return extension, first[: generator.integers(len(first))] + second[generator.integers(len(second)) :], None


def _nothing(generator: Generator) -> Made:
    return str(generator.choice(["jpg", "png"])), bytes(int(generator.choice([0, 1, 5, 4096]))), True


def _no_image(generator: Generator) -> Made:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("photo.jpg", b"\xff\xd8\xff\xe0 not at the top")
    texts = [b"<!DOCTYPE html><html><body>404</body></html>", b'{"error": "expired"}', b"label,path\n3,a.jpg\n"]
    texts += [archive.getvalue(), b"%PDF-1.7\n%", b"version https://git-lfs.github.com/spec/v1\n", b'<svg width="9"/>']
    texts += [generator.bytes(700), "Größe".encode("utf-16")]
    return "jpg", texts[generator.integers(len(texts))], True


def _magic_only(generator: Generator) -> Made:
    """The first bytes of an image, then something else."""
    magics = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\x40\0\0\0WEBP"]
    return "png", magics[generator.integers(len(magics))] + generator.bytes(int(generator.integers(0, 300))), None


def _bomb(generator: Generator) -> Made:
    extension = str(generator.choice(list(BOMBS)))
    return extension.split()[0], BOMBS[extension](), True


# Bombs: headers that promise 50,000 × 50,000 pixels, and files that keep such a promise


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(width: int, height: int, packed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _deflated_zeros(num_bytes: int) -> bytes:
    pack, step = zlib.compressobj(), 1 << 20
    pieces = [pack.compress(bytes(min(step, num_bytes - begin))) for begin in range(0, num_bytes, step)]
    return b"".join(pieces) + pack.flush()


@cache
def _whole_png() -> bytes:
    """A sound file of 20,000 × 20,000 pixels in 400 kB."""
    return _png(20_000, 20_000, _deflated_zeros(20_000 * 20_001))


def _patched(format_: str, anchor: bytes, offset: int, layout: str, **options: Any) -> bytes:
    """A small file whose header, so far behind the anchor, says 50,000 × 50,000."""
    data = bytearray(_stored(Image.new("RGB", (16, 16)), format_, **options))
    struct.pack_into(layout, data, data.index(anchor) + offset, BOMB_SIDE, BOMB_SIDE)
    return bytes(data)


def _endless_scans() -> bytes:
    """A progressive JPEG of 9 megapixels that passes over all of them 3,000 times."""
    data = _stored(Image.new("L", (3000, 3000)), "JPEG", progressive=True)
    return data[:-2] + 3000 * data[data.rindex(b"\xff\xda") : -2] + b"\xff\xd9"


def _tiff(width: int, height: int, tile_side: int | None, packed: bytes) -> bytes:
    """Grey, deflated, in one strip or one tile."""
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: tile_side, 323: tile_side, 324: 0, 325: 0} if tile_side else {273: 0, 278: height, 279: 0}
    tags[324 if tile_side else 273] = 8 + 2 + 12 * len(tags) + 4
    tags[325 if tile_side else 279] = len(packed)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed


@cache
def _tile_bomb() -> bytes:
    """A TIFF file of 10 × 10 pixels whose one tile unpacks to 400 MB."""
    return _tiff(10, 10, 20_000, _deflated_zeros(20_000 * 20_000))


def _webp_bomb() -> bytes:
    """An animation on a canvas of 50,000 × 50,000 pixels; a still image can't be so large."""
    still = _stored(Image.new("RGB", (16, 16)), "WEBP", lossless=True)
    frame = bytes(6) + 2 * (15).to_bytes(3, "little") + bytes(4) + still[12:]
    side = (BOMB_SIDE - 1).to_bytes(3, "little")
    chunks = [(b"VP8X", b"\x12\0\0\0" + side + side), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: _png(BOMB_SIDE, BOMB_SIDE, zlib.compress(bytes(100))),
    "png that is sound": _whole_png,
    "gif": lambda: _patched("GIF", b"GIF", 6, "<HH"),
    "bmp": lambda: _patched("BMP", b"BM", 18, "<ii"),
    "jpg": lambda: _patched("JPEG", b"\xff\xc0", 5, ">HH"),
    "jpg progressive": lambda: _patched("JPEG", b"\xff\xc2", 5, ">HH", progressive=True),
    "jpg of endless scans": _endless_scans,
    "tif": lambda: _tiff(BOMB_SIDE, BOMB_SIDE, None, zlib.compress(bytes(100))),
    "tif in a tile": _tile_bomb,
    "webp": _webp_bomb,
    "pgm": lambda: b"P5 50000 50000 255\n" + bytes(100),
    "pgm of 4 megapixels for a decoder in Python": lambda: b"P5 2000 2000 254\n" + bytes(4_000_000),
    "jp2": lambda: _patched("JPEG2000", b"ihdr", 4, ">II"),
    **({"avif": lambda: _patched("AVIF", b"ispe", 8, ">II")} if features.check("avif") else {}),
}

KINDS: dict[str, Callable[[Generator], Made]] = {
    "good": _good,
    "bits flipped": _bits_flipped,
    "truncated": _truncated,
    "bomb": _bomb,
    "wrong extension": _wrong_extension,
    "bits of the header flipped": _header_flipped,
    "zeros inside": _zeros_inside,
    "not an image": _no_image,
    "barely truncated": _barely_truncated,
    "empty or nothing but zeros": _nothing,
    "magic number only": _magic_only,
    "spliced": _spliced,
    "bytes behind the end": _trailing,
}
