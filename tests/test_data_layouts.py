"""The layouts of raw data, and what may be wrong with each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.errors import DataError
from pipeline.data.layouts import read
from tests import cifar_files
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


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    folder = write_raw(tmp_path / "data", cifar_files.cifar_files())
    change(folder, name="cifar10", layout="cifar", classes=cifar_files.CLASSES)
    return folder


def test_idx_gives_training_and_test_images(raw: Path) -> None:
    dataset = read(raw)
    assert isinstance(dataset.train.images, np.ndarray)
    assert dataset.name == "sides" and dataset.classes == CLASSES
    assert dataset.train.images.shape == (NUM_TRAIN, SIZE, SIZE, 1) and dataset.train.images.dtype == np.uint8
    assert dataset.train.images.tobytes() == idx_files()[IMAGES][16:]
    assert dataset.train.labels.dtype == np.int64 and dataset.train.labels.tolist()[:4] == [0, 1, 2, 0]
    assert dataset.test is not None and dataset.test.images.shape == (NUM_TEST, SIZE, SIZE, 1)
    assert dataset.train.paths == [IMAGES] * NUM_TRAIN and dataset.test.paths == ["t10k-images-idx3-ubyte"] * NUM_TEST


def test_idx_images_are_mapped_and_not_loaded(raw: Path) -> None:
    base = read(raw).train.images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        assert base.base is not None
        base = base.base
    assert isinstance(base, np.memmap) and base.mode == "r"


def test_cifar_batches_give_training_and_test_images_in_their_order(cifar: Path) -> None:
    dataset, number = read(cifar), cifar_files.NUM_IN_BATCH
    assert dataset.train.images.shape == (5 * number, 32, 32, 3)
    assert dataset.test is not None and dataset.test.images.shape == (number, 32, 32, 3)
    batches = [cifar_files.images_and_labels(seed) for seed in range(6)]
    planes = np.concatenate([images for images, _ in batches[:5]])
    everything = dataset.train.images[np.arange(5 * number)]
    assert everything.dtype == np.uint8 and np.array_equal(everything, planes.transpose(0, 2, 3, 1))
    assert np.array_equal(dataset.test.images[np.array([3])], batches[5][0][3:4].transpose(0, 2, 3, 1))
    assert dataset.train.labels.dtype == np.int64
    assert dataset.train.labels.tolist() == [label for _, labels in batches[:5] for label in labels]


def test_each_cifar_image_knows_its_file(cifar: Path) -> None:
    dataset = read(cifar)
    assert dataset.train.paths[:: cifar_files.NUM_IN_BATCH] == [f"data_batch_{number}.bin" for number in range(1, 6)]
    assert dataset.test is not None and set(dataset.test.paths) == {"test_batch.bin"}
    assert len(dataset.train.paths) == len(dataset.train.labels)


@pytest.mark.parametrize("kept_bytes", [0, 1, 3072, 3074, 40 * 3073 - 1])
def test_truncated_cifar_batch_is_named_with_its_length(cifar: Path, kept_bytes: int) -> None:
    path = cifar / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    match = rf"data_batch_4\.bin must be whole records of 3,073 bytes .*, at least one; got {kept_bytes:,} bytes\. Run"
    with pytest.raises(DataError, match=match):
        read(cifar)


def test_missing_cifar_batch_is_named(cifar: Path) -> None:
    (cifar / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"test_batch\.bin must be there, as source\.json says"):
        read(cifar)


def test_cifar_label_that_no_class_has_is_told_with_its_batch(cifar: Path) -> None:
    content = bytearray((cifar / "data_batch_2.bin").read_bytes())
    content[7 * 3073] = 10
    (cifar / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"the labels of .*data_batch_2\.bin must be in 0\.\.9, .*; got 10\."):
        read(cifar)


def test_arrays_have_no_test_images_of_their_own(raw: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)
    dataset = read(write_arrays(raw, images, np.arange(9) % 3))
    assert dataset.test is None
    assert np.array_equal(dataset.train.images[np.arange(9)], images) and dataset.train.labels.tolist() == [0, 1, 2] * 3


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
    change(raw, layout="jpeg")
    with pytest.raises(
        DataError, match=r"layout in .*source\.json must be one of arrays, cifar, idx; got 'jpeg'\. Run"
    ):
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
    with pytest.raises(DataError, match="the train images of .* one for each label; got 60 images and 59 labels"):
        read(raw)


def test_file_without_images_is_told(raw: Path) -> None:
    (raw / IMAGES).write_bytes(idx(np.zeros((0, 6, 6), np.uint8)))
    (raw / LABELS).write_bytes(idx(np.zeros(0, np.uint8)))
    with pytest.raises(DataError, match="must be at least one, .*; got 0 images and 0 labels"):
        read(raw)


def test_label_that_no_class_has_is_told(raw: Path) -> None:
    (raw / LABELS).write_bytes(idx(np.full(60, 3, np.uint8)))
    with pytest.raises(DataError, match=r"must be in 0\.\.2, as source\.json names 3 classes; got 3\."):
        read(raw)


def test_negative_label_is_told(raw: Path) -> None:
    write_arrays(raw, np.zeros((3, 4, 4, 1), np.uint8), np.array([-1, 0, 1]))
    with pytest.raises(DataError, match=r"must be in 0\.\.2, .*; got -1\."):
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
