"""Every way to store an image gives the same pixels; a file without a sound image is refused."""

import io
import pickle
import struct
import sys
import warnings
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, features

from pipeline.data import decoding
from pipeline.data.decoding import Pixels, with_channels
from pipeline.data.image_headers import BOMB, UNREADABLE, BadImageError
from pipeline.data.wide_samples import White

MAX_PIXELS = 1_000_000
WIDTH, HEIGHT = 48, 32

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")

NO_WHITE = r"its pixels are 32-bit numbers, and nothing tells which is white; prepare\.white_level can"


def decode(data: bytes, max_pixels: int, white_level: float | None = None) -> Pixels:
    return decoding.decode(data, max_pixels, White(white_level, white_level is not None)).pixels


def photograph() -> Image.Image:
    """Smooth colours that differ in every corner, so that lossy formats keep them and no turn of it is the same."""
    corners = np.array([[[220, 40, 30], [30, 200, 60]], [[40, 50, 210], [240, 230, 60]]], np.uint8)
    return Image.fromarray(cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR))


def pictured(mode: str) -> Image.Image:
    return photograph().convert("L").convert(mode) if mode == "I;16" else photograph().convert(mode)


def stored(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def far_apart(pixels: Pixels, expected: Image.Image | np.ndarray) -> float:
    """The mean distance of two images of one shape, in steps of 255."""
    wanted = np.asarray(expected)
    wanted = wanted[:, :, None] if wanted.ndim == 2 else wanted
    assert pixels.dtype == np.uint8 and pixels.shape == wanted.shape
    return float(np.abs(pixels.astype(int) - wanted).mean())


EXACT = [
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("WEBP", {"lossless": True}),
    ("JPEG2000", {}),
    ("PPM", {}),
]
LOSSY = [
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("JPEG", {"quality": 95, "progressive": True}),
    ("JPEG", {"quality": 95, "restart_marker_blocks": 1}),
    ("JPEG", {"quality": 95, "keep_rgb": True}),
    ("WEBP", {"quality": 95}),
    ("TIFF", {"compression": "jpeg", "quality": 95}),
    pytest.param("AVIF", {"quality": 95}, marks=needs_avif),
]


@pytest.mark.parametrize(("format_", "options"), EXACT)
def test_lossless_colour_comes_out_as_it_was(format_: str, options: dict[str, Any]) -> None:
    assert far_apart(decode(stored(photograph(), format_, **options), MAX_PIXELS), photograph()) == 0


@pytest.mark.parametrize(("format_", "options"), LOSSY)
def test_lossy_colour_comes_out_nearly_as_it_was(format_: str, options: dict[str, Any]) -> None:
    assert far_apart(decode(stored(photograph(), format_, **options), MAX_PIXELS), photograph()) < 2


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "JPEG2000", "PPM", "GIF"])
def test_lossless_grey_has_one_channel(format_: str) -> None:
    grey = photograph().convert("L")
    assert far_apart(decode(stored(grey, format_), MAX_PIXELS), grey) == 0


@pytest.mark.parametrize("progressive", [False, True])
def test_grey_jpeg_has_one_channel(progressive: bool) -> None:
    grey = photograph().convert("L")
    assert far_apart(decode(stored(grey, "JPEG", quality=95, progressive=progressive), MAX_PIXELS), grey) < 1


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_is_black_and_white_in_one_channel(format_: str) -> None:
    ink = photograph().convert("1")
    assert far_apart(decode(stored(ink, format_), MAX_PIXELS), ink.convert("L")) == 0


@pytest.mark.parametrize("progressive", [False, True])
def test_cmyk_jpeg_becomes_rgb(progressive: bool) -> None:
    ink = photograph().convert("CMYK")
    assert far_apart(decode(stored(ink, "JPEG", quality=95, progressive=progressive), MAX_PIXELS), photograph()) < 2


