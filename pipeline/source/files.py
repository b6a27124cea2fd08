"""What a source holds: files with a path, a size and a version, each read within a bound."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple, Protocol

from pipeline.errors import DataError

CHUNK_BYTES = 1 << 20

READ_ERRORS = (
    OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    tarfile.TarError,
)  # fmt: skip
"""What the standard library raises where a file or a member of an archive cannot be read."""

HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini")


class Entry(NamedTuple):
    """A file.

    Attributes:
        path: Relative to the source, with `/`.
        size: Bytes, as the source announces them.
        stamp: Changes when the file does: nanoseconds of its last change, or what the bucket calls its version.
    """

    path: str
    size: int
    stamp: str = ""


@dataclass(frozen=True)
class Skipped:
    """A file that was left out.

    Attributes:
        path: Relative to the source.
        problem: One word, such as `link`.
        evidence: A clause for people.
    """

    path: str
    problem: str
    evidence: str


class DamagedError(DataError):
    """A file that is listed and cannot be read; a clause."""


@dataclass
class Listing:
    """What a source holds, in the order in which it is best read."""

    entries: list[Entry] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class Tree(Protocol):
    """Files below one source.

    Attributes:
        listing: What it holds.
        num_readers: How many files are best read at once.
    """

    listing: Listing
    num_readers: int

    def open(self, entry: Entry) -> IO[bytes]:
        """A file to read, and to seek in; raises one of `READ_ERRORS` where it cannot be read."""


def hidden(path: str) -> bool:
    """Whether a file, or a folder above it, is none that people see.

    >>> hidden("cats/.ipynb_checkpoints/1.png"), hidden("cats/1.png")
    (True, False)
    """
    return any(part.startswith(".") or part in HIDDEN for part in path.split("/"))


def read(tree: Tree, entry: Entry, max_bytes: int) -> bytes:
    """A whole file, never more than `max_bytes` of it whatever the source announced.

    Raises:
        DamagedError: It cannot be read, or is longer.
    """
    announced = min(entry.size, max_bytes)
    try:
        with tree.open(entry) as file:
            data = file.read(announced + 1)  # which sets that much memory aside
            if len(data) > announced:
                data += file.read(max_bytes - announced)
    except DataError:  # a ValueError, and no fault of the file
        raise
    except READ_ERRORS as error:
        raise DamagedError(reason(error)) from error
    if len(data) > max_bytes:
        raise DamagedError(f"it holds more than {max_bytes:,} bytes")
    return data


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """What follows in `file`, piece by piece.

    Raises:
        DamagedError: It cannot be read.
    """
    try:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
    except READ_ERRORS as error:
        raise DamagedError(reason(error)) from error


def reason(error: BaseException) -> str:
    """A clause that says the same on every machine: without the folder in which the source lies."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
