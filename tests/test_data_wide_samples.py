"""Images of more than 8 bits keep their levels, in colour as in grey, and beside transparency."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.decoding import decode
from pipeline.data.image_headers import BOMB, UNREADABLE, BadImageError
from pipeline.data.wide_samples import White
from pipeline.image_formats import PNG

MAX_PIXELS = 1_000_000
TWELVE = White(4095)
RAMP = np.arange(12, dtype=np.uint16).reshape(2, 2, 3) * 341 + 100
"""12 bits in colour: 100 to 3,851."""


def written(values: np.ndarray, kind: str = ".png") -> bytes:
    """A PNG or TIFF file with these samples, red first."""
    channels = [0] if values.ndim == 2 else [2, 1, 0, 3][: values.shape[2]]
    flat = values if values.ndim == 2 else np.ascontiguousarray(values[:, :, channels])
    return bytes(cv2.imencode(kind, flat)[1])


def shown(values: Any, white: float) -> list[Any]:
    return np.floor(np.clip(values, 0, white) * (255 / white) + 0.5).astype(int).tolist()


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_12_bits_of_colour_keep_their_levels(kind: str) -> None:
    decoded = decode(written(RAMP, kind), MAX_PIXELS, TWELVE)
    assert decoded.pixels.tolist() == shown(RAMP, 4095)
    assert decoded.peak == RAMP.max() and decoded.background is None and not decoded.inverted


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("full", [4095, 65535])
def test_alpha_beside_12_bits_may_have_12_or_16(kind: str, full: int) -> None:
    opacity = np.array([[full, full], [0, full]], np.uint16)
    decoded = decode(written(np.dstack([RAMP, opacity]), kind), MAX_PIXELS, TWELVE)
    expected = np.array(shown(RAMP, 4095))
    expected[1, 0] = 255
    assert decoded.pixels.tolist() == expected.tolist()
    assert decoded.peak == RAMP.max() and decoded.background == 255


def test_png_of_16_bits_shows_white_where_it_has_the_transparent_colour() -> None:
    row = struct.pack(">6H", 100, 200, 300, 4095, 2000, 0)
    decoded = decode(png(2, row, chunk(b"tRNS", struct.pack(">3H", 100, 200, 300))), MAX_PIXELS, TWELVE)
    assert decoded.pixels.tolist() == [[[255, 255, 255], [255, 125, 0]]]


def test_png_of_16_bits_of_grey_with_alpha_is_grey() -> None:
    decoded = decode(png(4, struct.pack(">4H", 9000, 65535, 9000, 0)), MAX_PIXELS)
    assert decoded.pixels.tolist() == [[[35], [255]]] and decoded.peak == 9000


def png(colour: int, row: bytes, extra: bytes = b"") -> bytes:
    """A PNG file of two pixels of 16 bits: kinds that no library here writes."""
    header = struct.pack(">IIBBBBB", 2, 1, 16, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return PNG + chunk(b"IHDR", header) + extra + data + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(values: np.ndarray, photometric: int, **tags: int) -> bytes:
    """An uncompressed TIFF file; `tags` are written as `t339=2`."""
    samples = values.shape[2] if values.ndim == 3 else 1
    fields = {
        256: values.shape[1],
        257: values.shape[0],
        259: 1,
        262: photometric,
        273: 8,
        277: samples,
        279: values.nbytes,
    }
    fields |= {258: 8 * values.itemsize} | {int(name[1:]): value for name, value in tags.items()}
    wide = {tag for tag in (258, 339) if tag in fields and samples > 2}  # a value for each sample stands elsewhere
    begin = 8 + values.nbytes
    tail = begin + 2 * samples * len(wide)
    places = {tag: begin + 2 * samples * number for number, tag in enumerate(sorted(wide))}
    arrays = b"".join(struct.pack(f"<{samples}H", *[fields[tag]] * samples) for tag in sorted(wide))
    entries = b"".join(
        struct.pack("<HHII", tag, 3, samples, places[tag])
        if tag in wide
        else struct.pack("<HHII", tag, 4, 1, fields[tag])
        for tag in sorted(fields)
    )
    return (
        b"II*\0"
        + struct.pack("<I", tail)
        + values.tobytes()
        + arrays
        + struct.pack("<H", len(fields))
        + entries
        + bytes(4)
    )


def test_samples_behind_the_colours_that_are_no_alpha_are_left_alone() -> None:
    values = np.dstack([RAMP, np.zeros((2, 2), np.uint16)])
    assert decode(tiff(values, 2, t338=0), MAX_PIXELS, TWELVE).pixels.tolist() == shown(RAMP, 4095)


def test_colours_that_are_multiplied_by_their_alpha_already_are_not_darkened_again() -> None:
    values = np.array([[[2048, 1024, 0, 2048], [4095, 4095, 4095, 4095]]], np.uint16)
    decoded = decode(tiff(values, 2, t338=1), MAX_PIXELS, TWELVE)
    assert np.abs(decoded.pixels[0, 0].astype(int) - [255, 191, 127]).max() <= 1  # half of (255, 127, 0) on white


def test_a_level_that_a_file_tells_holds_beside_that_of_the_others() -> None:
    told = tiff(RAMP, 2, t281=8190)
    assert decode(told, MAX_PIXELS, TWELVE).pixels.tolist() == shown(RAMP, 8190)
    assert decode(told, MAX_PIXELS, TWELVE).peak == 0
    assert decode(told, MAX_PIXELS, White(4095, given=True)).pixels.tolist() == shown(RAMP, 4095)


WIDE = [
    (np.float32, "32-bit"),
    (np.float64, "64-bit"),
    (np.int32, "32-bit"),
    (np.uint32, "32-bit"),
    (np.int16, "signed 16-bit"),
]


@pytest.mark.parametrize("values", [RAMP, RAMP[:, :, 0]], ids=["colour", "grey"])
@pytest.mark.parametrize(("dtype", "name"), WIDE)
def test_numbers_without_a_range_need_a_given_level(values: np.ndarray, dtype: Any, name: str) -> None:
    data = written(values.astype(dtype), ".tiff")
    assert decode(data, MAX_PIXELS, White(4095, given=True)).pixels.squeeze().tolist() == shown(values, 4095)
    error = refusal(data)
    assert error.problem == UNREADABLE
    assert error.evidence == f"its pixels are {name} numbers, and nothing tells which is white; prepare.white_level can"


def test_what_is_no_number_is_black() -> None:
    data = written(np.array([[np.nan, 1.0, np.inf]], np.float32), ".tiff")
    assert decode(data, MAX_PIXELS, White(2, given=True)).pixels[..., 0].tolist() == [[0, 128, 255]]


def test_floats_that_store_white_as_0_are_turned_round() -> None:
    data = tiff(np.array([[0.0, 0.5, 1.0]], np.float32), 0, t339=3)
    decoded = decode(data, MAX_PIXELS, White(1, given=True))
    assert decoded.pixels[..., 0].tolist() == [[255, 128, 0]] and decoded.inverted


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_wide_colour_is_turned_upright_as_narrow_colour_is(kind: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    narrow = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(narrow, kind, exif=exif)
    if kind == "PNG":
        whole = written(values * 257)
        wide = whole[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + whole[33:]
    else:
        wide = tiff(values * 257, 2, t274=orientation)
    assert np.array_equal(decode(wide, MAX_PIXELS).pixels, decode(narrow.getvalue(), MAX_PIXELS).pixels)


def refusal(data: bytes, max_pixels: int = MAX_PIXELS) -> BadImageError:
    with pytest.raises(BadImageError) as caught:
        decode(data, max_pixels, TWELVE)
    return caught.value


@pytest.mark.parametrize("data", [written(RAMP), written(RAMP, ".tiff"), tiff(RAMP.astype(np.float32), 2, t339=3)])
def test_size_is_looked_at_before_opencv_sees_the_file(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decode(data, 4, White(4095, given=True))
    monkeypatch.setattr(cv2, "imdecode", None)
    assert refusal(data, 3).evidence == "its header promises 2×2 pixels, more than 3"
    assert refusal(data, 3).problem == BOMB


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_truncated_wide_colour_is_refused_wherever_it_ends(kind: str) -> None:
    data = written(np.random.default_rng(0).integers(0, 4096, (40, 30, 3)).astype(np.uint16), kind)
    for cut in range(1, len(data) - 12, len(data) // 60):
        assert refusal(data[:-cut]).problem == UNREADABLE, f"{cut} of {len(data)} bytes cut off"


def test_planes_one_by_one_are_refused_rather_than_mixed_up() -> None:
    assert refusal(tiff(RAMP, 2, t284=2)).evidence == (
        "its colours, of more than 8 bits, are stored one after the other, which is not read"
    )
