"""Images beside a table that names each file and its label."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from pipeline.errors import DataError
from pipeline.source.containers import image_column
from pipeline.source.files import READ_ERRORS, DamagedError, Entry, Skipped, Tree, read, reason
from pipeline.source.layout import (
    COLUMNS,
    SPLITS,
    TABLES,
    Found,
    Row,
    UnfitError,
    class_name,
    counted,
    ending,
    has_image_names,
    match_columns,
    may_be_image,
    spelled,
)

MAX_TABLE_BYTES = 1 << 28
"""Its rows take some ten times as much memory; a million of them are 50 MB."""


@dataclass(frozen=True)
class _Table:
    """The rows of a file, the number of the first one for people, and which columns tell what."""

    path: str
    lines: list[dict[str, Any]]
    first: int
    columns: dict[str, str | None]

    def text(self, line: Mapping[str, Any], key: str) -> str:
        """What a row says in the column of `key`; an empty text where it says nothing."""
        column = self.columns[key]
        value = line.get(column) if column else None
        return "" if value is None or value != value else spelled(str(value)).strip()  # not a number: nothing, too


def listed_in_table(tree: Tree, chosen: str | None, columns: Mapping[str, str]) -> Found | None:
    if not has_image_names(tree.listing.entries):
        return None
    files = _Files(tree.listing.entries)
    there, problems = [], []
    for entry in tree.listing.entries:
        if ending(entry.path) in TABLES and chosen in (None, entry.path):
            try:
                lines, first = _lines(tree, entry)
            except DamagedError as error:
                problems.append(f"{entry.path} must be readable as a table; it is not: {error}.")
                continue
            table = _Table(entry.path, lines, first, match_columns(list(lines[0]) if lines else [], columns))
            if table.columns["path"] and table.columns["label"]:
                there.append(table)
    if chosen is not None and not there and not problems:
        wanted = {key: columns.get(key) or " or ".join(COLUMNS[key]) for key in ("path", "label")}
        raise DataError(
            f"data.table must be a CSV, TSV, JSON Lines or Parquet file of the source with a column {wanted['path']} and a "
            f"column {wanted['label']}; {chosen} is not. Name its columns with data.columns."
        )
    matched = {}
    for table in there:
        rows, skipped = _listed(table, files)
        if rows:
            matched[table.path] = (rows, skipped)
        else:
            problems.append(
                f"{table.path} must list files of data.source with their labels; none of the {len(table.lines):,} that it "
                f"lists is there, such as {table.text(table.lines[0], 'path')!r}."
            )
    if len(matched) > 1:
        raise DataError(f"data.table must name one of the tables that list images: {', '.join(sorted(matched))}.")
    if not matched:
        if problems:
            raise UnfitError(problems[0])
        return None
    [(path, (rows, skipped))] = matched.items()
    if len({row.label for row in rows}) < 2:
        raise UnfitError(f"{path} must list at least two classes; its images are all of {rows[0].label!r}.")
    counts = Counter(row.split for row in rows if row.split)
    splits = f" ({', '.join(f'{name} {number:,}' for name, number in sorted(counts.items()))})" if counts else ""
    return Found("table", f"images listed in {path}, {counted(rows)}{splits or ', no test split'}", rows, skipped)


def _listed(table: _Table, files: "_Files") -> tuple[list[Row], list[Skipped]]:
    """The images that a table lists, as far as they are there; and the files and lines that have no partner."""
    rows: dict[str, Row] = {}
    skipped = {}
    for number, line in enumerate(table.lines, start=table.first):
        written = table.text(line, "path").replace("\\", "/").removeprefix("./")
        place = files.named(written, table.path.rpartition("/")[0])
        label = class_name(table.text(line, "label"))
        if place is None:
            path = written or f"{table.path}, line {number}"
            skipped[path] = Skipped(path, "missing", f"{table.path} lists it; there is no such file")
            continue
        if not label:
            skipped[place] = Skipped(place, "unlabelled", f"line {number} of {table.path} gives it no label")
            continue
        split = table.text(line, "split").lower()
        if split and split not in SPLITS:
            raise DataError(f"{table.path} must have train, val or test as its splits; line {number} has {split!r}.")
        row = Row(files.by_path[place], label, SPLITS.get(split, ""), table.text(line, "group"))
        before = rows.setdefault(place, row)
        if before.label != label:
            raise DataError(f"{table.path} must give each image one label; {place} has {before.label!r} and {label!r}.")
        if before != row:
            raise DataError(
                f"{table.path} must give each image one split and group; line {number} gives {place} others than before."
            )
    for path in files.by_path:
        if path not in rows and path not in skipped and path != table.path and may_be_image(path):
            skipped[path] = Skipped(path, "unlisted", f"{table.path} does not list it")
    in_order = [rows[path] for path in files.by_path if path in rows]  # as the source is best read
    return in_order, [each for path, each in skipped.items() if path not in rows]


class _Files:
    """The files of a source by what a table may call them."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.by_path = {entry.path: entry for entry in entries}

    def named(self, written: str, home: str) -> str | None:
        """The file of that path, seen from the folder `home` or from the source's; without its ending where it has none.

        A bare name is looked for in all folders, and taken where it is the only one.
        """
        paths = [f"{home}/{written}".lstrip("/"), written]
        exact = next((path for path in paths if path in self.by_path), None)
        if exact is not None or not written:
            return exact
        if "/" in written:
            paths = [f"/{path}" for path in paths]
        return next((found for path in paths if (found := self._others.get(path)) is not None), None)

    @cached_property
    def _others(self) -> dict[str, str | None]:
        """Files by their path without its ending, after a slash, and by their bare name with and without it; None: several."""
        others: dict[str, str | None] = {}
        for path in self.by_path:
            if may_be_image(path):
                name = PurePosixPath(path)
                for other in {f"/{name.with_suffix('')}", name.name, name.stem}:
                    others[other] = None if other in others else path
        return others


def _lines(tree: Tree, entry: Entry) -> tuple[list[dict[str, Any]], int]:
    """The rows of a table, and the number of the first one.

    Raises:
        DamagedError: The file cannot be read as one.
    """
    kind = ending(entry.path)
    if entry.size > MAX_TABLE_BYTES:
        raise DamagedError(f"it holds more than {MAX_TABLE_BYTES:,} bytes")
    try:
        if kind == "parquet":
            return _parquet_lines(tree, entry), 1
        text = read(tree, entry, MAX_TABLE_BYTES).decode("utf-8-sig")
        if kind == "jsonl":
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            if not all(isinstance(line, dict) for line in lines):
                raise DamagedError("not each line is a JSON object")
            return lines, 1
        header = text.partition("\n")[0]
        separator = "\t" if kind == "tsv" else max(",;", key=header.count)  # the latter where the comma is decimal
        return list(csv.DictReader(io.StringIO(text), delimiter=separator)), 2
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DamagedError(f"its text must be UTF-8 ({error.reason} at byte {error.start:,})") from error
    except (csv.Error, *READ_ERRORS) as error:
        raise DamagedError(reason(error)) from error


def _parquet_lines(tree: Tree, entry: Entry) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    with tree.open(entry) as file:
        table = pq.ParquetFile(file)
        if image_column(table.schema_arrow, {}) is not None:
            return []
        lines: list[dict[str, Any]] = table.read().to_pylist()
    return lines
