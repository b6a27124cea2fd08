"""Layout of images beside a table that names each file and its label."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TypeAlias

from pipeline.artefacts.source import SPLIT_NAMES
from pipeline.errors import DataError
from pipeline.source import layout
from pipeline.source.containers import image_column
from pipeline.source.files import READ_ERRORS, DamagedError, Entry, Skipped, Tree, read, reason
from pipeline.source.layout import LabelledFile, Layout, UnfitError, class_name, extension, may_be_image

MAX_TABLE_BYTES = 1 << 28
"""Limit for a table. Its lines take about ten times as much memory; a million of them are 50 MB."""

Line: TypeAlias = Mapping[str, object]
"""Values of a line by column."""


@dataclass(frozen=True)
class _Table:
    """Lines of a table, counted from `first` in messages, and its columns by role."""

    path: str
    lines: list[Line]
    first: int
    columns: dict[str, str | None]

    def text(self, line: Line, role: str) -> str:
        """The value of a line in the column with this role; an empty text where it has none."""
        column = self.columns[role]
        value = line.get(column) if column else None
        return "" if value is None or value != value else layout.printable(str(value)).strip()  # NaN counts as empty


def listed_in_table(tree: Tree, chosen: str | None, columns: Mapping[str, str]) -> Layout | None:
    """The images that the table `chosen` lists, or else the only table that lists any; `columns` is `data.columns`.

    Raises:
        DataError: The table that was chosen cannot be used, several list images, or one contradicts itself.
    """
    if not layout.has_image_names(tree.listing.entries):
        return None
    files = _Files(tree.listing.entries)
    tables, problems = [], []
    for entry in tree.listing.entries:
        if extension(entry.path) in layout.TABLES and chosen in (None, entry.path):
            try:
                lines, first = _lines(tree, entry)
            except DamagedError as error:
                problems.append(f"{entry.path} must be readable as a table; it is not: {error}.")
                continue
            table = _Table(entry.path, lines, first, layout.match_columns(list(lines[0]) if lines else [], columns))
            if table.columns["path"] and table.columns["label"]:
                tables.append(table)
    if chosen is not None and not tables and not problems:
        wanted = {role: columns.get(role) or " or ".join(layout.COLUMN_NAMES[role]) for role in ("path", "label")}
        raise DataError(
            f"data.table must be a CSV, TSV, JSON Lines or Parquet file of the source with a column {wanted['path']} and a "
            f"column {wanted['label']}; {chosen} is not. Name its columns with data.columns."
        )
    matched = {}
    for table in tables:
        images, skipped = _listed(table, files)
        if images:
            matched[table.path] = (images, skipped)
        else:
            problems.append(
                f"{table.path} must list files of data.source with their labels; none of the {len(table.lines):,} that it "
                f"lists is there, such as {table.text(table.lines[0], 'path')!r}."
            )
    if len(matched) > 1:
        raise DataError(f"data.table must name one of the tables that list images: {', '.join(sorted(matched))}.")
    if problems and not matched:
        raise UnfitError(problems[0])
    if not matched:
        return None
    [(path, (images, skipped))] = matched.items()
    if len({image.label for image in images}) < 2:
        raise UnfitError(f"{path} must list at least two classes; its images are all of {images[0].label!r}.")
    counts = Counter(image.split for image in images if image.split)
    splits = f" ({', '.join(f'{name} {number:,}' for name, number in sorted(counts.items()))})" if counts else ""
    title = f"images listed in {path}, {layout.counted(images)}{splits or ', no test split'}"
    return Layout("table", title, images, skipped)


def _listed(table: _Table, files: "_Files") -> tuple[list[LabelledFile], list[Skipped]]:
    """The images of a source that a table lists; and the lines without a file, and files without a line."""
    images: dict[str, LabelledFile] = {}
    skipped = {}
    for number, line in enumerate(table.lines, start=table.first):
        written = table.text(line, "path").replace("\\", "/").removeprefix("./")
        path = files.find(written, table.path.rpartition("/")[0])
        label = class_name(table.text(line, "label"))
        if path is None:
            missing = written or f"{table.path}, line {number}"
            skipped[missing] = Skipped(missing, "missing", f"{table.path} lists it; there is no such file")
            continue
        if not label:
            skipped[path] = Skipped(path, "unlabelled", f"line {number} of {table.path} gives it no label")
            continue
        split = table.text(line, "split").lower()
        if split and split not in SPLIT_NAMES:
            raise DataError(f"{table.path} must have train, val or test as its splits; line {number} has {split!r}.")
        image = LabelledFile(files.by_path[path], label, SPLIT_NAMES.get(split, ""), table.text(line, "group"))
        first = images.setdefault(path, image)
        if first.label != label:
            raise DataError(f"{table.path} must give each image one label; {path} has {first.label!r} and {label!r}.")
        if first != image:
            raise DataError(
                f"{table.path} must give each image one split and group; line {number} gives {path} others than before."
            )
    for path in files.by_path:
        if path not in images and path not in skipped and path != table.path and may_be_image(path):
            skipped[path] = Skipped(path, "unlisted", f"{table.path} does not list it")
    in_order = [images[path] for path in files.by_path if path in images]  # as the source is best read
    return in_order, [file for path, file in skipped.items() if path not in images]


class _Files:
    """Finds the files of a source by the names that a table gives them."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.by_path = {entry.path: entry for entry in entries}

    def find(self, written: str, folder: str) -> str | None:
        """The path of a file, or None.

        `written` is relative to `folder`, where the table lies, or to the source, with or without its extension; or it is a
        name that only one file of the source has.
        """
        paths = [f"{folder}/{written}".lstrip("/"), written]
        exact = next((path for path in paths if path in self.by_path), None)
        if exact is not None or not written:
            return exact
        if "/" in written:
            paths = [f"/{path}" for path in paths]
        return next((file for path in paths if (file := self._by_short_name.get(path)) is not None), None)

    @cached_property
    def _by_short_name(self) -> dict[str, str | None]:
        """Files by "/" and their path without its extension, and by their name with and without it; None: several."""
        files: dict[str, str | None] = {}
        for path in self.by_path:
            if may_be_image(path):
                name = PurePosixPath(path)
                for short in {f"/{name.with_suffix('')}", name.name, name.stem}:
                    files[short] = None if short in files else path
        return files


def _lines(tree: Tree, entry: Entry) -> tuple[list[Line], int]:
    """The lines of a table, and the number of the first one.

    Raises:
        DamagedError: The file cannot be read as one.
    """
    import pyarrow.parquet as pq

    kind = extension(entry.path)
    if entry.size > MAX_TABLE_BYTES:
        raise DamagedError(f"it holds more than {MAX_TABLE_BYTES:,} bytes")
    try:
        if kind == "parquet":
            with tree.open(entry) as file:
                table = pq.ParquetFile(file)
                lines = [] if image_column(table.schema_arrow, {}) else table.read().to_pylist()
                return lines, 1
        text = read(tree, entry, MAX_TABLE_BYTES).decode("utf-8-sig")
        if kind == "jsonl":
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            if not all(isinstance(line, dict) for line in lines):
                raise DamagedError("not each line is a JSON object")
            return lines, 1
        header = text.partition("\n")[0]
        separator = "\t" if kind == "tsv" else max(",;", key=header.count)  # ";" where the comma is decimal
        return list(csv.DictReader(io.StringIO(text), delimiter=separator)), 2
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DamagedError(f"its text must be UTF-8 ({error.reason} at byte {error.start:,})") from error
    except (csv.Error, *READ_ERRORS) as error:
        raise DamagedError(reason(error)) from error
