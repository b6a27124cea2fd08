"""Sources that are damaged, contradictory or meant to do harm: one message, or one row, and never more memory than allowed."""

import gzip
import io
import json
import os
import random
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.raw_dataset import RawDataset, read
from pipeline.errors import DataError
from pipeline.fetch import fetch_own
from pipeline.source import archives, tables
from pipeline.source.files import Entry
from pipeline.source.user_source import opened
from tests import cifar_files
from tests.idx_files import gzipped, idx_files
from tests.own_source import folder

IMAGES = {f"{label}/{place}.png": f"{label} {place}".encode() * 50 for label in ("ant", "bee") for place in range(4)}


def fetched(tmp_path: Path, source: Path | str, out: str = "out", **changed: Any) -> RawDataset:
    """The dataset that `prepare` reads from a source."""
    (tmp_path / out).mkdir()
    data = folder(source, **changed)
    fetch_own(data=data, out=tmp_path / out, cache=tmp_path / "cache", root=tmp_path)
    return read(tmp_path / out)


def as_folder(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def as_zip(path: Path, files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def as_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def listed(source: Path, max_bytes: int = 10**8) -> tuple[list[str], dict[str, str]]:
    """The files of a source, and the problem of each one that was left out."""
    with opened(str(source), {}, max_bytes) as tree:
        skipped = {each.path: f"{each.problem}: {each.evidence}" for each in tree.listing.skipped}
        return [entry.path for entry in tree.listing.entries], skipped


def content(dataset: RawDataset) -> dict[str, tuple[bytes, str, str, str]]:
    """The bytes, the class, the split and the group of each image."""
    images = [
        image if isinstance(image, bytes) else image.tobytes() for block in dataset.blocks for image in block.read()
    ]
    labels = [dataset.classes[label] for label in dataset.labels]
    return dict(zip(dataset.ids, zip(images, labels, dataset.splits, dataset.groups, strict=True), strict=True))


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def layouts() -> dict[str, dict[str, bytes]]:
    """Files of each layout, by path."""
    lines = [f"{name},{name[:3]},{'test' if '0' in name else 'train'},g{name[4]}" for name in IMAGES]
    images, labels = np.arange(9 * 16, dtype=np.uint8).reshape(9, 4, 4), np.arange(9) % 3
    packed, parquet = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, x_train=images, y_train=labels, x_test=images[:3], y_test=labels[:3])
    image = pa.array([{"bytes": data, "path": name} for name, data in IMAGES.items()])
    pq.write_table(pa.table({"image": image, "label": [name[:3] for name in IMAGES]}), parquet)
    return {
        "folders": IMAGES,
        "splits": {f"{split}/{name}": data for split in ("train", "Valid", "test") for name, data in IMAGES.items()},
        "table": {**{f"all/{name}": data for name, data in IMAGES.items()},
                  "all/labels.csv": "\n".join(["file,label,split,group", *lines]).encode()},
        "parquet": {f"data/{split}-00000-of-00001.parquet": parquet.getvalue() for split in ("train", "test")},
        "idx": gzipped(idx_files()),
        "cifar": cifar_files.cifar_files(),
        "npz": {"sides.npz": packed.getvalue()},
        "npy": {"images.npy": npy(images), "labels.npy": npy(labels)},
    }  # fmt: skip


@pytest.mark.parametrize("layout", layouts())
def test_every_layout_is_the_same_in_a_folder_and_in_each_archive(tmp_path: Path, layout: str) -> None:
    files = {f"my set/{name}": data for name, data in layouts()[layout].items()}
    asked = {"layout": "table"} if layout == "table" else {}
    expected = fetched(tmp_path, as_folder(tmp_path / "plain", files), "plain out", **asked)
    assert len(expected.ids) >= 8 and len(set(expected.ids)) == len(expected.ids)
    for name, make in {"a.zip": as_zip, "a.tar": as_tar, "a.tar.gz": as_tar, "a.tar.xz": as_tar}.items():
        mode = [f"w:{name.removeprefix('a.tar.')}"] if name.count(".") == 2 else []
        archive = make(tmp_path / name, files, *mode)  # type: ignore[operator]
        dataset = fetched(tmp_path, archive, f"{name} out", **asked)
        assert content(dataset) == content(expected) and dataset.classes == expected.classes, name


# What archives may do


def test_tar_that_unpacks_to_more_than_allowed_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = as_tar(tmp_path / "bomb.tar.gz", {"a/1.png": bytes(50_000_000), "b/2.png": b"x"}, "w:gz")
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"must unpack to at most 0\.01 GB; it holds more\. Raise data\.max_gigabytes"):
        fetched(tmp_path, bomb)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_tar_with_a_name_of_gigabytes_takes_no_memory(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("a/1.png")
    member.type, member.size = kind, 40_000_000
    whole = tarfile.TarInfo("a/0.png").tobuf() + member.tobuf(tarfile.GNU_FORMAT) + bytes(40_000_000)
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(whole, 1))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"must be a whole archive; got a damaged one \(a name of 40,000,000 bytes\)"):
        listed(tmp_path / "bomb.tar.gz")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("make", [as_zip, as_tar])
