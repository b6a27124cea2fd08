"""Writes tables as CSV: UTF-8, lines that end with a line feed, and floats that read back bit for bit."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.storage import atomic


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""The table as text; None becomes an empty cell.

    >>> to_csv(("name", "share"), [("a, b", 0.1), ("c", None)])
    'name,share\n"a, b",0.1\nc,\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write the table to `path`, whole or not at all; see `to_csv`."""
    atomic.write_text(path, to_csv(columns, rows))
