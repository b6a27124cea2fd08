"""The layout of a source is detected from its files; a message tells where none fits, or several do."""

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artefacts.source import SourcePart
from pipeline.errors import DataError
from pipeline.source.detect import detect
from pipeline.source.label_tables import TableKeys
from pipeline.source.layout import Layout
from pipeline.source.user_source import opened

PNG = b"\x89PNG"


def found(root: Path, files: Mapping[str, bytes | str], **asked: Any) -> Layout:
    """The layout that is detected in a folder with these files."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    with opened(str(root), {}, 10**10) as tree:
        kind = asked.pop("kind", None)
        return detect(tree, kind, TableKeys(**asked))


def rows(result: Layout) -> set[tuple[str, str, str, str]]:
    return {(image.entry.path, image.label, image.split, image.group) for image in result.images}


def left_out(result: Layout) -> dict[str, str]:
    return {each.path: each.problem for each in result.skipped}


CLASSES = {"cats/1.jpg": PNG, "cats/2.JPG": PNG, "my dogs/a.png": PNG, "my dogs/video 1/b.png": PNG}


def test_folders_are_classes(tmp_path: Path) -> None:
    result = found(tmp_path, CLASSES)
    assert result.title == "image folder with 2 classes, 4 images, no test split"
    assert {(path, label) for path, label, _, _ in rows(result)} == {
        ("cats/1.jpg", "cats"), ("cats/2.JPG", "cats"), ("my dogs/a.png", "my dogs"), ("my dogs/video 1/b.png", "my dogs"),
    }  # fmt: skip


def test_one_folder_around_everything_counts_for_nothing(tmp_path: Path) -> None:
    wrapped = {f"data set/v2/{path}": data for path, data in CLASSES.items() if "video" not in path}
    assert {label for _, label, _, _ in rows(found(tmp_path, wrapped))} == {"cats", "my dogs"}


def test_names_of_classes_are_composed_unicode(tmp_path: Path) -> None:
    files = {f"{unicodedata.normalize('NFD', name)}/1.png": PNG for name in ("größe", "niño")}
    assert {label for _, label, _, _ in rows(found(tmp_path, files))} == {"größe", "niño"}


def test_what_is_no_image_by_its_name_or_in_no_class_is_left_out(tmp_path: Path) -> None:
    result = found(
        tmp_path, {**CLASSES, "README.md": "x", "cats/notes.txt": "x", "stray.png": PNG, "cats/unknown.xyz": PNG}
    )
    assert left_out(result) == {"README.md": "not_an_image", "cats/notes.txt": "not_an_image", "stray.png": "unlisted"}
    assert ("cats/unknown.xyz", "cats", "", "") in rows(result), "the decoder tells whether it is an image"


def test_splits_in_any_subset_and_spelling(tmp_path: Path) -> None:
    files = {"Training/a/1.png": PNG, "Training/b/2.png": PNG, "valid/a/3.png": PNG, "TEST/b/4.png": PNG}
    result = found(tmp_path / "all", files)
    assert result.title == "image folder with splits, 2 classes, 4 images (train 2, val 1, test 1)"
    assert {(path, split) for path, _, split, _ in rows(result)} == {
        ("Training/a/1.png", "train"), ("Training/b/2.png", "train"), ("valid/a/3.png", "val"), ("TEST/b/4.png", "test"),
    }  # fmt: skip
    assert found(tmp_path / "one", {"train/a/1.png": PNG, "train/b/2.png": PNG}).kind == "splits"


def test_splits_without_train_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"must hold a train folder, with a folder for each class, beside test; it has none"
    ):
        found(tmp_path, {"test/a/1.png": PNG, "test/b/2.png": PNG})


TABLE = "file,label,split,patient\n1.png,cat,train,p1\nsub/2.png,dog,test,p2\n3.png,cat,,\n"
FLAT = {"1.png": PNG, "sub/2.png": PNG, "3.png": PNG}
LISTED = {("1.png", "cat", "train", "p1"), ("sub/2.png", "dog", "test", "p2"), ("3.png", "cat", "", "")}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_table_names_files_labels_splits_and_groups(tmp_path: Path, kind: str) -> None:
    lines = [line.split(",") for line in TABLE.splitlines()]
    records = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    texts = {"csv": TABLE, "tsv": TABLE.replace(",", "\t"), "jsonl": "\n".join(map(json.dumps, records))}
    files: dict[str, bytes | str] = {**FLAT, **({f"labels.{kind}": texts[kind]} if kind in texts else {})}
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), tmp_path / "labels.parquet")
    result = found(tmp_path, files)
    assert rows(result) == LISTED
    assert result.title == (
        f"images listed in labels.{kind} (path: file; label: label; split: split; group: patient), 2 classes, 3 images "
        "(test 1, train 1)"
    )


def test_columns_of_a_table_may_have_other_names(tmp_path: Path) -> None:
    table = TABLE.replace("file,label", "Datei,Tier")
    result = found(tmp_path, {**FLAT, "t.csv": table}, columns={"path": "Datei", "label": "Tier"}, table="t.csv")
    assert rows(result) == LISTED


def test_files_and_lines_without_a_partner_are_told(tmp_path: Path) -> None:
    table = "image,class\n1.png,a\nsub/2.png,b\ngone.png,a\n3.png,\n"
    result = found(tmp_path, {**FLAT, "4.png": PNG, "labels.csv": table}, drop_unlabelled=True)
    assert left_out(result) == {"gone.png": "missing", "3.png": "unlabelled", "4.png": "unlisted"}


def test_table_that_contradicts_itself_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv must give each image one label; 1\.png has 'cat' and 'dog'"):
        found(tmp_path / "one", {**FLAT, "labels.csv": "file,label\n1.png,cat\n1.png,dog\n"})
    with pytest.raises(DataError, match=r"must have train, val or test as its splits; line 2 has 'later'"):
        found(tmp_path / "two", {**FLAT, "labels.csv": "file,label,split\n1.png,cat,later\n"})


def test_two_tables_are_told_and_the_key_decides(tmp_path: Path) -> None:
    files = {**FLAT, "a.csv": "file,label\n1.png,x\n3.png,y\n", "b.csv": "file,label\n1.png,y\n3.png,x\n"}
    with pytest.raises(DataError, match=r"data\.table must name one of the tables that list images: a\.csv, b\.csv\."):
        found(tmp_path, files)
    assert ("1.png", "y", "", "") in rows(found(tmp_path, {}, table="b.csv"))
    with pytest.raises(
        DataError, match=r"data\.table must be a table of the source that names images .*; c\.csv is not\."
    ):
        found(tmp_path, {}, table="c.csv")


def test_several_layouts_are_told_and_the_key_decides(tmp_path: Path) -> None:
    files = {**CLASSES, "labels.csv": "file,label\ncats/1.jpg,x\nmy dogs/a.png,y\n"}
    match = r"in more than one way\. Choose one: data\.layout=folders \(image folder .*\); data\.layout=table \(images"
    with pytest.raises(DataError, match=match):
        found(tmp_path, files)
    assert found(tmp_path, {}, kind="folders").kind == "folders"
    assert found(tmp_path, {}, kind="table").kind == "table"
    with pytest.raises(
        DataError, match=r"data\.layout=idx must fit the files of data\.source; they are 5 files: cats/1"
    ):
        found(tmp_path, {}, kind="idx")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"cats/1.png": PNG}, r"at least two classes.*; .*'cats' alone"),
        (
            {"1.png": PNG, "2.png": PNG},
            r"must hold images in folders named by class, .*Found 2 files: 1\.png, 2\.png\.",
        ),
        ({"notes.txt": "x"}, r"Found 1 files: notes\.txt"),
        ({}, r"Found no file"),
    ],
)
def test_what_is_no_dataset_is_told(tmp_path: Path, files: dict[str, bytes | str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        found(tmp_path, files)


def test_parquet_of_the_hub_tells_its_classes_and_splits(tmp_path: Path) -> None:
    image = pa.array([{"bytes": PNG, "path": "1.png"}] * 2)
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = pa.table({"image": image, "label": [0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for name in ("train-00000-of-00001", "test-00000-of-00001", "validation-00000-of-00001"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    result = found(tmp_path, {})
    assert (result.kind, result.classes) == ("parquet", ["cat", "dog"])
    assert {part.images[0].split("-")[0]: part.split for part in result.parts} == {
        "train": "train", "test": "test", "validation": "val",
    }  # fmt: skip
    assert result.columns["image"] == "image" and result.columns["label"] == "label" and result.columns["path"] is None
    pq.write_table(pa.table({"image": image}), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(
        DataError, match=r"must have a column with labels; it has image\. Name it with data\.columns\.label"
    ):
        found(tmp_path, {})


def test_files_of_many_images_are_known_by_their_names(tmp_path: Path) -> None:
    idx = {
        f"{name}.gz": b"x" for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images.idx3-ubyte")
    }
    assert found(tmp_path / "idx", idx).title == "IDX files, train"
    idx["t10k-labels.idx1-ubyte"] = b"x"
    result = found(tmp_path / "both", {f"raw/{name}": data for name, data in idx.items()})
    test = SourcePart(split="test", images=["raw/t10k-images.idx3-ubyte.gz"], labels="raw/t10k-labels.idx1-ubyte")
    assert result.parts[1] == test
    batches = {
        f"cifar-10-batches-bin/{name}": b"x" for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")
    }
    assert found(tmp_path / "cifar", batches).title == "CIFAR-10 binary files, train and test"
    arrays = {f"{name}_{split}.npy": b"x" for name in "xy" for split in ("train", "test")}
    test = SourcePart(split="test", images=["x_test.npy"], labels="y_test.npy")
    assert found(tmp_path / "npy", arrays).parts[1] == test
    np.savez(tmp_path / "digits.npz", x=np.zeros(1))
    with opened(str(tmp_path / "digits.npz"), {}, 10**10) as tree:
        kinds = [entry.path for entry in tree.listing.entries]
    assert kinds == ["digits.npz"], "an .npz file is one file, though it is a zip archive"
