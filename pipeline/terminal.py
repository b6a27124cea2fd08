"""Builds the tables that commands print: one style, and one width where the output is no terminal."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH_COLUMNS = 160
"""Width of a table in a file or a pipe, in characters."""


def console() -> Console:
    """A console as wide as the terminal, or of `WIDTH_COLUMNS` where the output is none."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_COLUMNS, highlight=False)


def table(title: str | None = None, *, texts: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> Table:
    """An empty table with columns that are never wrapped.

    Args:
        title: Line above the table.
        texts: Names of the first columns, aligned to the left.
        numbers: Names of the other columns, aligned to the right.
    """
    empty = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in texts:
        empty.add_column(name, no_wrap=True)
    for name in numbers:
        empty.add_column(name, justify="right", no_wrap=True)
    return empty
