"""Writes files and folders whole or not at all.

Drafts end in `.partial` and lie beside what they become. The process that writes one holds a lock on it, which the system takes
away when the process ends; so a draft that nobody holds is what a killed process left, and `sweep` removes it.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.errors import DataError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, a used-up quota, and a file beyond the size limit."""

DRAFT = ".partial"


@contextmanager
def room_for(path: Path, num_bytes: int) -> Iterator[None]:
    """Turn a full disk, met while `path` is written, into a message that says how much room is needed.

    Raises:
        DataError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DataError(
            f"{path} must have room for {num_bytes:,} bytes; the disk is full. Free some space and run it again."
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`; no reader and no later run ever sees a part of it.

    Raises:
        OSError: The disk is full or the folder cannot be written; `path` is then as it was.
    """
    with writing(path) as file:
        file.write(content)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write piece by piece, which becomes `path` when the block succeeds and is removed when it fails.

    Raises:
        OSError: The disk is full or the folder cannot be written; `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = _new_draft(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if (
            isinstance(error, OSError) and error.filename is None and error.errno in NO_ROOM
        ):  # a write does not tell where
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode())


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give a scratch folder, which replaces `path` when the block succeeds and is removed when it fails.

    A scratch folder for the same `path` that a killed process left behind is removed first.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch, replaced = (path.with_name(f".{path.name}{ending}{DRAFT}") for ending in ("", ".replaced"))
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()  # in here: a signal may come as soon as it exists
        with _held(scratch):
            yield scratch
            shutil.rmtree(replaced, ignore_errors=True)
            if path.exists():
                path.rename(replaced)
            scratch.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def sweep(folder: Path) -> None:
    """Remove the drafts in `folder` that killed processes left behind. Those of running processes stay."""
    for draft in folder.glob(f".*{DRAFT}"):
        with suppress(OSError):  # held, of another user, or on a file system without locks
            handle = os.open(draft, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
            finally:
                os.close(handle)


def _new_draft(path: Path) -> tuple[int, str]:
    """Make a draft of `path`, held until its handle is closed; returns its handle and its name."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=DRAFT, dir=path.parent)
        with suppress(OSError):  # no locks here: then `sweep` leaves everything
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # swept between the two calls


@contextmanager
def _held(draft: Path) -> Iterator[None]:
    """Hold a folder against `sweep` while the block runs."""
    handle = os.open(draft, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
