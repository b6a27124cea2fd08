"""The layouts of raw data, and what may be wrong with each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.errors import DataError
from pipeline.data.layouts import read
from tests.idx_files import CLASSES, NUM_TEST, NUM_TRAIN, SIZE, idx, idx_files, write_raw

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "data", idx_files())


def change(folder: Path, **values: Any) -> None:
    about = json.loads((folder / "source.json").read_text()) | values
    (folder / "source.json").write_text(json.dumps({key: value for key, value in about.items() if value is not None}))


def write_arrays(folder: Path, images: Any, labels: Any) -> Path:
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    change(folder, layout="arrays")
    return folder


def test_idx_gives_training_and_test_images(raw: Path) -> None:
    dataset = read(raw)
    assert dataset.name == "sides" and dataset.classes == CLASSES
    assert dataset.train.images.shape == (NUM_TRAIN, SIZE, SIZE, 1) and dataset.train.images.dtype == np.uint8
    assert dataset.train.images.tobytes() == idx_files()[IMAGES][16:]
    assert dataset.train.labels.dtype == np.int64 and dataset.train.labels.tolist()[:4] == [0, 1, 2, 0]
    assert dataset.test is not None and dataset.test.images.shape == (NUM_TEST, SIZE, SIZE, 1)
    assert (dataset.train.path, dataset.test.path) == (IMAGES, "t10k-images-idx3-ubyte")


def test_idx_images_are_mapped_and_not_loaded(raw: Path) -> None:
    base = read(raw).train.images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        assert base.base is not None
        base = base.base
    assert isinstance(base, np.memmap) and base.mode == "r"


def test_arrays_have_no_test_images_of_their_own(raw: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)
    dataset = read(write_arrays(raw, images, np.arange(9) % 3))
    assert dataset.test is None
    assert np.array_equal(dataset.train.images, images) and dataset.train.labels.tolist() == [0, 1, 2] * 3


def test_missing_description_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"source\.json must tell what the data are; there is no .* Run `dvc repro`"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_damaged_description_is_told(raw: Path, content: bytes) -> None:
    (raw / "source.json").write_bytes(content)
    with pytest.raises(DataError, match=r"source\.json must be JSON; got something else"):
        read(raw)


def test_incomplete_description_is_told(raw: Path) -> None:
    change(raw, classes=None, licence=None)
    with pytest.raises(DataError, match=r"source\.json must hold name, layout, .*; it lacks classes, licence\."):
        read(raw)


def test_unknown_layout_is_told(raw: Path) -> None:
    change(raw, layout="cifar")
    with pytest.raises(DataError, match=r"layout in .*source\.json must be one of arrays, idx; got 'cifar'\. Run"):
        read(raw)


def test_missing_file_is_named(raw: Path) -> None:
    (raw / LABELS).unlink()
    with pytest.raises(DataError, match=f"{LABELS} must be there, as source.json says; there is no such file"):
        read(raw)


@pytest.mark.parametrize(
    ("header", "found"),
    [(b"", "nothing"), (b"\0", "00"), (b"\0\0\x08\x01", "00000801"), (b"\x1f\x8b\x08\0", "1f8b0800"),
     (b"\0\0\x0d\x03", "00000d03")],
)  # fmt: skip
def test_file_that_is_not_idx_is_named_with_what_it_begins_with(raw: Path, header: bytes, found: str) -> None:
    (raw / IMAGES).write_bytes(header + idx_files()[IMAGES][4:] if len(header) == 4 else header)
    with pytest.raises(DataError, match=rf"{IMAGES} must begin with the IDX header 00000803; got {found}\. Run"):
        read(raw)


@pytest.mark.parametrize("change_bytes", [-1, 1, -2100])
def test_idx_file_of_the_wrong_length_is_named_with_both_lengths(raw: Path, change_bytes: int) -> None:
    content = idx_files()[IMAGES]
    (raw / IMAGES).write_bytes(content[:change_bytes] if change_bytes < 0 else content + b"x")
    match = rf"{IMAGES} must be 2,176 bytes long, as its header says \(60×6×6\); got {2176 + change_bytes:,}\."
    with pytest.raises(DataError, match=match):
        read(raw)


def test_idx_file_that_ends_in_its_header_is_told(raw: Path) -> None:
    (raw / IMAGES).write_bytes(idx_files()[IMAGES][:10])
    with pytest.raises(DataError, match=rf"{IMAGES} must be .* bytes long, .*; got 10\."):
        read(raw)


def test_idx_file_that_claims_more_than_any_disk_holds_is_told(raw: Path) -> None:
    (raw / IMAGES).write_bytes(b"\0\0\x08\x03" + b"\xff" * 12 + b"pixels")
    with pytest.raises(DataError, match=r"must be 79,228,\d{3},.* bytes long, .*; got 22\."):
        read(raw)


def test_images_and_labels_of_different_number_are_told(raw: Path) -> None:
    (raw / LABELS).write_bytes(idx(np.zeros(59, np.uint8)))
    with pytest.raises(DataError, match="one image for each label, .*; got 60 images and 59 labels"):
        read(raw)


def test_file_without_images_is_told(raw: Path) -> None:
    (raw / IMAGES).write_bytes(idx(np.zeros((0, 6, 6), np.uint8)))
    (raw / LABELS).write_bytes(idx(np.zeros(0, np.uint8)))
    with pytest.raises(DataError, match="and at least one; got 0 images and 0 labels"):
        read(raw)


def test_label_that_no_class_has_is_told(raw: Path) -> None:
    (raw / LABELS).write_bytes(idx(np.full(60, 3, np.uint8)))
    with pytest.raises(DataError, match=r"must be in 0\.\.2, as source\.json names 3 classes; got 3\.\.3\."):
        read(raw)


def test_negative_label_is_told(raw: Path) -> None:
    write_arrays(raw, np.zeros((3, 4, 4, 1), np.uint8), np.array([-1, 0, 1]))
    with pytest.raises(DataError, match=r"got -1\.\.1\."):
        read(raw)


@pytest.mark.parametrize(
    ("images", "found"),
    [(np.zeros((3, 4, 4, 1)), r"float64 of shape \(3, 4, 4, 1\)"), (np.zeros((3, 4), np.uint8), r"uint8 of shape \(3, 4\)")],
)  # fmt: skip
def test_array_of_the_wrong_form_is_told(raw: Path, images: Any, found: str) -> None:
    write_arrays(raw, images, np.arange(3))
    with pytest.raises(
        DataError, match=rf"images\.npy must be uint8 of shape \(n, height, width, channels\); got {found}"
    ):
        read(raw)


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_damaged_array_is_told(raw: Path, content: bytes) -> None:
    write_arrays(raw, np.zeros((3, 4, 4, 1), np.uint8), np.arange(3))
    (raw / "images.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"images\.npy must be a whole \.npy file; got a damaged one"):
        read(raw)


def test_array_cut_short_is_told(raw: Path) -> None:
    write_arrays(raw, np.zeros((3, 4, 4, 1), np.uint8), np.arange(3))
    (raw / "images.npy").write_bytes((raw / "images.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"images\.npy must be a whole \.npy file; got a damaged one"):
        read(raw)


def test_array_of_objects_is_never_unpickled(raw: Path) -> None:
    write_arrays(raw, np.zeros((3, 4, 4, 1), np.uint8), np.arange(3))
    np.save(raw / "labels.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"labels\.npy must be a whole \.npy file"):
        read(raw)