@pytest.mark.parametrize("format_", ["PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("colours", [2, 16, 200])
def test_palette_becomes_rgb(format_: str, colours: int) -> None:
    palette = photograph().quantize(colours)
    assert far_apart(decode(stored(palette, format_), MAX_PIXELS), palette.convert("RGB")) == 0


def with_palette(first: tuple[int, int, int], second: tuple[int, int, int]) -> Image.Image:
    """Two pixels of these colours."""
    image = Image.frombytes("P", (2, 1), b"\0\1")
    image.putpalette([*first, *second])
    return image


@pytest.mark.parametrize("format_", ["PNG", "GIF", "TIFF"])
def test_palette_of_greys_is_grey(format_: str) -> None:
    image = with_palette((10, 10, 10), (90, 90, 90))
    assert decode(stored(image, format_), MAX_PIXELS).tolist() == [[[10], [90]]]


# Alpha of 0, 128 and 255 over white.
SHEER = [[0, 128, 255]]
SEEN = [255, 255 - round(128 / 255 * 155), 100]


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP", pytest.param("AVIF", marks=needs_avif)])
def test_transparent_colour_shows_white(format_: str) -> None:
    image = Image.new("RGBA", (3, 1), (100, 100, 100))
    image.putalpha(Image.fromarray(np.array(SHEER, np.uint8)))
    options = {"lossless": True} if format_ == "WEBP" else {"quality": 100} if format_ == "AVIF" else {}
    shown = decode(stored(image, format_, **options), MAX_PIXELS)
    assert shown.shape == (1, 3, 3) and np.abs(shown[0, :, 0].astype(int) - SEEN).max() <= 1


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_transparent_grey_shows_white_in_one_channel(format_: str) -> None:
    image = Image.merge("LA", (Image.new("L", (3, 1), 100), Image.fromarray(np.array(SHEER, np.uint8))))
    assert decode(stored(image, format_), MAX_PIXELS)[..., 0].tolist() == [SEEN]


@pytest.mark.parametrize(("mode", "pixel"), [("L", 7), ("RGB", (7, 8, 9)), ("1", 0)])
def test_png_shows_white_where_it_has_the_transparent_colour(mode: str, pixel: Any) -> None:
    shown = decode(stored(Image.new(mode, (2, 1), pixel), "PNG", transparency=pixel), MAX_PIXELS)
    assert shown.shape == (1, 2, 3 if mode == "RGB" else 1) and (shown == 255).all()


@pytest.mark.parametrize(("format_", "transparency"), [("PNG", b"\0\xff"), ("PNG", 0), ("GIF", 0)])
def test_palette_shows_white_where_it_is_transparent(format_: str, transparency: int | bytes) -> None:
    image = with_palette((9, 0, 9), (0, 200, 0))
    shown = decode(stored(image, format_, transparency=transparency), MAX_PIXELS)
    assert shown.tolist() == [[[255, 255, 255], [0, 200, 0]]]


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled(format_: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65279, 65535]], np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    assert far_apart(decode(stored(Image.fromarray(values), format_), MAX_PIXELS), expected) == 0


def test_12_bit_grey_is_scaled() -> None:
    assert decode(b"P5 3 1 4095\n\0\0\x08\0\x0f\xff", MAX_PIXELS)[..., 0].tolist() == [[0, 128, 255]]


def test_16_bit_grey_of_the_other_byte_order_is_scaled() -> None:
    image = Image.frombytes("I;16B", (3, 1), b"\0\0\x80\0\xff\xff")
    assert decode(stored(image, "TIFF"), MAX_PIXELS)[..., 0].tolist() == [[0, 128, 255]]


def test_the_level_of_white_decides_what_is_white() -> None:
    twelve = stored(Image.fromarray(np.array([[0, 1024, 2048, 4095]], np.uint16)), "PNG")
    assert decode(twelve, MAX_PIXELS, 4095)[..., 0].tolist() == [[0, 64, 128, 255]]
    assert decoding.decode(twelve, MAX_PIXELS).peak == 4095 and not decoding.decode(twelve, MAX_PIXELS).inverted


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.int16])
def test_signed_and_32_bit_numbers_are_decoded_at_a_given_level_of_white(dtype: Any) -> None:
    data = stored(Image.fromarray(np.array([[-3, 0, 500, 1000, 2000]], dtype)), "TIFF")
    assert decode(data, MAX_PIXELS, 1000)[..., 0].tolist() == [[0, 0, 128, 255, 255]]


def test_a_tiff_tells_its_level_of_white_and_whether_0_is_white() -> None:
    image = Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))
    told = decoding.decode(stored(image, "TIFF", tiffinfo={281: 4095}), MAX_PIXELS)
    assert told.pixels[..., 0].tolist() == [[0, 128, 255]] and told.peak == 0
    turned = decoding.decode(stored(image, "TIFF", tiffinfo={281: 4095, 262: 0}), MAX_PIXELS)
    assert turned.pixels[..., 0].tolist() == [[255, 127, 0]] and turned.inverted


def test_16_bit_colour_is_scaled() -> None:
    values = np.array([[[0, 257, 32768], [65535, 32768, 25700]]], np.uint16)
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    assert far_apart(decode(data, MAX_PIXELS), np.array([[[0, 1, 128], [255, 128, 100]]], np.uint8)) == 0


