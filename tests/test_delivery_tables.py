"""How answers are written: CSV, JSON Lines, Parquet and a table for people."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.delivery import tables
from pipeline.delivery.classifier import Answers
from pipeline.errors import ConfigError

CLASSES = ["cat", "dog", "=cow"]


def answers(num_images: int = 3) -> Answers:
    """The last image cannot be read."""
    probabilities = np.tile(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32), (num_images, 1))[:num_images]
    probabilities[-1] = np.nan
    labels: list[str | None] = [CLASSES[index] for index in np.nan_to_num(probabilities).argmax(axis=1)]
    good = num_images - 1
    return Answers(
        [f"{place}.png" for place in range(good)] + ["=bad\x1b[2J\udcff.png"], [*labels[:good], None],
        [*(float(value) for value in probabilities.max(axis=1)[:good]), None], [*(place == 1 for place in range(good)), None],
        [*(["cat"] if place == 0 else ["=cow", "dog"] for place in range(good)), None], [*[None] * good, "it is\nempty"],
        probabilities,
    )  # fmt: skip


def written(
    kind: str, *parts: Answers, top: int | None = None, classes: list[str] = CLASSES, width: int = 100
) -> bytes:
    file = io.BytesIO()
    with tables.writer(kind, file, classes, top, width) as write:
        for each in parts or [answers()]:
            write(each)
    return file.getvalue()


def test_csv_has_a_row_for_each_image_under_one_header() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", answers(), answers()).decode())))
    assert len(rows) == 6
    assert list(rows[0]) == ["image", "label", "probability", "unknown", "set", "error", "p_cat", "p_dog", "p_=cow"]
    assert rows[0]["probability"] == "0.7" and rows[0]["set"] == "cat" and rows[0]["error"] == ""
    assert rows[1]["set"] == "'=cow | dog"
    assert rows[1]["label"] == "'=cow" and rows[1]["unknown"] == "True"
    assert rows[2]["image"] == "'=bad\\x1b[2J\\udcff.png" and rows[2]["error"] == "it is\nempty"
    assert [rows[2][name] for name in ("label", "probability", "unknown", "set", "p_cat")] == [""] * 5


def test_the_most_probable_classes_stand_by_rank() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", top=2).decode())))
    ranked = ["class_1", "probability_1", "class_2", "probability_2"]
    assert list(rows[0])[6:] == ranked
    assert [rows[0][name] for name in ranked] == ["cat", "0.7", "dog", "0.2"]
    assert [rows[2][name] for name in ranked] == [""] * 4


def test_many_classes_are_ranked_unless_all_are_asked_for() -> None:
    names = [f"class {index}" for index in range(30)]
    probabilities = np.full((1, 30), 1 / 30, np.float32)
    one = Answers(["1.png"], ["class 0"], [1 / 30], [None], [None], [None], probabilities)
    assert len(written("csv", one, classes=names).decode().splitlines()[0].split(",")) == 6 + 2 * tables.TOP
    record = json.loads(written("jsonl", one, classes=names, top=30))
    assert len(record["probabilities"]) == 30
    assert record["set"] is None and record["unknown"] is None


def test_json_lines_keep_sets_as_lists_and_names_exact() -> None:
    records = [json.loads(line) for line in written("jsonl").decode().splitlines()]
    assert records[1]["set"] == ["=cow", "dog"] and records[1]["probabilities"]["=cow"] == 0.6
    assert records[2]["image"] == "=bad\x1b[2J\\udcff.png" and records[2]["error"] == "it is\nempty"
    assert "probabilities" not in records[2] and records[2]["label"] is None
    assert b"\x1b" not in written("jsonl"), "a terminal would obey it"
    assert list(json.loads(written("jsonl", top=2).splitlines()[1])["probabilities"]) == ["=cow", "dog"]


@pytest.mark.parametrize("top", [None, 2])
def test_parquet_has_types(top: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 5)
    file = pq.ParquetFile(io.BytesIO(written("parquet", answers(), answers(), answers(), top=top)))
    assert file.metadata.num_rows == 9 and file.metadata.num_row_groups == 2
    rows = file.read().to_pylist()
    assert rows[1]["set"] == ["=cow", "dog"] and rows[1]["unknown"] is True
    assert rows[0]["probability"] == pytest.approx(0.7)
    last = "probability_1" if top else "p_cat"
    assert rows[2][last] is None
    assert rows[2]["image"] == "=bad\x1b[2J\\udcff.png"


def test_a_table_for_people_fits_its_width_and_obeys_no_command() -> None:
    long = answers()._replace(names=["photos/" + 30 * "deep/" + "1.png", "2.png", "bad\x1b[2J.png"])
    lines = written("table", long, width=90).decode().splitlines()
    assert lines[0].split() == ["image", "label", "probability", "next", "set", "note"]
    assert "…" in lines[2] and "1.png" in lines[2] and "0.700" in lines[2] and "dog 0.200" in lines[2]
    assert (lines[3].endswith("unknown") and lines[4].endswith("unreadable: it is\\nempty")) or "unreadable" in lines[4]
    assert "\x1b" not in "".join(lines) and max(map(len, lines[:4])) <= 90


@pytest.mark.parametrize(
    ("chosen", "out", "is_terminal", "expected"),
    [
        (None, None, True, "table"), (None, None, False, "csv"), ("jsonl", None, True, "jsonl"),
        (None, "a.PARQUET", True, "parquet"), (None, "a.ndjson", False, "jsonl"), ("csv", "a.odd", False, "csv"),
        ("parquet", None, False, "parquet"),
    ],
)  # fmt: skip
def test_the_format_follows_what_is_asked_the_name_and_the_place(
    chosen: str | None, out: str | None, is_terminal: bool, expected: str
) -> None:
    assert tables.format_of(chosen, Path(out) if out else None, is_terminal) == expected


def test_formats_that_cannot_be_told_or_shown_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--out must end in \.csv, .*, or --format must tell the format; got 'a\.xlsx'"
    ):
        tables.format_of(None, Path("a.xlsx"), False)
    with pytest.raises(ConfigError, match="--format parquet must go to a file"):
        tables.format_of("parquet", None, True)
