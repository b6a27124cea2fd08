"""The images of the mistakes as they are in `data/`."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artefacts.mistakes import Mistakes
from pipeline.artefacts.source import SourceRecord
from pipeline.page import mistakes, tiles
from pipeline.page.originals import originals
from tests.page_artefacts import dataset_record

MAX_PIXELS = 1_000_000


def of(names: list[str], digests: list[str]) -> Mistakes:
    """Mistakes among the images of these names."""
    number = len(names)
    return Mistakes(
        ids=np.array(names), paths=np.array(names), sha256=np.array(digests),
        images=np.full((number, 16, 16, 1), 9, np.uint8), labels=np.zeros(number, np.int64),
        predicted=np.ones(number, np.int64), probability=np.full(number, 0.9, np.float32),
        probability_of_true=np.full(number, 0.1, np.float32), heat=np.zeros((1, 8, 8), np.float32),
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A raw dataset of three PNG files of 300×100 pixels in two row groups, as `fetch` packs them."""
    pixels = [np.full((100, 300, 3), value, np.uint8) for value in (40, 120, 200)]
    files = [cv2.imencode(".png", image)[1].tobytes() for image in pixels]
    names = [f"cat/{number}.png" for number in range(3)]
    table = pa.table({"image": files, "label": ["cat", "dog", "cat"], "path": names})
    pq.write_table(table, tmp_path / "images-00.parquet", row_group_size=2)
    record = SourceRecord(
        name="made", layout="parquet", found=None, asked=None, parts=None, columns=None, classes=None, licence="none",
        source="made for tests", files={},
    )  # fmt: skip
    record.write(tmp_path)
    return tmp_path


def digest(data: Path, row: int) -> str:
    content = pq.read_table(data / "images-00.parquet")["image"][row].as_py()
    return hashlib.sha256(content).hexdigest()


def test_originals_are_found_by_name_in_every_row_group(data: Path) -> None:
    wanted = of(["cat/2.png", "cat/0.png"], [digest(data, 2), digest(data, 0)])
    found = originals([data], wanted, dataset_record(), MAX_PIXELS)
    assert {index: (image.shape[:2], int(image[0, 0, 0])) for index, image in found.items()} == {
        0: ((100, 300), 200), 1: ((100, 300), 40),
    }  # fmt: skip


def test_every_folder_is_looked_through(data: Path, tmp_path: Path) -> None:
    wanted = of(["cat/2.png", "cat/0.png"], [digest(data, 2), digest(data, 0)])
    assert len(originals([tmp_path / "absent", data, tmp_path / "later"], wanted, dataset_record(), MAX_PIXELS)) == 2


def test_an_image_that_has_changed_since_is_not_shown_for_another(data: Path) -> None:
    assert originals([data], of(["cat/1.png"], [digest(data, 0)]), dataset_record(), MAX_PIXELS) == {}


@pytest.mark.parametrize("name", ["absent", "."])
def test_without_the_raw_data_there_are_no_originals(tmp_path: Path, name: str) -> None:
    assert originals([tmp_path / name], of(["cat/0.png"], [""]), dataset_record(), MAX_PIXELS) == {}


def test_arrays_of_pixels_are_originals_too(tmp_path: Path) -> None:
    images = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.array([0, 1]))
    SourceRecord(
        name="made", layout="arrays", found=None, asked=None, parts=None, columns=None, classes=None, licence="none",
        source="made for tests", files={},
    ).write(tmp_path)  # fmt: skip
    wanted = of(["train-000001"], [hashlib.sha256(images[1].tobytes()).hexdigest()])
    found = originals([tmp_path], wanted, dataset_record(), MAX_PIXELS)
    assert np.array_equal(found[0][..., 0], images[1])


def test_a_mistake_shows_its_original_and_without_it_the_prepared_image() -> None:
    wide = np.zeros((300, 900, 3), np.uint8)
    first, second = mistakes.shown(of(["a.png", "b.png"], ["", ""]), {0: wide}, ["cat", "dog"])
    assert (first.size, first.large, second.size, second.large) == ("900×300", True, "", False)
    assert first.picture.startswith("data:image/webp;base64,") and second.picture.startswith("data:image/png;base64,")
    assert (first.name, first.actual, first.predicted) == ("a.png", "cat", "dog")
    assert first.heat and not second.heat, "a heat map was computed for one alone"


def test_photos_keep_their_shape_and_stay_small() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 1200, 3), dtype=np.uint8)
    photo = tiles.photo(noise)
    picture = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (100, 200, 3) and len(photo) < 20_000


def test_heat_is_orange_for_and_blue_against_and_grey_where_nothing_changes() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[0, 0], heat[7, 7] = 0.5, -0.5
    picture = cv2.imdecode(np.frombuffer(tiles.heat_map(np.full((16, 16, 1), 100, np.uint8), heat), np.uint8), 1)
    assert picture is not None and picture.shape == (128, 128, 3)
    speaks_for, against, nothing = (picture[place, place, ::-1].astype(int) for place in (4, 123, 64))
    assert speaks_for[0] > speaks_for[2] + 60 and against[2] > against[0] + 60
    assert np.ptp(nothing) < 12
    pale = cv2.imdecode(np.frombuffer(tiles.heat_map(np.full((16, 16, 1), 100, np.uint8), heat / 1000), np.uint8), 1)
    assert pale is not None and np.ptp(pale.astype(int), axis=2).max() < 20, "noise is not drawn as evidence"


def test_small_photos_are_stored_without_loss() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 1), dtype=np.uint8)
    picture = cv2.imdecode(np.frombuffer(tiles.photo(pixels), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None and np.array_equal(picture, pixels[..., 0])
