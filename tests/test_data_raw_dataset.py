"""The layouts of raw data, and what may be wrong with each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artefacts.source import SourcePart
from pipeline.data import raw_dataset
from pipeline.data.raw_dataset import RawDataset, read
from pipeline.errors import DataError
from tests import cifar_files
from tests.idx_files import CLASSES, NUM_TEST, NUM_TRAIN, SIZE, change_record, idx, idx_files, write_raw

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "data", idx_files())


def images_of(dataset: RawDataset, split: str) -> Any:
    """The pixels of a split's images, read block by block."""
    return np.concatenate([np.asarray(block.read()) for block in dataset.blocks])[dataset.splits == split]


def labels_of(dataset: RawDataset, split: str) -> list[int]:
    labels: list[int] = dataset.labels[dataset.splits == split].tolist()
    return labels


def files_of(dataset: RawDataset, split: str) -> list[str]:
    return [file for file, name in zip(dataset.files, dataset.splits, strict=True) if name == split]


def write_arrays(folder: Path, images: Any, labels: Any) -> Path:
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    change_record(folder, layout="arrays")
    return folder


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    folder = write_raw(tmp_path / "data", cifar_files.cifar_files())
    change_record(folder, name="cifar10", layout="cifar", classes=cifar_files.CLASSES)
    return folder


def test_idx_gives_training_and_test_images(raw: Path) -> None:
    dataset = read(raw)
    assert dataset.name == "sides" and dataset.classes == CLASSES
    train = images_of(dataset, "train")
    assert train.shape == (NUM_TRAIN, SIZE, SIZE, 1) and train.dtype == np.uint8
    assert train.tobytes() == idx_files()[IMAGES][16:]
    assert dataset.labels.dtype == np.int64 and labels_of(dataset, "train")[:4] == [0, 1, 2, 0]
    assert images_of(dataset, "test").shape == (NUM_TEST, SIZE, SIZE, 1)
    assert files_of(dataset, "train") == [IMAGES] * NUM_TRAIN
    assert files_of(dataset, "test") == ["t10k-images-idx3-ubyte"] * NUM_TEST
    assert dataset.ids[:2] == ["train-000000", "train-000001"] and dataset.ids[-1] == f"test-{NUM_TEST - 1:06d}"


def test_images_come_in_blocks_of_a_bounded_size(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = images_of(read(raw), "train")
    monkeypatch.setattr(raw_dataset, "BLOCK", 7)
    dataset = read(raw)
    assert max(block.num_images for block in dataset.blocks) == 7
    assert np.array_equal(images_of(dataset, "train"), whole)


def test_user_s_own_file_names_are_read_where_the_description_tells_them(raw: Path) -> None:
    (raw / IMAGES).rename(raw / "mine.idx3")
    (raw / LABELS).rename(raw / "mine.idx1")
    change_record(raw, parts=[SourcePart(split="train", images=["mine.idx3"], labels="mine.idx1")])
    dataset = read(raw)
    assert (
        len(dataset.labels) == NUM_TRAIN
        and set(dataset.splits.tolist()) == {""}
        and set(dataset.files) == {"mine.idx3"}
    )


def test_cifar_batches_give_training_and_test_images_in_their_order(cifar: Path) -> None:
    dataset, number = read(cifar), cifar_files.NUM_IN_BATCH
    batches = [cifar_files.images_and_labels(seed) for seed in range(6)]
    planes = np.concatenate([images for images, _ in batches[:5]])
    train = images_of(dataset, "train")
    assert train.shape == (5 * number, 32, 32, 3) and train.dtype == np.uint8
    assert np.array_equal(train, planes.transpose(0, 2, 3, 1))
    assert np.array_equal(images_of(dataset, "test"), batches[5][0].transpose(0, 2, 3, 1))
    assert dataset.labels.dtype == np.int64
    assert labels_of(dataset, "train") == [label for _, labels in batches[:5] for label in labels]


def test_each_cifar_image_knows_its_file(cifar: Path) -> None:
    dataset = read(cifar)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    assert files_of(dataset, "train")[:: cifar_files.NUM_IN_BATCH] == names
    assert set(files_of(dataset, "test")) == {"test_batch.bin"}


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
    assert np.array_equal(images_of(dataset, ""), images) and labels_of(dataset, "") == [0, 1, 2] * 3


def test_grey_arrays_may_leave_out_the_channels(raw: Path) -> None:
    dataset = read(write_arrays(raw, np.zeros((3, 4, 5), np.uint8), np.arange(3, dtype=np.uint8)[:, None]))
    assert images_of(dataset, "").shape == (3, 4, 5, 1) and labels_of(dataset, "") == [0, 1, 2]


def test_missing_description_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"that fetch finished; got .*source\.json .*: there is no such file\. Run `dvc repro"
    ):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_damaged_description_is_told(raw: Path, content: bytes) -> None:
    (raw / "source.json").write_bytes(content)
    with pytest.raises(DataError, match=r"that fetch finished; got .*source\.json cannot be read: .*Run `dvc repro"):
        read(raw)


