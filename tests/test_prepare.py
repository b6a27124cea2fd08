"""The prepare stage on small raw datasets."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.config.errors import ConfigError, DataError
from pipeline.config.schema import Config, Prepare
from pipeline.config.stage import Job
from pipeline.prepare import SPLITS, main, prepare
from tests.idx_files import CLASSES, NUM_TEST, NUM_TRAIN, SIZE, idx_files, write_raw

SETTINGS: dict[str, Any] = {
    "size": 8,
    "fit": "pad",
    "random_labels": 0.0,
    "val_fraction": 0.1,
    "confirm_fraction": 0.1,
    "test_fraction": 0.2,
    "limit": None,
    "seed": 0,
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "data", idx_files())


@pytest.fixture
def raw_without_test(tmp_path: Path) -> Path:
    """50 images of each of 3 classes, in colour, 4 pixels high and 5 wide."""
    folder = write_raw(tmp_path / "arrays", {})
    about = json.loads((folder / "source.json").read_text())
    (folder / "source.json").write_text(json.dumps(about | {"layout": "arrays"}))
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (150, 4, 5, 3), np.uint8))
    np.save(folder / "labels.npy", np.arange(150) % 3)
    return folder


def made(source: Path, out: Path, **changed: Any) -> dict[str, Any]:
    """Prepare, and give `dataset.json`."""
    out.mkdir()
    prepare(source=source, out=out, fingerprint="0123456789abcdef", **(SETTINGS | changed))
    content: dict[str, Any] = json.loads((out / "dataset.json").read_text())
    return content


def ids(out: Path, split: str) -> list[str]:
    column: list[str] = pq.read_table(out / split / "ids.parquet")["id"].to_pylist()
    return column


def test_every_split_has_images_labels_and_ids(raw: Path, tmp_path: Path) -> None:
    dataset = made(raw, tmp_path / "out")
    for split in SPLITS:
        images = np.load(tmp_path / "out" / split / "images.npy", mmap_mode="r")
        labels = np.load(tmp_path / "out" / split / "labels.npy")
        assert images.dtype == np.uint8 and images.shape == (len(labels), 8, 8, 1)
        assert labels.dtype == np.int64
        assert np.bincount(labels).tolist() == dataset["counts"][split]
        assert len(ids(tmp_path / "out", split)) == len(labels)
    assert dataset["counts"] == {"train": [16] * 3, "val": [2] * 3, "confirm": [2] * 3, "test": [5] * 3}


def test_ids_lead_back_to_the_raw_pixels(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "out")
    seen = []
    for split in SPLITS:
        images = np.load(tmp_path / "out" / split / "images.npy")
        labels = np.load(tmp_path / "out" / split / "labels.npy")
        table = pq.read_table(tmp_path / "out" / split / "ids.parquet").to_pylist()
        for row, image, label in zip(table, images, labels, strict=True):
            part, position = row["id"].split("-")
            assert row["path"] == {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}[part]
            pixels = idx_files()[row["path"]][16:][int(position) * SIZE**2 :][: SIZE**2]
            assert row["sha256"] == hashlib.sha256(pixels).hexdigest()
            assert image[1:7, 1:7, 0].tobytes() == pixels and (row["width"], row["height"]) == (SIZE, SIZE)
            assert label == int(position) % len(CLASSES)
            seen.append(row["id"])
    assert len(set(seen)) == len(seen) == NUM_TRAIN + NUM_TEST
    assert ids(tmp_path / "out", "test") == [f"test-{position:06d}" for position in range(NUM_TEST)]


def test_dataset_is_described(raw: Path, tmp_path: Path) -> None:
    dataset = made(raw, tmp_path / "out")
    values = np.load(tmp_path / "out" / "train" / "images.npy") / 255
    assert dataset.pop("mean") == pytest.approx([values.mean()]) and dataset.pop("std") == pytest.approx([values.std()])
    del dataset["counts"]
    assert dataset == {
        "name": "sides",
        "classes": CLASSES,
        "size": 8,
        "channels": 1,
        "source": "made on the spot",
        "licence": "none",
        "fingerprint": "0123456789abcdef",
    }
    assert (tmp_path / "out" / "overview.png").read_bytes()[:4] == b"\x89PNG"


def test_source_without_test_images_gets_a_test_split(raw_without_test: Path, tmp_path: Path) -> None:
    dataset = made(raw_without_test, tmp_path / "out")
    assert dataset["counts"] == {"train": [32] * 3, "val": [4] * 3, "confirm": [4] * 3, "test": [10] * 3}
    assert dataset["channels"] == 3 and len(dataset["mean"]) == len(dataset["std"]) == 3
    row = pq.read_table(tmp_path / "out" / "test" / "ids.parquet").to_pylist()[0]
    assert row["path"] == "images.npy" and (row["width"], row["height"]) == (5, 4)


def test_same_settings_give_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "one")
    made(raw, tmp_path / "two")
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 14
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_limit_is_nested_and_leaves_the_other_splits_alone(raw: Path, tmp_path: Path) -> None:
    limits = {"all": None, "twenty": 20, "ten": 10}
    counts = {name: made(raw, tmp_path / name, limit=limit)["counts"] for name, limit in limits.items()}
    assert [sum(count["train"]) for count in counts.values()] == [48, 20, 10]
    chosen = [set(ids(tmp_path / name, "train")) for name in limits]
    assert chosen[0] > chosen[1] > chosen[2]
    for split in ("val", "confirm", "test"):
        pictures = {(tmp_path / name / split / "images.npy").read_bytes() for name in limits}
        assert len(pictures) == 1 and ids(tmp_path / "all", split) == ids(tmp_path / "ten", split)


def test_seed_changes_the_split_of_training_images_only(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "one")
    made(raw, tmp_path / "two", seed=1)
    assert ids(tmp_path / "one", "val") != ids(tmp_path / "two", "val")
    assert ids(tmp_path / "one", "test") == ids(tmp_path / "two", "test")


def test_resize_fills_the_whole_image(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "out", fit="resize", size=12)
    images = np.load(tmp_path / "out" / "train" / "images.npy")
    assert images.shape == (48, 12, 12, 1) and images[:, 0].any()


def test_no_confirm_split_leaves_it_empty(raw: Path, tmp_path: Path) -> None:
    dataset = made(raw, tmp_path / "out", confirm_fraction=0.0)
    assert dataset["counts"]["confirm"] == [0, 0, 0]
    assert np.load(tmp_path / "out" / "confirm" / "images.npy").shape == (0, 8, 8, 1)


def test_terminal_shows_what_was_made(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(raw, tmp_path / "out")
    assert capsys.readouterr().out == "sides: 3 classes, 8×8×1; images: train 48, val 6, confirm 6, test 15\n"


def test_errors_of_the_rooms_reach_the_user(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prepare\.limit must be >= 3"):
        made(raw, tmp_path / "one", limit=2)
    (raw / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="train-images-idx3-ubyte must be there"):
        made(raw, tmp_path / "two")


def test_main_prepares_what_fetch_left(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    config = replace(Config(), prepare=Prepare(**SETTINGS))
    main(Job(config, tmp_path / "out", "fedcba9876543210", tmp_path / "cache", {"fetch": raw}.__getitem__))
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["fingerprint"] == "fedcba9876543210"
