"""Reads tables of text, whatever their format: CSV in its dialects, JSON Lines, Parquet and Excel."""

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import DataError
from pipeline.source.containers import image_column
from pipeline.source.files import READ_ERRORS, DamagedError, Entry, Tree, read, reason
from pipeline.source.layout import as_utf8, extension

MAX_TABLE_BYTES = 1 << 28
"""Limit for a table. Its lines take about ten times as much memory; a million of them are 50 MB."""

FORMATS = ("csv", "tsv", "tab", "psv", "jsonl", "ndjson", "parquet", "xlsx", "txt", "xls", "ods")
"""Name extensions of files that may be tables."""

UNREAD = ("xls", "ods")
"""Formats that are recognized, so that they are not overlooked, and not read."""

SEPARATORS = (",", ";", "\t", "|")
SNIFFED_LINES = 50


@dataclass(frozen=True)
class Table:
    """The cells of a table, all of them text.

    Attributes:
        path: Path of its file in the source.
        rows: Its rows, each with a cell for each column. The first one is the header, where there is one.
        lines: Number of each row in its file, counted from 1.
        nested: Columns whose values are lists or mappings, by index.
    """

    path: str
    rows: list[list[str]]
    lines: list[int]
    nested: set[int] = field(default_factory=set)


def read_table(tree: Tree, entry: Entry) -> Table:
    """Read a table of one of `FORMATS`; one without rows where a Parquet file holds encoded images.

    Raises:
        DamagedError: The file cannot be read as a table.
    """
    kind = extension(entry.path)
    if kind in UNREAD:
        raise DamagedError(f"a .{kind} file must be saved as .xlsx or .csv first")
    if entry.size > MAX_TABLE_BYTES:
        raise DamagedError(f"it holds more than {MAX_TABLE_BYTES:,} bytes")
    try:
        if kind == "parquet":
            rows, lines = _of_parquet(tree, entry)
        elif kind == "xlsx":
            rows, lines = _of_excel(read(tree, entry, MAX_TABLE_BYTES))
        elif kind in ("jsonl", "ndjson"):
            rows, lines = _of_json_lines(_decoded(read(tree, entry, MAX_TABLE_BYTES)))
        else:
            rows, lines = _of_text(_decoded(read(tree, entry, MAX_TABLE_BYTES)), kind)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DamagedError(f"its text must be UTF-8 ({error.reason} at byte {error.start:,})") from error
    except (
        csv.Error,
        KeyError,
        TypeError,
        *READ_ERRORS,
    ) as error:  # openpyxl raises the two for a file of another kind
        raise DamagedError(reason(error)) from error
    nested = {index for row in rows for index, cell in enumerate(row) if isinstance(cell, (list, tuple, dict, set))}
    return Table(entry.path, [[_text(cell) for cell in row] for row in rows], lines, nested)


def _text(cell: object) -> str:
    """
    >>> _text(None), _text(float("nan")), _text(" a "), _text(2.0)
    ('', '', 'a', '2.0')
    """
    return "" if cell is None or cell != cell else as_utf8(str(cell)).strip()


def _decoded(data: bytes) -> str:
    return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


def _of_parquet(tree: Tree, entry: Entry) -> tuple[list[list[Any]], list[int]]:
    import pyarrow.parquet as pq

    with tree.open(entry) as file:
        parquet = pq.ParquetFile(file)
        if image_column(parquet.schema_arrow, {}):
            return [], []
        table = parquet.read()
    rows = [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    return [table.column_names, *rows], list(range(len(rows) + 1))


def _of_excel(data: bytes) -> tuple[list[list[Any]], list[int]]:
    """The first sheet."""
    from openpyxl import load_workbook

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_TABLE_BYTES:
        raise DamagedError(f"it unpacks to more than {MAX_TABLE_BYTES:,} bytes")
    book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    try:
        sheet = list(book.worksheets[0].iter_rows(values_only=True)) if book.worksheets else []
    finally:
        book.close()
    numbered = [(number, list(row)) for number, row in enumerate(sheet, 1) if any(cell is not None for cell in row)]
    return _squared(numbered)


def _of_json_lines(text: str) -> tuple[list[list[Any]], list[int]]:
    numbered = [(number, json.loads(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not all(isinstance(record, Mapping) for _, record in numbered):
        raise DamagedError("not each line is a JSON object")
    names = list(dict.fromkeys(name for _, record in numbered for name in record))
    rows = [[record.get(name) for name in names] for _, record in numbered]
    return [names, *rows], [0, *(number for number, _ in numbered)]


def _of_text(text: str, kind: str) -> tuple[list[list[Any]], list[int]]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    skipped = 0
    separator = None
    if text[:4].lower() == "sep=":  # Excel's own mark
        separator, skipped = text[4:5], 1
        text = text.partition("\n")[2]
    commented = text
    while commented.startswith("#"):
        commented = commented.partition("\n")[2]
    separator = separator or ("\t" if kind in ("tsv", "tab") else _separator(commented))
    if separator is None and kind == "txt":
        pairs = [
            (number, list(line.rsplit(None, 1))) for number, line in enumerate(text.split("\n"), 1) if line.strip()
        ]
        return _squared(pairs)
    separator = separator or ","
    width = len(next(csv.reader(io.StringIO(commented), delimiter=separator), []))
    while text.startswith("#") and len(next(csv.reader(io.StringIO(text), delimiter=separator))) != width:
        text, skipped = text.partition("\n")[2], skipped + 1  # a comment; a header may begin with # too
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    numbered: list[tuple[int, list[Any]]] = []
    before = skipped
    for row in reader:
        if any(row):
            numbered.append((before + 1, row))
        before = skipped + reader.line_num
    if numbered:
        header = numbered[0][1]
        header[0] = header[0].removeprefix("#").strip()
    return _squared(numbered)


def _separator(text: str) -> str | None:
    """The separator that gives all of the first lines equally many cells, or the first line the most; None: one cell alone.

    >>> _separator("file;price\\na;0,5\\nb;0,7"), _separator("a, b"), _separator("a b")
    (';', ',', None)
    """
    lines = text.split("\n", SNIFFED_LINES)[:SNIFFED_LINES]
    best, separator = (False, 1), None
    for candidate in SEPARATORS:
        widths = [len(row) for row in csv.reader(lines, delimiter=candidate) if any(row)]
        score = (len(set(widths)) == 1, widths[0] if widths else 0)
        if score[1] > 1 and score > best:
            best, separator = score, candidate
    return separator


def _squared(numbered: Sequence[tuple[int, list[Any]]]) -> tuple[list[list[Any]], list[int]]:
    """The rows, all with as many cells as the first: missing ones are empty, empty ones beyond it are dropped."""
    width = len(numbered[0][1]) if numbered else 0
    for number, row in numbered:
        if any(cell not in (None, "") for cell in row[width:]):
            raise DamagedError(f"line {number:,} has more cells than the {width:,} of the first line")
    return [[*row[:width], *[""] * (width - len(row))] for _, row in numbered], [number for number, _ in numbered]