def test_archive_of_too_many_files_is_refused(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 7)
    with pytest.raises(DataError, match=r"data\.source must hold at most 7 files; the archive holds more"):
        listed(make(tmp_path / "many", IMAGES))


def test_member_that_would_fill_the_memory_is_left_out(tmp_path: Path) -> None:
    for number, compression in ((12, zipfile.ZIP_BZIP2), (14, zipfile.ZIP_LZMA)):
        path = as_zip(tmp_path / f"{number}.zip", {"a/1.png": bytes(10_000)}, compression)
        told = f"damaged: zip method {number}, where 0 (stored) or 8 (deflated) is read"
        assert listed(path) == ([], {"a/1.png": told})
        with pytest.raises(DataError, match=rf"Found no file; 1 left out, such as a/1\.png \(zip method {number}"):
            fetched(tmp_path, path, str(number))


def test_reading_takes_no_more_memory_than_a_file_may_have(tmp_path: Path) -> None:
    bomb = as_zip(tmp_path / "bomb.zip", {**IMAGES, "ant/bomb.png": bytes(60_000_000)})
    content = bytearray(bomb.read_bytes())
    place = content.rindex(b"ant/bomb.png") - 46 + 24
    content[place : place + 4] = (900_000).to_bytes(4, "little")  # it announces less than it holds
    bomb.write_bytes(content)
    fetched(tmp_path, as_folder(tmp_path / "warm", IMAGES), "warm out")
    tracemalloc.start()
    dataset = fetched(tmp_path, bomb)
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert len(dataset.ids) == 8 and [(row["path"], row["problem"]) for row in dataset.skipped] == [
        ("ant/bomb.png", "damaged")
    ]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [as_zip, as_tar])
def test_of_two_members_of_one_name_the_last_counts(tmp_path: Path, make: Callable[..., Path]) -> None:
    class Twice(dict[str, bytes]):
        def items(self) -> Any:
            return [*super().items(), ("ant/0.png", b"again")]

    dataset = fetched(tmp_path, make(tmp_path / "twice", Twice(IMAGES)))
    assert len(dataset.ids) == 8 and content(dataset)["ant/0.png"][0] == b"again"


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_damaged_archive_ends_in_a_message_or_in_rows(tmp_path: Path, name: str) -> None:
    kind = name.rpartition(".")[2]
    path = (
        as_zip(tmp_path / name, IMAGES)
        if kind == "zip"
        else as_tar(tmp_path / name, IMAGES, f"w:{kind.removeprefix('tar')}")
    )
    whole, chance = path.read_bytes(), random.Random(0)
    num_good = 0
    for number in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 3, 20])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
        try:
            dataset = fetched(tmp_path, path, str(number))
        except DataError as error:
            assert str(error).endswith(".") and "\n" not in str(error)
        else:
            num_good += 1
            assert len(dataset.ids) + len(dataset.skipped) <= 2 * len(IMAGES)
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.isdecimal()) == [".cache.lock", name]
    assert num_good or kind != "zip", "a zip keeps its whole members"


