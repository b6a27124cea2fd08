"""Writes files and folders whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DataError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, a used-up quota, and a file beyond the size limit."""


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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
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
    scratch = path.with_name(f".{path.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()  # in here: a signal may come as soon as it exists
        yield scratch
        replaced = path.with_name(f".{path.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if path.exists():
            path.rename(replaced)
        scratch.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
