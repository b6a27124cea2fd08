"""Images beside a table that names each file and its label."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.errors import DataError
from pipeline.source.files import Entry, Skipped, Tree
from pipeline.source.found import (
    COLUMNS,
    SPLITS,
    TABLES,
    Found,
    Row,
    class_name,
    counted,
    ending,
    has_image_names,
    match_columns,
    may_be_image,
)
from pipeline.source.holding import image_column

MAX_TABLE_BYTES = 1 << 30


def listed_in_table(tree: Tree, chosen: str | None, columns: Mapping[str, str]) -> Found | None:
    by_path = {entry.path: entry for entry in tree.listing.entries}
    if not has_image_names(tree.listing.entries):
        return None
    tables = {}
    for entry in tree.listing.entries:
        if ending(entry.path) in TABLES and chosen in (None, entry.path) and entry.size <= MAX_TABLE_BYTES:
            lines = _lines(tree, entry)
            names = match_columns(list(lines[0]) if lines else [], columns)
            if names["path"] and names["label"]:
                tables[entry.path] = (lines, names)
    if chosen is not None and not tables:
        wanted = {key: columns.get(key) or " or ".join(COLUMNS[key]) for key in ("path", "label")}
        raise DataError(
            f"data.table must be a CSV, TSV, JSON Lines or Parquet file of the source with a column {wanted['path']} and a "
            f"column {wanted['label']}; {chosen} is not. Name its columns with data.columns."
        )
    matched = {}
    for path, (lines, names) in tables.items():
        rows, skipped = _listed(path, lines, names, by_path)
        if rows:
            matched[path] = (rows, skipped)
    if not matched:
        return None
    if len(matched) > 1:
        raise DataError(f"data.table must name one of the tables that list images: {', '.join(sorted(matched))}.")
    [(path, (rows, skipped))] = matched.items()
    if len({row.label for row in rows}) < 2:
        raise DataError(f"{path} must list at least two classes; its images are all of {rows[0].label!r}.")
    counts = Counter(row.split for row in rows if row.split)
    splits = f" ({', '.join(f'{name} {number:,}' for name, number in sorted(counts.items()))})" if counts else ""
    return Found("table", f"images listed in {path}, {counted(rows)}{splits or ', no test split'}", rows, skipped)


def _listed(
    table: str, lines: Sequence[Mapping[str, Any]], names: Mapping[str, str | None], by_path: Mapping[str, Entry]
) -> tuple[list[Row], list[Skipped]]:
    """The images that a table lists, as far as they are there; and the files and lines that have no partner."""
    home = table.rpartition("/")[0]
    rows: dict[str, Row] = {}
    skipped = []
    for number, line in enumerate(lines, start=2):
        written = str(line.get(names["path"] or "") or "").strip().replace("\\", "/").removeprefix("./")
        place = next((path for path in (f"{home}/{written}".lstrip("/"), written) if path in by_path), None)
        label = line.get(names["label"] or "")
        if place is None:
            skipped.append(
                Skipped(written or f"{table}, line {number}", "missing", f"{table} lists it; there is no such file")
            )
        elif label is None or not str(label).strip():
            skipped.append(Skipped(place, "unlabelled", f"line {number} of {table} gives it no label"))
        elif place in rows and rows[place].label != class_name(str(label)):
            raise DataError(f"{table} must give each image one label; {place} has {rows[place].label!r} and {label!r}.")
        else:
            split = str(line.get(names["split"] or "") or "").strip().lower()
            if split and split not in SPLITS:
                raise DataError(f"{table} must have train, val or test as its splits; line {number} has {split!r}.")
            group = str(line.get(names["group"] or "") or "").strip()
            rows[place] = Row(by_path[place], class_name(str(label)), SPLITS.get(split, ""), group)
    told = {each.path for each in skipped}
    for path in by_path:
        if path not in rows and path not in told and path != table and may_be_image(path):
            skipped.append(Skipped(path, "unlisted", f"{table} does not list it"))
    return list(rows.values()), skipped


def _lines(tree: Tree, entry: Entry) -> list[dict[str, Any]]:
    """The rows of a table; none where the file cannot be read as one."""
    try:
        if ending(entry.path) == "parquet":
            return _parquet_lines(tree, entry)
        with tree.open(entry) as file:
            text = file.read(MAX_TABLE_BYTES).decode("utf-8-sig")
        if ending(entry.path) == "jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return list(csv.DictReader(io.StringIO(text), delimiter="\t" if ending(entry.path) == "tsv" else ","))
    except (UnicodeDecodeError, ValueError, csv.Error, OSError):
        return []


def _parquet_lines(tree: Tree, entry: Entry) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    with tree.open(entry) as file:
        table = pq.ParquetFile(file)
        if image_column(table.schema_arrow, {}) is not None:
            return []
        lines: list[dict[str, Any]] = table.read().to_pylist()
    return lines