def test_name_that_is_flagged_as_utf8_and_is_none_is_told(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"größe/1.png": b"x", "b/1.png": b"x"})
    path.write_bytes(path.read_bytes().replace("ö".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match=r"a\.zip must be a whole archive; got a damaged one \(.*codec can't decode"):
        listed(path)


# What a folder may hold


def test_links_that_lead_in_circles_and_pipes_are_told(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "source", IMAGES)
    (source / "ant" / "round.png").symlink_to("round.png")
    (source / "ant" / "up").symlink_to("..")
    os.mkfifo(source / "bee" / "pipe.png")
    found, skipped = listed(source)
    assert sorted(found) == sorted(IMAGES) and skipped == {
        "ant/round.png": "link: it leads to no file",
        "ant/up": "link: it leads to a folder that it lies in",
        "bee/pipe.png": "no_file: it is no regular file",
    }


def test_file_that_vanishes_while_it_is_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, scandir = as_folder(tmp_path / "source", IMAGES), os.scandir

    class Vanishing:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path, self.is_symlink, self.is_dir = entry.name, entry.path, entry.is_symlink, entry.is_dir
            self.is_file, self._entry = entry.is_file, entry

        def stat(self) -> os.stat_result:
            if self.name == "2.png":
                Path(self.path).unlink()
            return self._entry.stat()

    class Scan:
        def __init__(self, path: str) -> None:
            self._found = scandir(path)

        def __enter__(self) -> Any:
            return (Vanishing(entry) for entry in list(self._found))

        def __exit__(self, *error: object) -> None:
            self._found.close()

    monkeypatch.setattr(os, "scandir", Scan)
    found, skipped = listed(source)
    assert len(found) == 6
    assert skipped == {f"{label}/2.png": "damaged: No such file or directory" for label in ("ant", "bee")}


def test_folders_in_folders_are_listed_however_deep(tmp_path: Path) -> None:
    deep = [tmp_path / "source" / "/".join(["d"] * depth) for depth in range(1200)]
    for each in deep:
        each.mkdir()
    (deep[-1] / "1.png").write_bytes(b"x")
    assert listed(tmp_path / "source")[0] == ["d/" * 1199 + "1.png"]
    (deep[-1] / "1.png").unlink()
    for each in reversed(deep):  # which pytest could not
        each.rmdir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "source", IMAGES)
    (source / "ant/0.png").chmod(0)
    dataset = fetched(tmp_path, source)
    assert [(row["path"], row["evidence"]) for row in dataset.skipped] == [("ant/0.png", "Permission denied")]
    (source / "bee").chmod(0)
    try:
        with pytest.raises(DataError, match=r"bee must be readable; it is not \(Permission denied\)"):
            listed(source)
    finally:
        (source / "bee").chmod(stat.S_IRWXU)


def test_empty_files_are_left_to_prepare(tmp_path: Path) -> None:
    dataset = fetched(tmp_path, as_folder(tmp_path / "source", {**IMAGES, "ant/empty.png": b""}))
    assert content(dataset)["ant/empty.png"][:2] == (b"", "ant") and dataset.skipped == []


def test_source_of_which_nothing_can_be_read_is_told(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "source", {"ant/1.png": bytes(1_000_001), "bee/1.png": bytes(1_000_001)})
    with pytest.raises(DataError, match=r"must keep images; none is left of 'ant', 'bee':\n  2 \.png: more bytes than"):
        fetched(tmp_path, source)


# What tables may say


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("t.jsonl", ("[1, 2]\n", r"t\.jsonl must be readable as a table; it is not: not each line is a JSON object")),
        ("t.jsonl", ("5\n", r"not each line is a JSON object")),
        ("t.jsonl", ("{" * 100_000, r"t\.jsonl must be readable as a table; it is not: ")),
        ("t.jsonl", ("[" * 100_000, r"t\.jsonl must be readable as a table; it is not: .*recursion")),
        ("t.csv", ("file,label\n1.png,café\n".encode("latin-1"), r"its text must be UTF-8 \(.* at byte 20\)")),
        ("t.csv", ("file,label\n" + "x" * 200_000, r"t\.csv must be readable as a table; .*field larger than")),
        ("t.parquet", ("PAR1 and no more", r"t\.parquet must be readable as a table; it is not: ")),
        ("t.csv", ("file,label\n8.png,a\n9.png,b\n", r"none of the 2 that it lists is there, such as '8\.png'")),
        ("t.csv", ("file,label\n1.png,a\n2.png,a\n", r"must list at least two classes; its images are all of 'a'")),
        (
            "t.csv",
            (
                "file,label,split\n1.png,a,train\n2.png,b,\n1.png,a,test\n",
                r"one split and group; line 4 gives 1\.png others",
            ),
        ),
    ],
)
def test_table_that_cannot_be_used_is_told(tmp_path: Path, table: str, told: tuple[str | bytes, str]) -> None:
    text, match = told
    with pytest.raises(DataError, match=match):
        fetched(tmp_path, as_folder(tmp_path / "source", {"1.png": b"x", "2.png": b"y", table: text}))