@pytest.mark.parametrize("format_", ["GIF", "TIFF", "PNG", "WEBP", pytest.param("AVIF", marks=needs_avif)])
def test_first_frame_counts(format_: str) -> None:
    second = ImageOps.mirror(photograph())
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = stored(photograph(), format_, save_all=True, append_images=[second], **options)
    assert far_apart(decode(data, MAX_PIXELS), photograph()) < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format_", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "L", "RGBA", "P", "I;16")),
        *(("TIFF", mode) for mode in ("RGB", "L", "RGBA", "P", "CMYK", "I;16")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_exif_turns_the_image_upright(format_: str, mode: str, orientation: int) -> None:
    image, exif = pictured(mode), Image.Exif()
    exif[0x0112] = orientation
    turned = {
        1: lambda image: image,
        2: lambda image: image[:, ::-1],
        3: lambda image: image[::-1, ::-1],
        4: lambda image: image[::-1],
        5: lambda image: image.transpose(1, 0, 2),
        6: lambda image: np.rot90(image, -1),
        7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
        8: lambda image: np.rot90(image),
    }[orientation](decode(stored(image, format_), MAX_PIXELS))
    assert far_apart(decode(stored(image, format_, exif=exif), MAX_PIXELS), turned) < 1.5


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("format_", "options"), [("JPEG", {"exif": b"Exif\0\0 and so on"}), ("PNG", {"dpi": (72, 72)})]
)
def test_common_files_do_without_pillow(
    format_: str, options: dict[str, Any], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)  # several chunks of data in a PNG file
    data = stored(Image.fromarray(noise).convert(mode), format_, **options)
    monkeypatch.setattr(Image, "open", None)
    assert decode(data, MAX_PIXELS).shape == (300, 400, len(mode))


def test_damaged_exif_turns_nothing() -> None:
    for mode in ("RGB", "CMYK"):
        data = stored(photograph().convert(mode), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
        assert decode(data, MAX_PIXELS).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("trailing", [b"\0" * 40, b"a camera's own data"])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_bytes_behind_the_image_do_no_harm(format_: str, trailing: bytes) -> None:
    whole = stored(photograph(), format_)
    assert np.array_equal(decode(whole + trailing, MAX_PIXELS), decode(whole, MAX_PIXELS))


def test_jpeg_whose_markers_are_padded_is_read() -> None:
    data = stored(photograph(), "JPEG", quality=95)
    assert far_apart(decode(data[:2] + b"\xff\xff\xff" + data[2:], MAX_PIXELS), photograph()) < 2


# Refusals


def refusal(data: bytes, max_pixels: int = MAX_PIXELS) -> BadImageError:
    with pytest.raises(BadImageError) as caught:
        decode(data, max_pixels)
    return caught.value


def test_empty_file_is_unreadable() -> None:
    error = refusal(b"")
    assert (error.problem, error.evidence) == (UNREADABLE, "it is empty")


@pytest.mark.parametrize(
    "data", [b"<!DOCTYPE html><html>", b"PK\x03\x04 a zip", b"just text", bytes(5000), b"GI", b"\0\0\1\0\1\0 an icon"]
)
def test_what_is_no_image_is_told_by_its_first_bytes(data: bytes) -> None:
    with pytest.raises(
        BadImageError, match=r"^not_an_image: it begins with b['\"].*['\"], as no known image format does$"
    ):
        decode(data, MAX_PIXELS)


ALL = [
    ("JPEG", "RGB", {}), ("JPEG", "L", {}), ("JPEG", "CMYK", {}), ("JPEG", "RGB", {"progressive": True}),
    ("PNG", "RGB", {}), ("PNG", "L", {}), ("PNG", "1", {}), ("PNG", "P", {}), ("PNG", "RGBA", {}), ("PNG", "I;16", {}),
    ("GIF", "P", {}), ("BMP", "RGB", {}), ("TIFF", "RGB", {}), ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}),
    ("JPEG2000", "RGB", {}), ("PPM", "RGB", {}), pytest.param("AVIF", "RGB", {}, marks=needs_avif),
]  # fmt: skip


