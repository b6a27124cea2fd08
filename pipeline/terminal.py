"""Prints safely: tables of one style, and names of files and classes that may hold anything."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich takes a tenth of a second to import, and most commands print plain lines alone
    from rich.console import Console
    from rich.table import Table

WIDTH_COLUMNS = 160
"""Width of a table in a file or a pipe, in characters."""


_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal takes for commands, that turn the direction of writing, or that UTF-8 cannot express."""


def printable(text: str) -> str:
    r"""Replace what a terminal would take for a command by its escape.

    >>> print(printable("a\x1b[2Jb ü 猫"))
    a\x1b[2Jb ü 猫
    """
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def console() -> "Console":
    """A console as wide as the terminal, or of `WIDTH_COLUMNS` where the output is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH_COLUMNS, highlight=False)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and nothing elsewhere; gives a function that takes the number of steps that are done."""
    from rich.progress import Progress

    with Progress(console=console(), transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def downloading(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show the bar of a download on a terminal; gives a function that takes the bytes that have arrived, and those in all."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(), transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task(printable(title), total=None)
        yield lambda now, total: bar.update(task, completed=now, total=total)


@contextmanager
def progress_beside(title: str, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar on the standard error, beside which results flow; gives a function that takes the number of steps done.

    Args:
        title: Text before the bar.
        total: Number of steps; None: it is not known.
        shown: Whether to show it at all.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True, disable=not shown) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def libraries_kept_quiet() -> Iterator[None]:
    """Keep libpng and libjpeg, which print to the process's standard error, from the terminal; what Python prints goes on."""
    try:
        own = sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # a test's or a notebook's
        own = -1
    if own != 2:
        yield
        return
    sys.stderr.flush()
    saved, null, python = os.dup(2), os.open(os.devnull, os.O_WRONLY), sys.stderr
    os.dup2(null, 2)
    sys.stderr = os.fdopen(os.dup(saved), "w", buffering=1, errors="backslashreplace")
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = python
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def table(title: str | None = None, *, texts: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> "Table":
    """An empty table with columns that are never wrapped.

    Args:
        title: Line above the table.
        texts: Names of the first columns, aligned to the left.
        numbers: Names of the other columns, aligned to the right.
    """
    from rich import box
    from rich.table import Table

    empty = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in texts:
        empty.add_column(name, no_wrap=True)
    for name in numbers:
        empty.add_column(name, justify="right", no_wrap=True)
    return empty
