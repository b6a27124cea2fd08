"""Frames and backgrounds: a network sees the picture, and not the shape of its file."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.data.decoded_images import MODULES
from pipeline.data.pixels import Images, fit_image
from pipeline.data.preparation import Preprocessing, prepared
from pipeline.data.raw_dataset import read
from pipeline.fetch import fetch_digits
from tests.idx_files import idx_files, write_raw
from tests.test_data_decoding import stored
from tests.test_data_wide_samples import written
from tests.test_prepare import issues, made, write_packed
from tests.test_project import ROOT, reachable

HOW = Preprocessing(size=8, channels=3, fit="pad", fill="auto", white_level=None, white_level_given=False)
SKY = (10, 150, 240)
MAX_PIXELS = 10_000


def ready(image: bytes | Images, **changed: Any) -> Images:
    return prepared(image, Preprocessing(**{**vars(HOW), **changed}), MAX_PIXELS)[0]


def drawing(colour: tuple[int, int, int], width: int = 8, height: int = 4, mode: str = "RGBA") -> bytes:
    """A PNG with a filled rectangle in its middle, on transparency."""
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    image.paste((*colour, 255), (2, 1, width - 2, height - 1))
    return stored(image.convert(mode), "PNG")


def photograph() -> bytes:
    """A PNG of 8×4 pixels: sky with something dark in the middle and one odd pixel in a corner."""
    pixels = np.full((4, 8, 3), SKY, np.uint8)
    pixels[1:3, 3:5] = 20
    pixels[0, 0] = 255
    return stored(Image.fromarray(pixels), "PNG")


def test_a_photograph_is_framed_with_the_median_colour_of_its_border() -> None:
    framed = ready(photograph())
    assert (framed[:2] == SKY).all() and (framed[6:] == SKY).all()
    assert framed[2, 0].tolist() == [255] * 3, "the picture itself is untouched"


def test_edge_repeats_the_border() -> None:
    framed = ready(photograph(), fill="edge")
    assert (framed[:2, 0] == 255).all() and (framed[:2, 1:] == SKY).all()


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_a_number_is_the_grey_around_and_under_everything(fill: int) -> None:
    assert (ready(photograph(), fill=fill)[[0, 1, 6, 7]] == fill).all()
    shown = ready(drawing((200, 0, 0)), fill=fill)
    assert (shown[:3] == fill).all() and shown[4, 4].tolist() == [200, 0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("fill", ["auto", "edge"])
def test_a_drawing_on_transparency_stands_on_white_and_in_white(fill: str, mode: str) -> None:
    shown = ready(drawing((200, 200, 200) if mode == "LA" else (200, 0, 0), mode=mode), fill=fill)
    assert (shown[:3] == 255).all() and (shown[:, :2] == 255).all()
    assert shown[4, 4, 0] == 200


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("colour", [(255, 255, 255), (247, 247, 247)])
def test_a_white_drawing_on_transparency_stands_on_black(colour: tuple[int, int, int], mode: str) -> None:
    shown, decoded = prepared(drawing(colour, mode=mode), HOW, MAX_PIXELS)
    assert decoded.white_drawing and decoded.background == 0
    assert (shown[:3] == 0).all() and (shown[4, 2:6] == colour).all()


def test_a_white_drawing_of_16_bits_stands_on_black() -> None:
    values = np.zeros((4, 8, 4), np.uint16)
    values[1:3, 2:6] = 65535
    shown, decoded = prepared(written(values), HOW, MAX_PIXELS)
    assert decoded.white_drawing and (shown[:2] == 0).all() and (shown[4, 2:6] == 255).all()


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 0), (200, 200, 200)])
def test_a_drawing_that_white_shows_stays_on_white(colour: tuple[int, int, int]) -> None:
    assert prepared(drawing(colour), HOW, MAX_PIXELS)[1][3:] == (255, False)


def test_an_opaque_image_with_an_alpha_channel_is_framed_as_others_are() -> None:
    opaque = Image.new("RGBA", (8, 4), (*SKY, 255))
    assert (ready(stored(opaque, "PNG")) == SKY).all()


def test_what_is_wholly_transparent_is_white() -> None:
    assert prepared(stored(Image.new("RGBA", (8, 4)), "PNG"), HOW, MAX_PIXELS)[1][3:] == (255, False)


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_there_is_no_frame_without_pad(fit: str) -> None:
    frames = [ready(photograph(), fit=fit, fill=fill) for fill in ("auto", "edge", 0, 255)]
    assert all(np.array_equal(frame, frames[0]) for frame in frames)


@pytest.mark.parametrize("fill", ["auto", "edge", 0, 200])
@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 2), (17, 16)])
def test_every_fill_keeps_an_even_image_even(shape: tuple[int, int], fill: int | str) -> None:
    fitted = fit_image(np.full((*shape, 3), 77, np.uint8), 16, "pad", fill)
    assert fitted.shape == (16, 16, 3) and set(np.unique(fitted)) <= ({77} if isinstance(fill, str) else {77, fill})


BEFORE_FILL = {
    "digits": "032c87a4664d34953ea398fda123495106dc2beb334f9ac51714bab3ae1a7068",
    "idx": "8f7434d2a1525cc52483f826382849bf11ce3dd2dda9a2e7e3b3887962480b28",
}
"""SHA-256 of `train/images.npy` before there was `prepare.fill`."""


@pytest.mark.parametrize(("name", "size"), [("digits", 32), ("idx", 8)])
def test_sources_of_pixels_keep_their_black_frame_bit_for_bit(name: str, size: int, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    if name == "digits":
        fetch_digits(out=tmp_path / "raw")
    else:
        write_raw(tmp_path / "raw", idx_files())
    dataset = made(tmp_path / "raw", tmp_path / "out", size=size)
    assert dataset.files["train/images.npy"] == BEFORE_FILL[name] and dataset.fill == 0
    assert hashlib.sha256((tmp_path / "out/train/images.npy").read_bytes()).hexdigest() == BEFORE_FILL[name]
    asked = made(tmp_path / "raw", tmp_path / "grey", size=size, fill=90)
    assert asked.fill == 90 and (np.load(tmp_path / "grey/train/images.npy")[:, 0] == 90).all()


def test_the_record_is_enough_to_prepare_an_image_again(tmp_path: Path) -> None:
    """All that a later prediction has is `dataset.json` and the bytes of a file."""
    generator = np.random.default_rng(0)
    wide = [written(generator.integers(0, 4096, (4, 9, 3)).astype(np.uint16)) for _ in range(10)]
    narrow = [stored(Image.fromarray(generator.integers(0, 256, (9, 4, 3), np.uint8)), "PNG") for _ in range(20)]
    drawn = [drawing((shade, 7, 7), height=4 + shade % 5) for shade in range(0, 240, 12)]
    rows = [
        (f"{'ab'[place % 2]}/{place}.png", "ab"[place % 2], data) for place, data in enumerate([*wide, *narrow, *drawn])
    ]
    folder = write_packed(tmp_path / "packed", rows)
    for number, changed in enumerate(
        [{}, {"fit": "crop"}, {"fill": "edge", "size": 5}, {"fill": 40, "white_level": 9000}]
    ):
        out = tmp_path / str(number)
        made(folder, out, near_duplicates=False, **changed)
        record = DatasetRecord.read(out)
        how, files = Preprocessing.of(record), dict(zip(read(folder).ids, [data for *_, data in rows], strict=True))
        for split in ("train", "val", "confirm", "test"):
            images, names = np.load(out / split / "images.npy"), ids_of(out, split)
            again = [prepared(files[name], how, MAX_PIXELS)[0] for name in names]
            assert np.array_equal(images, again)


def test_an_edit_of_a_module_that_makes_pixels_decodes_them_anew() -> None:
    used = reachable(ROOT / "pipeline/data/preparation.py") | {
        "pipeline/data/decoding_job.py",
        "pipeline/data/near_duplicates.py",
    }
    used -= {"pipeline/artefacts/dataset.py"}  # a record of settings, which are digested themselves
    assert {f"pipeline/{module}.py" for module in MODULES} == used


def ids_of(out: Path, split: str) -> list[str]:
    import pyarrow.parquet as pq

    names: list[str] = pq.read_table(out / split / "ids.parquet")["id"].to_pylist()
    return names


def test_white_drawings_on_transparency_are_listed(tmp_path: Path) -> None:
    rows = [(f"{'ab'[place % 2]}/{place}.png", "ab"[place % 2], drawing((place, 9, 9))) for place in range(40)]
    white = [("a/white.png", "a", drawing((255, 255, 255))), ("b/white.png", "b", drawing((255, 255, 255), 10, 5))]
    folder = write_packed(tmp_path / "packed", [*rows, *white])
    made(folder, tmp_path / "out", near_duplicates=False)
    told = {row for row in issues(tmp_path / "out") if row[1] == "white_drawing"}
    assert told == {(name, "white_drawing", "kept") for name, *_ in white}
    assert (tmp_path / "out" / "issues.png").exists()