@pytest.mark.parametrize(("format_", "mode", "options"), ALL)
def test_truncated_file_is_refused_wherever_it_ends(format_: str, mode: str, options: dict[str, Any]) -> None:
    data = stored(pictured(mode), format_, **options)
    assert decode(data, MAX_PIXELS).shape[:2] == (HEIGHT, WIDTH)
    least = max(1, len(data) // 100)
    for cut in sorted({least, 2 * least, *range(least, len(data) - 12, max(1, len(data) // 60))}):
        assert refusal(data[:-cut]).problem == UNREADABLE, f"{cut} of {len(data)} bytes cut off"


def test_truncated_animation_is_refused_although_its_first_frame_is_whole() -> None:
    for format_ in ("GIF", "WEBP", "PNG"):
        data = stored(photograph(), format_, save_all=True, append_images=[ImageOps.mirror(photograph())])
        assert refusal(data[: len(data) * 9 // 10]).problem == UNREADABLE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (stored(photograph(), "PNG")[:-12], r"it is truncated: its chunks do not end with IEND"),
        (stored(photograph(), "GIF")[:-1], r"it is truncated: the trailer is missing"),
        (stored(photograph(), "GIF")[:9], r"its header is truncated or damaged \(9 bytes in all\)"),
        (
            stored(photograph(), "JPEG")[:-30],
            r"decoding it ends with: image file is truncated \(\d+ bytes not processed\)",
        ),
        (stored(Image.new("F", (2, 2)), "TIFF"), NO_WHITE),
        (stored(Image.new("I", (2, 2)), "TIFF"), NO_WHITE),
    ],
)
def test_evidence_says_what_is_wrong(data: bytes, words: str) -> None:
    with pytest.raises(BadImageError, match=f"^unreadable: {words}$"):
        decode(data, MAX_PIXELS)


@pytest.mark.parametrize(("format_", "mode", "options"), ALL)
def test_size_is_looked_at_before_any_pixel(
    format_: str, mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = stored(pictured(mode), format_, **options)
    decode(data, WIDTH * HEIGHT)
    monkeypatch.setattr(cv2, "imdecode", None)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    error = refusal(data, WIDTH * HEIGHT - 1)
    assert (error.problem, error.evidence) == (BOMB, "its header promises 48×32 pixels, more than 1,535")


def test_tiles_larger_than_the_image_are_looked_at_too() -> None:
    packed = zlib.compress(bytes(2000 * 2000))
    tags = {256: 10, 257: 10, 258: 8, 259: 8, 262: 1, 277: 1, 322: 2000, 323: 2000, 324: 0, 325: len(packed)}
    tags[324] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed
    assert decode(data, 4_000_000).tolist() == np.zeros((10, 10, 1)).tolist()
    assert refusal(data).evidence == "its header promises 2,000×2,000 pixels, more than 1,000,000"


def test_png_chunk_that_is_longer_than_the_file_never_reaches_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(stored(photograph(), "PNG"))
    data[data.index(b"IDAT") - 4] ^= 0x40  # a gigabyte more, and OpenCV would make room for it
    monkeypatch.setattr(cv2, "imdecode", None)
    assert refusal(bytes(data)).problem == UNREADABLE


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_progressive_jpeg_of_endless_scans_is_refused(mode: str) -> None:
    data = stored(Image.new(mode, (200, 200)), "JPEG", progressive=True)
    start_of_scan = b"\xff\xda"
    scan = data[data.rfind(start_of_scan) : -2]
    endless = data[:-2] + 1000 * scan + b"\xff\xd9"
    error = refusal(endless)
    assert error.problem == BOMB
    assert error.evidence == f"its 40,000 pixels come in {1000 + data.count(start_of_scan):,} scans"


def test_what_pillow_decodes_in_python_must_be_small() -> None:
    assert decode(b"P3 2 1 15\n15 0 0  0 15 3", MAX_PIXELS).tolist() == [[[255, 0, 0], [0, 255, 51]]]
    error = refusal(b"P5 2000 1000 100\n" + bytes(2_000_000), 100_000_000)
    assert error.problem == BOMB
    assert error.evidence == "its 2,000,000 pixels are stored in a way that takes too long to decode, unlike PNG"


def test_error_survives_the_way_out_of_a_worker() -> None:
    error = pickle.loads(pickle.dumps(BadImageError(BOMB, "it is large")))
    assert (error.problem, error.evidence, str(error)) == (BOMB, "it is large", "bomb: it is large")


def test_warnings_of_pillow_stay_inside() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refusal(stored(photograph(), "TIFF")[:-40])  # "Truncated File Read"
    assert not caught


def test_limit_of_pillow_does_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise OSError(f"{image.width} pixels wide")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    header = bytearray(stored(photograph(), "BMP"))
    header[18:26] = struct.pack("<ii", 20_000, 20_000)
    assert refusal(bytes(header), 400_000_000).evidence == "decoding it ends with: 20000 pixels wide"


def test_quiet_libraries_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    damaged = bytearray(stored(photograph(), "PNG"))
    damaged[60] ^= 0xFF
    with decoding.quiet_libraries():
        refusal(bytes(damaged))
    assert capfd.readouterr().err == ""
    print("heard", file=sys.stderr)
    assert capfd.readouterr().err == "heard\n"


# Channels


def test_grey_of_equal_channels_is_exact() -> None:
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    colour = with_channels(greys, 3)
    assert colour.shape == (16, 16, 3) and (colour == greys).all()
    assert np.array_equal(with_channels(colour, 1), greys)


def test_grey_of_a_colour_is_its_luma() -> None:
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    assert with_channels(primaries, 1)[..., 0].tolist() == [[76, 150, 29, 18]]


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_that_are_right_stay(channels: int) -> None:
    image = np.zeros((2, 3, channels), np.uint8)
    assert with_channels(image, channels) is image
