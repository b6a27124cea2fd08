"""HEIC pictures, as telephones take them, where the extra `heif` is installed, and the sentence where it is not."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile

from pipeline.data.decoding import decode
from pipeline.data.image_headers import BOMB, UNREADABLE, BadImageError
from pipeline.errors import DataError
from tests.test_data_decoding import HEIGHT, MAX_PIXELS, WIDTH, far_apart, photograph, stored
from tests.test_source_situations import labels

pillow_heif = pytest.importorskip("pillow_heif")


def heic(image: Image.Image, orientation: int = 1, **options: Any) -> bytes:
    """A HEIC file, with a box that turns it and with EXIF data that say so too, as telephones write both."""
    pillow_heif.register_heif_opener()
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(file, "HEIF", quality=95, chroma=444, exif=exif.tobytes(), **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_heic_comes_out_nearly_as_it_was(mode: str) -> None:
    image = photograph().convert(mode)
    assert far_apart(decode(heic(image), MAX_PIXELS).pixels, image) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_upright_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(stored(photograph(), "JPEG", quality=95, subsampling=0, exif=exif), MAX_PIXELS).pixels
    assert far_apart(decode(heic(photograph(), orientation), MAX_PIXELS).pixels, upright) < 4


def test_transparent_heic_shows_white() -> None:
    image = photograph().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, WIDTH // 2, HEIGHT))
    decoded = decode(heic(image), MAX_PIXELS)
    assert decoded.background == 255 and decoded.pixels[:, :16].min() > 250


def test_the_main_picture_of_several_counts() -> None:
    assert far_apart(decode(heic(photograph(), save_all=True, append_images=[Image.new("RGB", (8, 8))]), MAX_PIXELS).pixels,
                     photograph()) < 3  # fmt: skip


def refusal(data: bytes, max_pixels: int = MAX_PIXELS) -> BadImageError:
    with pytest.raises(BadImageError) as caught:
        decode(data, max_pixels)
    return caught.value


def test_size_of_heic_is_looked_at_before_any_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(photograph())
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    monkeypatch.setattr("pillow_heif.as_plugin._LibHeifImageFile.load", None)
    error = refusal(data, WIDTH * HEIGHT - 1)
    assert (error.problem, error.evidence) == (BOMB, "its header promises 48×32 pixels, more than 1,535")


def test_truncated_heic_is_refused_wherever_it_ends() -> None:
    data = heic(photograph())
    for cut in range(1, len(data) - 12, len(data) // 50):
        assert refusal(data[:-cut]).problem == UNREADABLE, f"{cut} of {len(data)} bytes cut off"


def test_heic_files_are_fetched_whatever_their_name(tmp_path: Path) -> None:
    data = heic(photograph())
    files = {f"{label}/{number}{kind}": data for label in "ab" for number, kind in enumerate([".heic", ".HEIF", ""])}
    assert len(labels(tmp_path, files)) == 3, "three names in two classes"


WITHOUT = r"`pip install -e \.\[heif\]`"


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


def test_without_the_extra_heic_files_are_left_out_by_name(tmp_path: Path, without_extra: None) -> None:
    files = {f"{label}/{number}.heic": b"x" for label in "ab" for number in range(9)}
    with pytest.raises(
        DataError, match=rf"none is left of 'a', 'b':\n  18 \.heic: a \.heic file, which needs {WITHOUT}"
    ):
        labels(tmp_path, files)


def test_without_the_extra_heic_files_of_other_names_are_left_out_too(tmp_path: Path, without_extra: None) -> None:
    data = heic_bytes()
    files = {f"{label}/{number}": data for label in "ab" for number in range(9)} | {"a/9.png": b"", "b/9.png": b""}
    with pytest.raises(DataError, match=rf"(?s)18 of 20 would be:\n  18 without ending: its content needs {WITHOUT}"):
        labels(tmp_path, files)


def test_without_the_extra_decoding_stops_with_what_to_install(without_extra: None) -> None:
    with pytest.raises(
        DataError, match=rf"must be in formats that are read here; some need the extra heif\. Run {WITHOUT}"
    ):
        decode(heic_bytes(), MAX_PIXELS)


def heic_bytes() -> bytes:
    return b"\0\0\0\x18ftypheic" + bytes(200)