def test_table_that_is_too_large_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 10)
    with pytest.raises(DataError, match=r"t\.csv must be readable as a table; it is not: it holds more than 10 bytes"):
        fetched(tmp_path, as_folder(tmp_path / "source", {"1.png": b"x", "t.csv": "file,label\n1.png,a\n"}))


@pytest.mark.parametrize(
    ("name", "data"), [("t.csv", b"\xff"), ("t.jsonl", b"5"), ("a.parquet", b"x"), ("b.xlsx", b"PK")]
)
def test_damaged_table_beside_good_folders_stops_until_the_user_decides(tmp_path: Path, name: str, data: bytes) -> None:
    source = as_folder(tmp_path / "source", {**IMAGES, name: data})
    with pytest.raises(DataError, match=rf"{name} must be readable as a table; .* or set data\.layout, such as data"):
        fetched(tmp_path, source)
    assert len(fetched(tmp_path, source, "two", layout="folders").ids) == 8


def test_table_in_an_archive_that_was_damaged_stops(tmp_path: Path) -> None:
    archive = as_zip(tmp_path / "a.zip", {**IMAGES, "t.csv": b"file,label\n" * 50}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"file,label\nfile", b"file,label\nelif"))
    with pytest.raises(DataError, match=r"t\.csv must be readable as a table; it is not: Bad CRC-32"):
        fetched(tmp_path, archive)


def test_table_may_call_files_by_their_bare_names(tmp_path: Path) -> None:
    files = {"pictures/1.jpg": b"1", "pictures/2.jpg": b"2", "more/a b.png": b"3", "more/1.jpg": b"4"}
    table = "id;file;label\n;2;a\n;a b.png;b\n;pictures/1;a\n;1.jpg;b\n;1;b\n"
    dataset = fetched(tmp_path, as_folder(tmp_path / "source", {**files, "labels.csv": table}), layout="table")
    assert {name: label for name, (_, label, _, _) in content(dataset).items()} == {
        "pictures/2.jpg": "a", "more/a b.png": "b", "pictures/1.jpg": "a",
    }  # fmt: skip
    told = {row["path"]: row["problem"] for row in dataset.skipped}
    assert told == {"1.jpg": "missing", "1": "missing", "more/1.jpg": "unlisted"}, "of two 1.jpg none is taken"


def test_numbers_and_gaps_in_a_table_mean_what_they_say(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "source", {f"{place}.png": bytes([place]) for place in range(4)})
    columns = {
        "file": [f"{place}.png" for place in range(4)], "label": [0.5, 1.5, float("nan"), 0.5], "group": [0, 1, 2, None],
    }  # fmt: skip
    pq.write_table(pa.table(columns), source / "t.parquet")
    dataset = fetched(tmp_path, source, drop_unlabelled=True)
    assert {name: (label, group) for name, (_, label, _, group) in content(dataset).items()} == {
        "0.png": ("0.5", "0"), "1.png": ("1.5", "1"), "3.png": ("0.5", ""),
    }  # fmt: skip
    assert [(row["path"], row["problem"]) for row in dataset.skipped] == [("2.png", "unlabelled")]


def test_text_that_is_no_unicode_is_spelled_out(tmp_path: Path) -> None:
    lines = [json.dumps({"file": f"{place}.png", "label": f"\ud800{place}", "group": "\udfff"}) for place in range(2)]
    source = as_folder(tmp_path / "source", {"0.png": b"x", "1.png": b"y", "t.jsonl": "\n".join(lines)})
    dataset = fetched(tmp_path, source)
    assert dataset.classes == [r"\ud8000", r"\ud8001"] and dataset.groups == [r"\udfff"] * 2


def test_images_of_a_tar_are_read_in_its_order_whatever_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{place:02d}.png" for place in range(20)]
    table = "file,label\n" + "".join(f"{name},{place % 2}\n" for place, name in reversed(list(enumerate(names))))
    files = {**{name: name.encode() for name in names}, "t.csv": table.encode()}
    asked: list[str] = []
    tree_open = archives.TarTree.open

    def remember(self: archives.TarTree, entry: Entry) -> Any:
        asked.append(entry.path)
        return tree_open(self, entry)

    monkeypatch.setattr(archives.TarTree, "open", remember)
    fetched(tmp_path, as_tar(tmp_path / "a.tar.gz", files, "w:gz"))
    assert [name for name in asked if name != "t.csv"] == names, "or a gzipped one would be unpacked again for each"


