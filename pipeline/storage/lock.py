"""Locks outputs against other processes; a lock ends with its process and names it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import BusyError

_PATIENCE_SECONDS = 0.1
"""Longer than `sweep` holds a lock."""


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock the output at `path` while the block runs.

    Args:
        path: File or folder that is about to be written; the lock lies beside it.
        wait: Whether to wait for a process that holds the lock, instead of refusing.

    Raises:
        BusyError: Another process holds the lock, and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_name(f".{path.name}.holder")
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout:
        if not wait:
            name, remedy = _process(holder)
            raise BusyError(f"{path} must be free; got a lock on it held by {name}. {remedy}") from None
        print(f"waiting for {path}, which {_process(holder)[0]} is making", file=sys.stderr)
        lock.acquire()
    try:
        holder.write_text(f"{os.getpid()} {' '.join(sys.argv)}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def sweep(folder: Path) -> None:
    """Remove what killed processes noted in `folder` about locks that they held."""
    for holder in folder.glob(".*.holder"):
        lock = FileLock(holder.with_suffix(".lock"))
        with suppress(Timeout, OSError):  # held, or of another user
            lock.acquire(timeout=0)
            holder.unlink(missing_ok=True)
            lock.release()


def _process(holder: Path) -> tuple[str, str]:
    """The process that holds a lock, in words, and the remedy."""
    try:
        pid, _, command = holder.read_text().partition(" ")
    except FileNotFoundError:
        pid = ""
    if not pid:
        return "another process", "Wait until it ends."
    return f"process {pid} ({command})", f"Wait until it ends, or stop it with `kill {pid}`."
