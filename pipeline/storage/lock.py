"""Locks outputs against other processes; a lock ends with its process and names it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import BusyError


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
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise BusyError(
                f"{path} must be free; got a lock on it held by {_name(holder)}. {_remedy(holder)}"
            ) from None
        print(f"waiting for {path}, which {_name(holder)} is making", file=sys.stderr)
        lock.acquire()
    try:
        holder.write_text(f"{os.getpid()} {' '.join(sys.argv)}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _name(holder: Path) -> str:
    pid, _, command = _read(holder).partition(" ")
    return f"process {pid} ({command})" if pid else "another process"


def _remedy(holder: Path) -> str:
    pid = _read(holder).partition(" ")[0]
    return f"Wait until it ends, or stop it with `kill {pid}`." if pid else "Wait until it ends."


def _read(holder: Path) -> str:
    try:
        return holder.read_text()
    except FileNotFoundError:
        return ""