# What files of many images may be


def test_copies_are_too_large_together(tmp_path: Path) -> None:
    files = {name: npy(np.zeros((600, 100, 100), np.uint8)) for name in ("x_train.npy", "x_test.npy")}
    files |= {name: npy(np.arange(600) % 3) for name in ("y_train.npy", "y_test.npy")}
    match = r"must be at most 0\.01 GB together, unpacked; x_test\.npy goes beyond that"
    with pytest.raises(DataError, match=match):
        fetched(tmp_path, as_folder(tmp_path / "source", files))
    with pytest.raises(DataError, match=match):
        fetched(tmp_path, as_zip(tmp_path / "both.npz", files), "two")


def test_damaged_arrays_and_foreign_compression_are_told(tmp_path: Path) -> None:
    files = {"images.npy": npy(np.arange(160, dtype=np.uint8).reshape(10, 4, 4)), "labels.npy": npy(np.arange(10) % 2)}
    path = as_zip(tmp_path / "a.npz", files, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(bytes(range(160)), bytes(160)))
    with pytest.raises(DataError, match=r"images\.npy of data\.source must be whole; it is damaged \(Bad CRC-32"):
        fetched(tmp_path, path)
    with pytest.raises(DataError, match=r"b\.npz must hold arrays named images and labels, .*; it holds none"):
        fetched(tmp_path, as_zip(tmp_path / "b.npz", files, zipfile.ZIP_BZIP2), "two")
    with pytest.raises(DataError, match=r"c\.npz must hold arrays named images and labels, .*; it holds c\.npz"):
        fetched(tmp_path, as_zip(tmp_path / "c.npz", {"c.npz": b"x"}), "three")


def test_files_of_one_name_in_two_folders_are_both_kept(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "test", "train")):
        image = pa.array([{"bytes": bytes([number, place]), "path": None} for place in range(2)])
        (tmp_path / f"source/{number}-x/{split}").mkdir(parents=True)
        pq.write_table(
            pa.table({"image": image, "label": ["a", "b"]}), tmp_path / f"source/{number}-x/{split}/0.parquet"
        )
    dataset = fetched(tmp_path, tmp_path / "source")
    assert sorted(dataset.files) == sorted(2 * ["0.parquet", "2-0.parquet", "3-0.parquet"])
    assert sorted(data for data, *_ in content(dataset).values()) == [bytes([a, b]) for a in range(3) for b in range(2)]
    assert sorted(dataset.splits.tolist()) == ["test"] * 2 + ["train"] * 4


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ["emnist-letters-train-images-idx3-ubyte", "emnist-digits-train-images-idx3-ubyte"],
            r"one IDX file with the images of train; it has emnist-digits-.* and emnist-letters-",
        ),
        (["a/images.npy", "a/labels.npy", "b/images.npy", "b/labels.npy"], r"it has one in each of 'a', 'b'"),
        (["a.npz", "b.npz"], r"must hold one \.npz file; it has a\.npz and b\.npz"),
        (["a.parquet"], r"a\.parquet must be a whole Parquet file; it is damaged"),
    ],
)
def test_files_of_many_images_that_do_not_fit_together_are_told(tmp_path: Path, files: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        fetched(tmp_path, as_folder(tmp_path / "source", dict.fromkeys(files, b"x")))


def test_gzipped_files_beside_themselves_count_once(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "source", {**idx_files(), **gzipped(idx_files())})
    assert len(fetched(tmp_path, source).ids) == 75


def test_parquet_files_with_other_columns_are_told(tmp_path: Path) -> None:
    image = pa.array([{"bytes": b"x", "path": None}] * 2)
    (tmp_path / "source").mkdir()
    pq.write_table(pa.table({"image": image, "label": ["a", "b"]}), tmp_path / "source/1.parquet")
    pq.write_table(pa.table({"picture": image, "label": ["a", "b"]}), tmp_path / "source/2.parquet")
    with pytest.raises(
        DataError, match=r"2\.parquet must have the columns of 1\.parquet \(label, image\); it has others"
    ):
        fetched(tmp_path, tmp_path / "source")
