"""Sources as people have them: each gives the right labels, or one sentence that says what to type next."""

import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from pipeline.data.raw_dataset import read
from pipeline.errors import DataError
from pipeline.fetch import fetch_own
from tests.own_source import folder

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
NAMES = [f"img_{number}.png" for number in range(40)]
FLAT = {f"images/{name}": PNG for name in NAMES}
BATCHES = {f"batch_{number // 20}/{name}": PNG for number, name in enumerate(NAMES)}
CLASSES = {f"{'ab'[number % 2]}/{name}": PNG for number, name in enumerate(NAMES)}
LABELS = {name: "ab"[number % 2] for number, name in enumerate(NAMES)}

Files = Mapping[str, bytes | str]


def table(
    line: Callable[[int], str] = lambda n: f"{NAMES[n]},{'ab'[n % 2]}", header: str = "filename,label", end: str = "\n"
) -> str:  # fmt: skip
    """The text of a table with a line for each image."""
    return end.join([*filter(None, [header]), *map(line, range(40))]) + end


def excel(rows: list[list[object]]) -> bytes:
    book, file = Workbook(), io.BytesIO()
    for row in rows:
        book.worksheets[0].append(row)
    book.save(file)
    return file.getvalue()


def labels(tmp_path: Path, files: Files, links: Mapping[str, str] | None = None, **asked: Any) -> dict[str, str]:
    """The label of each image that `fetch` packs, by the name of its file."""
    source = tmp_path / "source"
    for name, data in files.items():
        data = data.replace("@SOURCE@", str(source)) if isinstance(data, str) else data
        (tmp_path / name if name.startswith("store/") else source / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name if name.startswith("store/") else source / name).write_bytes(
            data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape")
        )
    for name, target in (links or {}).items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).symlink_to(tmp_path / target)
    out = tmp_path / "out"
    out.mkdir()
    fetch_own(data=folder(source, **({"max_left_out": 0.01} | asked)), out=out, cache=tmp_path / "cache", root=tmp_path)
    read(out)  # as `prepare` does
    rows = pq.read_table(out / "images-00.parquet", columns=["path", "label"]).to_pylist()
    return {os.path.basename(row["path"]): row["label"] for row in rows}


HAM = table(
    lambda n: f"lesion_{n // 2},img_{n},{'ab'[n % 2]},histo,{50 + n % 3},male", "lesion_id,image_id,dx,dx_type,age,sex"
)
RENAMED = {f"a/{name}" if name in NAMES[:38] else f"b/{name}": PNG for name in NAMES}


@pytest.mark.parametrize(
    ("files", "asked"),
    [
        pytest.param({**FLAT, "labels.csv": text}, {}, id=name)
        for name, text in {
            "semicolon": table(lambda n: f"{NAMES[n]};{'ab'[n % 2]}", "filename;label"),
            "tab": table(lambda n: f"{NAMES[n]}\t{'ab'[n % 2]}", "filename\tlabel"),
            "bar": table(lambda n: f"{NAMES[n]}|{'ab'[n % 2]}", "filename|label"),
            "space after the comma": table(lambda n: f"{NAMES[n]}, {'ab'[n % 2]}", "filename, label"),
            "Excel's mark": "sep=;\n" + table(lambda n: f"{NAMES[n]};{'ab'[n % 2]}", "filename;label"),
            "comment": "# made by us, in May\n" + table(),
            "header behind #": table(header="#filename,label"),
            "old line ends": table(end="\r"),
            "byte order mark": "\ufeff" + table(end="\r\n"),
            "no header": table(header=""),
            "upper case": table(lambda n: f"{NAMES[n].upper()},{'ab'[n % 2]}", "FILENAME,Label"),
            "no extension": table(lambda n: f"img_{n},{'ab'[n % 2]}", "id,breed"),
            "another extension": table(lambda n: f"img_{n}.jpg,{'ab'[n % 2]}"),
            "path of the source": table(lambda n: f"@SOURCE@/images/{NAMES[n]},{'ab'[n % 2]}"),
            "path of another machine": table(lambda n: f"/home/me/set/{NAMES[n]},{'ab'[n % 2]}"),
            "path of Windows": table(lambda n: f"C:\\Users\\me\\{NAMES[n]},{'ab'[n % 2]}"),
            "unknown names": table(lambda n: f"{n},{NAMES[n]},{'ab'[n % 2]}", ",scan,finding"),
            "metadata beside a known name": HAM,
            "one-hot": table(lambda n: f"img_{n},{1 - n % 2},{n % 2}", "image_id,a,b"),
            "one-hot of decimals": table(lambda n: f"img_{n},{1 - n % 2}.0,{n % 2}.0", "image_id,a,b"),
            "boolean split": table(lambda n: f"{NAMES[n]},{'ab'[n % 2]},{n % 4 == 0}", "name,label,is_valid"),
            "an empty column": table(lambda n: f"{NAMES[n]},{'ab'[n % 2]},", "filename,label,"),
            "the same line twice": table() + f"{NAMES[0]},a\n",
        }.items()
    ]
    + [
        pytest.param({**FLAT, "labels.xlsx": excel([["scan", "finding"], *([n, LABELS[n]] for n in NAMES)])}, {}, id="Excel"),
        pytest.param({**FLAT, "list.txt": table(lambda n: f"images/{NAMES[n]} {'ab'[n % 2]}", "")}, {}, id="list of paths"),
        pytest.param({**BATCHES, "t.csv": HAM}, {"layout": "table"}, id="batches, and the layout is asked for"),
        pytest.param({**BATCHES, "t.csv": HAM}, {"columns": {"label": "dx"}}, id="batches, and the column is asked for"),
        pytest.param({**CLASSES, "t.csv": table()}, {}, id="a table says what the folders say"),
        pytest.param(
            {**CLASSES, "t.csv": table(lambda n: f"{NAMES[n]},{'xy'[n % 2]},{n % 5}", "file,code,mood")}, {},
            id="a table says what the folders say, in other words",
        ),
        pytest.param({**CLASSES, "t.csv": table(lambda n: f"{NAMES[n]},{n},{n * 7}", "file,row,bytes")}, {}, id="no labels"),
        pytest.param({**CLASSES, "notes.txt": "Taken in May.\nBy us.\n"}, {}, id="a note"),
    ],
)  # fmt: skip
def test_labels_are_read(tmp_path: Path, files: Files, asked: Mapping[str, Any]) -> None:
    assert labels(tmp_path, files, **asked) == LABELS