def test_incomplete_description_is_told(raw: Path) -> None:
    content = json.loads((raw / "source.json").read_text())
    del content["licence"], content["digest"]
    (raw / "source.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"source\.json cannot be read: licence: field required\. Run `dvc repro fetch`"
    ):
        read(raw)


def test_part_without_its_labels_is_told(raw: Path) -> None:
    change_record(raw, parts=[SourcePart(split="train", images=[IMAGES])])
    with pytest.raises(
        DataError, match=rf"source\.json must name the file with the labels of {IMAGES}; it names none\. Run"
    ):
        read(raw)


def test_unknown_layout_is_told(raw: Path) -> None:
    change_record(raw, layout="jpeg")
    with pytest.raises(
        DataError, match=r"layout in .*source\.json must be one of arrays, cifar, idx, parquet; got 'jpeg'\. Run"
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
        DataError,
        match=rf"images\.npy must be uint8 of shape \(n, height, width\), or with 1 or 3 channels behind; got {found}",
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


def test_labels_that_are_no_numbers_are_told(raw: Path) -> None:
    write_arrays(raw, np.zeros((3, 4, 4, 1), np.uint8), np.array([0.0, 1.0, 2.0]))
    with pytest.raises(
        DataError, match=r"labels\.npy must be whole numbers of shape \(n,\); got float64 of shape \(3,\)"
    ):
        read(raw)


def write_table(folder: Path, file: str = "images-00.parquet", **columns: Any) -> None:
    image = pa.array([{"bytes": data, "path": None} for data in columns.pop("image")])
    pq.write_table(pa.table({"image": image, **columns}), folder / file, row_group_size=2)


@pytest.fixture
def tables(raw: Path) -> Path:
    """Two Parquet files of three images each, without anything but images and labels."""
    write_table(raw, "train-0.parquet", image=[b"a", b"b", None], label=["cat", "dog", "cat"])
    write_table(raw, "test-0.parquet", image=[b"d", b"e", b"f"], label=["dog", "dog", "cat"])
    parts = [SourcePart(split=split, images=[f"{split}-0.parquet"]) for split in ("train", "test")]
    change_record(raw, layout="parquet", classes=None, parts=parts)
    return raw


@pytest.mark.parametrize("label", [["cat"], {"name": "cat"}])
def test_lists_and_mappings_as_labels_are_told(tables: Path, label: object) -> None:
    write_table(tables, "train-0.parquet", image=[b"a", b"b"], label=[label, label])
    with pytest.raises(
        DataError,
        match=r"must have one value a row in 'label', the column with the label; it has (list|struct)<.*columns={label: …}",
    ):
        read(tables)


def test_parquet_files_give_encoded_images_and_a_class_map(tables: Path) -> None:
    dataset = read(tables)
    assert [data for block in dataset.blocks for data in block.read()] == [b"a", b"b", b"", b"d", b"e", b"f"]
    assert [block.num_images for block in dataset.blocks] == [2, 1, 2, 1]
    assert dataset.classes == ["cat", "dog"] and dataset.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert dataset.splits.tolist() == ["train"] * 3 + ["test"] * 3
    assert dataset.ids[0] == "train-0-000000" and len(set(dataset.ids)) == 6


def test_columns_of_packed_files_are_read(raw: Path) -> None:
    write_table(
        raw, image=[b"a", b"b"], label=["ñu", "a cat"], path=["x/1.png", "y/2.png"], split=["test", None], group=["p1", None]
    )  # fmt: skip
    (raw / "skipped.csv").write_text("path,problem,evidence\nx/link,link,leads to /etc\n")
    change_record(raw, layout="parquet", classes=None)
    dataset = read(raw)
    assert dataset.classes == ["a cat", "ñu"] and dataset.splits.tolist() == ["test", ""]
    assert (dataset.ids, dataset.groups) == (["x/1.png", "y/2.png"], ["p1", ""])
    assert dataset.skipped == [{"path": "x/link", "problem": "link", "evidence": "leads to /etc"}]


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tables: Path) -> None:
    write_table(tables, "train-0.parquet", image=[b"a", b"b", b"c"], label=["10", "9", "9"])
    write_table(tables, "test-0.parquet", image=[b"a"], label=["9"])
    dataset = read(tables)
    assert dataset.classes == ["9", "10"] and dataset.labels.tolist() == [1, 0, 0, 0]


