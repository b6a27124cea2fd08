"""Lists and reads the files of a source, each up to a limit."""

import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from pipeline.errors import DataError

CHUNK_BYTES = 1 << 20

READ_ERRORS = (
    OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    tarfile.TarError,
)  # fmt: skip
"""Errors of the standard library for a file or a member of an archive that cannot be read."""

LEADS_OUT = "it leads out of the source"
"""Beginning of the evidence against a link that is not followed."""

HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini")


class Entry(NamedTuple):
    """A file of a source.

    Attributes:
        path: Path relative to the source, with `/`.
        size: Number of bytes that the source announces.
        stamp: Text that changes with the file: the time of its last change in nanoseconds, or its version in a bucket.
    """

    path: str
    size: int
    stamp: str = ""


@dataclass(frozen=True)
class Skipped:
    """A file that is left out: its problem is one of `pipeline.artefacts.source.LEFT_OUT`, its evidence a clause."""

    path: str
    problem: str
    evidence: str


class DamagedError(DataError):
    """Raised when a listed file cannot be read; its text is a clause."""


@dataclass
class Listing:
    """Files of a source, in the order in which they are best read, and those that are left out."""

    entries: list[Entry] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class Tree(Protocol):
    """The files of a source.

    Attributes:
        listing: The files that it holds.
        num_readers: Number of files that are best read at once.
        root: Path of the source's folder on this machine; an empty text where it has none.
    """

    listing: Listing
    num_readers: int
    root: str

    def open(self, entry: Entry) -> IO[bytes]:
        """Open a file to read and to seek in; raises one of `READ_ERRORS` where it cannot be read."""


def hidden(path: str) -> bool:
    """Whether a file, or a folder above it, is hidden from people.

    >>> hidden("cats/.ipynb_checkpoints/1.png"), hidden("cats/1.png")
    (True, False)
    """
    return any(part.startswith(".") or part in HIDDEN for part in path.split("/"))


def read(tree: Tree, entry: Entry, max_bytes: int) -> bytes:
    """Read a whole file, and never more than `max_bytes` of it, whatever size the source announces.

    Raises:
        DamagedError: The file cannot be read, or is longer.
    """
    announced = min(entry.size, max_bytes)
    try:
        with tree.open(entry) as file:
            data = file.read(announced + 1)  # allocates that much memory
            if len(data) > announced:
                data += file.read(max_bytes - announced)
    except DataError:  # it is a ValueError too, and not the file's fault
        raise
    except READ_ERRORS as error:
        raise DamagedError(reason(error)) from error
    if len(data) > max_bytes:
        raise DamagedError(f"it holds more than {max_bytes:,} bytes")
    return data


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Read the rest of `file` piece by piece.

    Raises:
        DamagedError: The file cannot be read.
    """
    try:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
    except READ_ERRORS as error:
        raise DamagedError(reason(error)) from error


def reason(error: BaseException) -> str:
    """The reason of an error as a clause that is the same on every machine: without the path of the source."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


class FolderTree:
    """The files of a folder. With `follow_links`, links that lead out of it are followed too."""

    num_readers = 1

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        self.root = str(root)
        self._real = Path(os.path.realpath(root))
        self._follow_links = follow_links
        self.listing = Listing()
        folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
        while folders:
            self._list(*folders.pop(), folders)
        self.listing.entries.sort()

    def open(self, entry: Entry) -> IO[bytes]:
        return open(f"{self.root}/{entry.path}", "rb")

    def _list(self, prefix: str, linked: tuple[str, ...], folders: list[tuple[str, tuple[str, ...]]]) -> None:
        """List a folder, and append the folders in it to `folders`.

        `prefix` is its path with a slash at the end, `linked` the folders that links on the way to it lead to.
        """
        entries, skipped = self.listing.entries, self.listing.skipped
        with os.scandir(f"{self.root}/{prefix}") as children:
            for child in children:
                if hidden(child.name):
                    continue
                path = prefix + child.name
                try:
                    if child.is_symlink():
                        target = os.path.realpath(child.path)
                        if (problem := self._problem_of_link(path, target, linked)) is not None:
                            skipped.append(problem)
                            continue
                        if os.path.isdir(target):
                            folders.append((f"{path}/", (*linked, target)))
                            continue
                    elif child.is_dir():
                        folders.append((f"{path}/", linked))
                        continue
                    elif not child.is_file():
                        skipped.append(Skipped(path, "no_file", "it is no regular file"))
                        continue
                    status = child.stat()
                except OSError as error:  # such as one that was removed a moment ago
                    skipped.append(Skipped(path, "damaged", reason(error)))
                    continue
                entries.append(Entry(path, status.st_size, str(status.st_mtime_ns)))

    def _problem_of_link(self, path: str, target: str, linked: Sequence[str]) -> Skipped | None:
        is_folder = os.path.isdir(target)
        if not is_folder and not os.path.isfile(target):
            return Skipped(path, "link", "it leads to no file")
        if not self._follow_links and not Path(target).is_relative_to(self._real):
            return Skipped(path, "linked_folder" if is_folder else "link", f"{LEADS_OUT}, to {target}")
        above = [str(self._real / path), str(self._real), *linked]
        if is_folder and any(Path(folder).is_relative_to(target) for folder in above):
            return Skipped(path, "link", "it leads to a folder that it lies in")
        return None


class FileTree:
    """A single file that is not an archive, such as a Parquet file."""

    num_readers = 1
    root = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        status = path.stat()
        self.listing = Listing([Entry(path.name, status.st_size, str(status.st_mtime_ns))])

    def open(self, entry: Entry) -> IO[bytes]:
        return self._path.open("rb")