@pytest.mark.parametrize(
    ("files", "asked", "message"),
    [
        pytest.param({**FLAT, "labels.csv": text}, {}, message, id=name)
        for name, text, message in [
            (
                "several columns", table(lambda n: f"{NAMES[n]},{'xy'[n % 2]},{n % 3}", "file,mood,size"),
                r"labels\.csv names the images in its column file, and several .*: mood \(x, y\); size \(0, 1, 2\)\. "
                r"Choose one, such as data\.columns=\{label: mood\}\.",
            ),
            (
                "two usual names", table(lambda n: f"{NAMES[n]},{'ab'[n % 2]},{n % 3}", "file,label,class"),
                r"several .*: label \(a, b\); class \(0, 1, 2\)",
            ),
            (
                "measurements", table(lambda n: f"{NAMES[n]},0.{n}7"),
                r"must have a column with their labels too, whose values repeat\. Its other columns: label \(0\.07, 0\.17, ",
            ),
            (
                "no label", table(lambda n: f"{NAMES[n]},{['NaN', 'nan', 'NA', 'null', ''][n] if n < 5 else 'ab'[n % 2]}"),
                r"must give each image a label; got 5 without one \(in line 2, 3, 4, 5, 6\)\. Set data\.drop_unlabelled=true",
            ),
            (
                "two labels in a cell", table(lambda n: f'{NAMES[n]},"{["a,b", "a", "b"][n % 3]}"'),
                r"must give each image one label; it has 'a,b'\. goodfit tells one class an image",
            ),
            (
                "two labels beside each other", table(lambda n: f"{NAMES[n]},{['a b', 'a', 'b'][n % 3]}"),
                r"must give each image one label; it has 'a b'",
            ),
            (
                "two of one-hot", table(lambda n: f"{NAMES[n]},{int(n % 4 > 0)},{int(n % 4 < 2)}", "id,a,b"),
                r"labels\.csv must give each image one label; line 3 gives a, b\.",
            ),
            ("two labels in two lines", table() + f"{NAMES[0]},b\n", r"one label; images/img_0\.png has 'a' and 'b'"),
            ("cells without a column", table() + "img_0.png,a,zzz\n", r"line 42 has more cells than the 2 of the first"),
            ("another encoding", table().replace("a\n", "\udce4\n"), r"its text must be UTF-8 .*data\.layout=folders\."),
            ("two spellings", table(lambda n: f"{NAMES[n]},{'aAbb'[n % 4]}"), r"spell each class alike; got 'A' and 'a'"),
            (
                "few of the images", table(lambda n: f"{NAMES[n]},{'ab'[n % 2]}" if n < 6 else f"gone_{n}.png,a"),
                r"at most 1\.00% .*; 68 of 74 would be:\n  34 \.png: labels\.csv .*data\.max_left_out=0\.92",
            ),
        ]
    ]
    + [
        pytest.param(
            {**BATCHES, "t.csv": HAM}, {},
            r"Choose one: data\.layout=folders \(image folder with 2 classes.*\); data\.layout=table \(images "
            r"listed in t\.csv \(path: image_id; label: dx; group: lesion_id\), 2 classes",
            id="a table and folders that differ",
        ),
        pytest.param(
            {**BATCHES, "t.csv": table(lambda n: f"{NAMES[n]},{'xy'[n % 3 == 0]},{n % 5}", "file,mood,size")}, {},
            r"several of its columns .*: mood .*; size .* or data\.layout=folders, which takes the folders for the classes",
            id="a table that may tell the labels beside folders",
        ),
        pytest.param(
            {**BATCHES, "t.csv": HAM}, {"columns": {"label": "dy"}},
            r"data\.columns\.label must name a column of t\.csv: lesion_id, ", id="a column that is not there",
        ),
        pytest.param(
            CLASSES, {"columns": {"label": "dx"}}, r"data\.columns must be empty where no table names the images; got .*'dx'",
            id="columns of no table",
        ),
        pytest.param(
            {**CLASSES, "t.csv": table()}, {"layout": "folders", "table": "t.csv"},
            r"data\.table must be null for another layout", id="a table that is not read",
        ),
        pytest.param({**BATCHES, "t.xls": b"x"}, {}, r"t\.xls must be .*: a \.xls file must be saved", id="old Excel"),
        pytest.param({**BATCHES, "t.xlsx": b"PK\3\4"}, {}, r"t\.xlsx must be readable as a table", id="damaged Excel"),
        pytest.param(
            {**CLASSES, **{f"{number}.png": PNG for number in range(5)}}, {},
            r"5 of 45 would be:\n  5 \.png: it lies beside the folders .*0\.png, 1\.png, 2\.png, …\)\n.*max_left_out=0\.12 if",
            id="images beside the folders",
        ),
        pytest.param(
            {**CLASSES, **{f"c/{number}.jxl": PNG for number in range(3)}}, {},
            r"each class must keep images; none is left of 'c':\n  3 \.jxl: a \.jxl file \(c/0\.jxl",
            id="a class of another format",
        ),
        pytest.param(
            {f"{label}/{number}.JXL": PNG for label in "ab" for number in range(9)}, {},
            r"none is left of 'a', 'b':\n  18 \.jxl: ", id="another format alone",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told(tmp_path: Path, files: Files, asked: Mapping[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        labels(tmp_path, files, **asked)


def test_unlabelled_images_are_left_out_where_the_user_says_so(tmp_path: Path) -> None:
    text = table(lambda n: f"{NAMES[n]},{'NA' if n < 5 else 'ab'[n % 2]}")
    kept = labels(tmp_path, {**FLAT, "labels.csv": text}, drop_unlabelled=True)
    assert kept == {name: LABELS[name] for name in NAMES[5:]}


def test_a_class_may_be_called_like_none(tmp_path: Path) -> None:
    text = table(lambda n: f"{NAMES[n]},{('NA', 'EU')[n % 2]}")
    assert Counter(labels(tmp_path, {**FLAT, "labels.csv": text}, classes=["EU", "NA"]).values()) == {
        "EU": 20,
        "NA": 20,
    }


def test_classes_that_differ_in_case_alone_are_taken_where_the_user_names_them(tmp_path: Path) -> None:
    text = table(lambda n: f"{NAMES[n]},{'aA'[n % 2]}")
    assert Counter(labels(tmp_path, {**FLAT, "labels.csv": text}, classes=["A", "a"]).values()) == {"A": 20, "a": 20}


def test_one_class_in_two_spellings_of_a_number_is_one(tmp_path: Path) -> None:
    text = table(lambda n: f"{NAMES[n]},{['0', '1', '0.0', '1.0'][n % 4]}")
    assert Counter(labels(tmp_path, {**FLAT, "labels.csv": text}).values()) == {"0": 20, "1": 20}


def test_a_table_adds_groups_to_the_classes_of_the_folders(tmp_path: Path) -> None:
    text = table(lambda n: f"{NAMES[n]},{'ab'[n % 2] if n else 'b'},{n // 4}", "file,label,patient")
    assert labels(tmp_path, {**CLASSES, "t.csv": text}) == LABELS, "the folders tell the labels"
    groups = pq.read_table(tmp_path / "out" / "images-00.parquet", columns=["group"])["group"].to_pylist()
    assert Counter(groups) == {str(number): 4 for number in range(10)}


LINKED = {"a/1.png": PNG, "b/2.png": PNG, "store/c/3.png": PNG, "store/c/4.png": PNG}


def test_a_class_that_is_a_link_is_never_lost(tmp_path: Path) -> None:
    links = {"c": "store/c"}
    with pytest.raises(
        DataError, match=r"1 link leads out of it, such as c: .*store/c\. Set data\.follow_links=true to"
    ):
        labels(tmp_path, LINKED, links)


def test_links_are_followed_where_the_user_says_so(tmp_path: Path) -> None:
    kept = labels(tmp_path, LINKED, {"c": "store/c", "d/5.png": "store/c/4.png"}, follow_links=True)
    assert kept == {"1.png": "a", "2.png": "b", "3.png": "c", "4.png": "c", "5.png": "d"}


def test_what_is_left_out_is_printed_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels(tmp_path, {**CLASSES, "readme.md": "x", "a/notes.txt": "x", "b/notes.txt": "x", "stray.png": PNG})
    printed = capsys.readouterr().out
    assert printed.splitlines()[1:] == [
        "left out; downloads/skipped.csv lists them:",
        "  2 .txt: something else than an image (a/notes.txt, b/notes.txt)",
        "  1 .md: something else than an image (readme.md)",
        "  1 .png: it lies beside the folders of the classes (stray.png)",
    ]