def test_names_of_numbered_labels_come_from_the_description(tables: Path) -> None:
    write_table(tables, "train-0.parquet", image=[b"a", b"b", b"c"], label=[2, 0, 1])
    write_table(tables, "test-0.parquet", image=[b"a"], label=[2])
    change_record(tables, classes=["x", "y", "z"])
    assert read(tables).classes == ["x", "y", "z"] and read(tables).labels.tolist() == [2, 0, 1, 2]
    change_record(tables, classes=["x", "y"])
    with pytest.raises(DataError, match=r"labels must be in 0\.\.1, as data\.classes names 2 classes; got 2\."):
        read(tables)


def test_class_that_the_description_does_not_name_is_told(tables: Path) -> None:
    change_record(tables, classes=["cat"])
    with pytest.raises(DataError, match=r"data\.classes must name every class of the data; it lacks 'dog'\."):
        read(tables)


def test_image_without_a_label_is_told(tables: Path) -> None:
    write_table(tables, "test-0.parquet", image=[b"a", b"b"], label=["cat", None])
    with pytest.raises(DataError, match=r"test-0\.parquet must have a label for each image; row 1 has none\."):
        read(tables)


def test_parquet_file_without_its_columns_is_told(tables: Path) -> None:
    pq.write_table(pa.table({"picture": [b"a"], "label": ["cat"]}), tables / "test-0.parquet")
    with pytest.raises(
        DataError, match=r"must have the columns 'image' and 'label'; it has label, picture\. Name them"
    ):
        read(tables)


def test_missing_and_damaged_parquet_files_are_told(tables: Path) -> None:
    (tables / "test-0.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(DataError, match=r"test-0\.parquet must be a whole Parquet file; got a damaged one"):
        read(tables)
    (tables / "test-0.parquet").unlink()
    with pytest.raises(DataError, match=r"test-0\.parquet must be there, as source\.json says"):
        read(tables)


def test_splits_of_a_column_go_by_many_names(raw: Path) -> None:
    change_record(raw, layout="parquet", classes=None)
    write_table(raw, image=[b"a", b"b", b"c"], label=["x", "y", "x"], split=["Training", "validation", "TEST"])
    assert read(raw).splits.tolist() == ["train", "val", "test"]
    write_table(raw, image=[b"a", b"b"], label=["x", "y"], split=["train", "later"])
    with pytest.raises(
        DataError, match=r"must have train, val or test as its splits; got 'later'\. Name another column"
    ):
        read(raw)
