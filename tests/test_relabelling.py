"""Corrected labels: read from a person's table, checked against the source, kept with the images, and used by what follows."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artefacts.source import RELABELLING, Correction, SourceRecord
from pipeline.config.schema_data import Folder
from pipeline.data import raw_dataset
from pipeline.data.relabelling import relabelled
from pipeline.errors import DataError
from pipeline.fetch import fetch_own
from pipeline.source import relabel_table
from pipeline.source.user_source import asked, version
from tests.own_source import folder

TABLE = "path,old,new\ncat/1.png,cat,dog\n"


def picture(path: Path, seed: int) -> bytes:
    image = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path.read_bytes()


def in_folders(root: Path) -> str:
    for number, name in enumerate(("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")):
        picture(root / "photos" / name, number)
    return "cat/1.png"


def in_splits(root: Path) -> str:
    for number, name in enumerate(
        ("train/cat/0.png", "train/cat/1.png", "train/dog/0.png", "test/cat/2.png", "test/dog/2.png")
    ):
        picture(root / "photos" / name, number)
    return "train/cat/1.png"


def in_table(root: Path) -> str:
    for number in range(4):
        picture(root / "photos" / "images" / f"{number}.png", number)
    lines = ["file,label", *(f"images/{number}.png,{'cat' if number < 2 else 'dog'}" for number in range(4))]
    (root / "photos" / "labels.csv").write_text("\n".join(lines) + "\n")
    return "images/1.png"


def in_parquet(root: Path) -> str:
    images = [picture(root / "made" / f"{number}.png", number) for number in range(4)]
    (root / "photos").mkdir()
    table = pa.table({"image": [{"bytes": image} for image in images], "label": ["cat", "cat", "dog", "dog"]})
    pq.write_table(table, root / "photos" / "all.parquet")
    return "all-000001"


def in_arrays(root: Path) -> str:
    (root / "photos").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    np.savez(root / "photos" / "all.npz", train_images=images, train_labels=np.array([0, 0, 1, 1]))
    return "train-000001"


def fetched(root: Path, relabel: str | None = "relabel.csv", **changed: object) -> Path:
    out = root / "out"
    out.mkdir()
    data = folder("photos", relabel=relabel, **changed)
    fetch_own(data=data, out=out, cache=root / "cache", root=root)
    return out


@pytest.mark.parametrize("layout", [in_folders, in_splits, in_table, in_parquet, in_arrays])
def test_a_corrected_label_is_what_prepare_reads_in_every_layout(tmp_path: Path, layout: object) -> None:
    path = layout(tmp_path)  # type: ignore[operator]
    names = {"classes": ["cat", "dog"]} if layout is in_arrays else {}
    (tmp_path / "relabel.csv").write_text(f"path,old,new\n{path},cat,dog\n")
    raw = raw_dataset.read(fetched(tmp_path, **names))
    told = {name: raw.classes[label] for name, label in zip(raw.ids, raw.labels.tolist(), strict=True)}
    assert told[path] == "dog" and list(told.values()).count("cat") == (2 if layout is in_splits else 1)
    assert raw.corrected == {path: "cat"}


def test_the_corrections_are_kept_with_the_images_and_in_one_form(tmp_path: Path) -> None:
    in_folders(tmp_path)
    (tmp_path / "relabel.csv").write_text(
        "\ufeffnew;confidence;path;old\ndog;0.93;cat/1.png;cat\ndog;;dog/0.png;dog\n", encoding="utf-8"
    )
    out = fetched(tmp_path)
    assert (out / RELABELLING).read_text() == "path,old,new\ncat/1.png,cat,dog\ndog/0.png,dog,dog\n"
    assert RELABELLING in SourceRecord.read(out).files
    assert raw_dataset.read(out).corrected == {"cat/1.png": "cat", "dog/0.png": "dog"}, (
        "a label that was found right, too"
    )


def test_a_class_that_loses_its_last_image_is_gone(tmp_path: Path) -> None:
    in_folders(tmp_path)
    picture(tmp_path / "photos" / "bird" / "0.png", 9)
    (tmp_path / "relabel.csv").write_text("path,old,new\nbird/0.png,bird,cat\n")
    raw = raw_dataset.read(fetched(tmp_path))
    assert raw.classes == ["cat", "dog"] and np.bincount(raw.labels).tolist() == [3, 2]


@pytest.mark.parametrize("name", ["=sum(1).png", "-1.png", "a, b.png", " c .png", "größe\n.png"])
def test_any_name_survives_the_way_through_the_table(tmp_path: Path, name: str) -> None:
    in_folders(tmp_path)
    picture(tmp_path / "photos" / "cat" / "x.png", 9)
    corrections = relabel_table.to_csv(relabel_table.COLUMNS, [[name, "=cat", "dog"]])
    (tmp_path / "relabel.csv").write_text(corrections, encoding="utf-8")
    text = relabel_table.corrections(folder("photos", relabel="relabel.csv"), tmp_path)
    assert text.replace(" ", "") == corrections.replace(" ", "")
    (tmp_path / "again.csv").write_text(text)
    rows = [Correction(**row) for row in raw_dataset.read_csv(tmp_path / "again.csv")]
    assert relabelled([name, "other"], np.array([0, 1]), ["=cat", "dog"], rows).labels.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,old,new\ncat/9.png,cat,dog\n", "must name images of data.source by their paths; 'cat/9.png' names none of them"),
        ("path,old,new\ncat/1.png,dog,cat\n", "what data.source gives; cat/1.png is 'cat' there, not 'dog'. Take that row out"),
        ("path,old,new\ncat/1.png,cat,dgo\n", r"one of the classes as the new label \(cat, dog\); cat/1.png gets 'dgo'"),
        (TABLE + "cat/1.png,cat,cat\n", "must give each image one row; cat/1.png has several. Keep one of them"),
        ("path,new\ncat/1.png,dog\n", "must have the columns path, old and new; relabel.csv lacks old. Keep the first line"),
        ("path,old,new\ncat/1.png,cat,\n", "in each row; line 2 of relabel.csv has no new. Fill it in, or take the row out"),
        ("", "must have the columns path, old and new; relabel.csv lacks path, old, new"),
        ("path,old,new\n1,2\n1,2,3,4\n", "must be readable as a table; relabel.csv is not: line 3 has more cells"),
    ],
)  # fmt: skip
def test_what_does_not_fit_stops_with_one_sentence(tmp_path: Path, table: str, message: str) -> None:
    in_folders(tmp_path)
    (tmp_path / "relabel.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        fetched(tmp_path)


def test_a_table_that_is_not_there_or_no_table_is_told(tmp_path: Path) -> None:
    in_folders(tmp_path)
    (tmp_path / "suspects.ods").write_text("x")
    with pytest.raises(
        DataError, match=r"must be a table .* that is there; got relabel.csv, which is not. `python -m pipeline.audit"
    ):
        fetched(tmp_path)
    with pytest.raises(DataError, match=r"must be a .csv file; got suspects.ods. Save it as one"):
        relabel_table.corrections(folder("photos", relabel="suspects.ods"), tmp_path)


def test_a_new_class_is_taken_where_data_classes_names_it(tmp_path: Path) -> None:
    in_folders(tmp_path)
    (tmp_path / "relabel.csv").write_text("path,old,new\ncat/1.png,cat,fox\n")
    raw = raw_dataset.read(fetched(tmp_path, classes=["cat", "dog", "fox"]))
    assert raw.classes == ["cat", "dog", "fox"] and sorted(raw.labels.tolist()) == [0, 1, 1, 2]


def test_two_images_of_one_path_cannot_be_told_apart() -> None:
    with pytest.raises(DataError, match=r"'a.png' is the path of 2. Take that row out"):
        relabelled(
            ["a.png", "a.png"], np.array([0, 0]), ["cat", "dog"], [Correction(path="a.png", old="cat", new="dog")]
        )


def test_an_edit_of_the_table_is_noticed_and_the_source_stays_the_same(tmp_path: Path) -> None:
    in_folders(tmp_path)
    table = tmp_path / "relabel.csv"
    table.write_text(TABLE)
    with_table, without = folder("photos", relabel="relabel.csv"), folder("photos")
    before = version(with_table, tmp_path)
    table.write_text(TABLE + "dog/1.png,dog,cat\n")
    assert len({before, version(with_table, tmp_path), version(without, tmp_path)}) == 3
    table.unlink()
    assert version(with_table, tmp_path) is None and asked(with_table) == asked(without)


def test_images_that_are_kept_without_their_source_take_corrections_or_lose_them(tmp_path: Path) -> None:
    in_folders(tmp_path)
    out = fetched(tmp_path, relabel=None)
    (tmp_path / "relabel.csv").write_text(TABLE)
    with_table, without = folder("photos", relabel="relabel.csv"), folder("photos")

    def fingerprint(data: Folder) -> str | None:
        return relabel_table.fingerprint(data, tmp_path, SourceRecord.read(out), "first")

    assert fingerprint(without) == "first" != fingerprint(with_table)
    relabel_table.put_in_place(with_table, tmp_path, out)
    assert raw_dataset.read(out).corrected == {"cat/1.png": "cat"} and fingerprint(with_table) == "first"
    (tmp_path / "relabel.csv").unlink()
    assert fingerprint(with_table) == "first", "a table that is gone leaves its corrections"
    assert fingerprint(folder("photos", relabel=None)) != "first"
    relabel_table.put_in_place(without, tmp_path, out)
    assert raw_dataset.read(out).corrected == {} and fingerprint(with_table) is None
