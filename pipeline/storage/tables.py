"""Writes and reads tables as CSV: UTF-8, lines that end with a line feed, and floats that read back bit for bit.

Names of files and classes may hold anything. A text that a spreadsheet would take for a formula gets an apostrophe before it,
and what a terminal would take for a command is escaped.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.storage import atomic, checksums
from pipeline.terminal import printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that spreadsheets take for a formula (OWASP, "CSV injection")."""


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""The table as text; None becomes an empty cell.

    >>> to_csv(("name", "share"), [("a, b", 0.1), ("c", None)])
    'name,share\n"a, b",0.1\nc,\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *(map(harmless, row) for row in rows)])
    return text.getvalue()


def harmless(value: object) -> object:
    r"""A cell as it stands in the file.

    >>> harmless("=HYPERLINK(0)"), harmless("-0.5"), harmless("a\x1b[2Jb"), harmless(-0.5), harmless(None)
    ("'=HYPERLINK(0)", '-0.5', 'a\\x1b[2Jb', -0.5, None)
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write the table to `path`, whole or not at all; see `to_csv`."""
    atomic.write_text(path, to_csv(columns, rows))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of its columns.

    Raises:
        DamagedError: The file has changed since its folder was sealed, or cannot be read.
    """
    with checksums.reading(path), path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def read_parquet_column(path: Path, name: str) -> list[Any]:
    """The values of one column of a Parquet file; see `read_csv`."""
    import pyarrow.parquet as pq

    with checksums.reading(path):
        values: list[Any] = pq.read_table(path, columns=[name])[name].to_pylist()
        return values
