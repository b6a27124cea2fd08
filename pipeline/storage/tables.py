"""Writes and reads tables as CSV: UTF-8, lines that end with a line feed, and floats that read back bit for bit."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.storage import atomic, checksums


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
