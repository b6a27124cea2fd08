"""Copies files with many images out of a source: unpacks gzipped ones, and writes each array of an .npz file."""

import gzip
import os
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from pipeline.artefacts.source import SourcePart
from pipeline.errors import DataError
from pipeline.source import containers
from pipeline.source.archives import ZipTree
from pipeline.source.files import READ_ERRORS, DamagedError, Entry, Tree, chunks, reason
from pipeline.source.layout import Layout
from pipeline.storage.atomic import room_for


def copy_parts(tree: Tree, layout: Layout, out: Path, max_bytes: int) -> list[SourcePart]:
    """Copy the parts of `layout` into `out`, unpacked, at most `max_bytes` in all; gives the parts with the copies' names.

    Raises:
        DataError: A file cannot be read, they are too large, or the disk is full.
    """
    if layout.archive is not None:
        return _copy_arrays(tree, layout.archive, out, max_bytes)
    copies = _Copies(tree, out, max_bytes)
    return [
        SourcePart(
            split=part.split,
            images=[copies.add(path) for path in part.images],
            labels=None if part.labels is None else copies.add(part.labels),
        )
        for part in layout.parts
    ]


def _copy_arrays(tree: Tree, path: str, out: Path, max_bytes: int) -> list[SourcePart]:
    """Copy the arrays of an .npz file, each as a .npy file; nothing in it is unpickled."""
    archive_entry = next(entry for entry in tree.listing.entries if entry.path == path)
    try:
        with tree.open(archive_entry) as file, zipfile.ZipFile(file) as archive:
            arrays = ZipTree(archive)
            layout = containers.arrays(arrays.listing.entries)
            if layout is None or layout.archive is not None:
                names = ", ".join(sorted(entry.path.removesuffix(".npy") for entry in arrays.listing.entries))
                raise DataError(
                    f"{path} must hold arrays named images and labels, or x_train and y_train; it holds {names or 'none'}."
                )
            return copy_parts(arrays, layout, out, max_bytes)
    except DataError:
        raise
    except READ_ERRORS as error:
        raise _damaged(path, reason(error)) from error


class _Copies:
    """Copies files into one folder, up to a limit for all of them together."""

    def __init__(self, tree: Tree, out: Path, max_bytes: int) -> None:
        self._tree, self._out = tree, out
        self._entries = {entry.path: entry for entry in tree.listing.entries}
        self._max_bytes = self._left = max_bytes

    def add(self, path: str) -> str:
        """Copy a file and return the name of the copy; the two share their blocks where the file system allows it."""
        entry = self._entries[path]
        target = self._out / self._free(PurePosixPath(path).name.removesuffix(".gz"))
        try:
            packed = self._tree.open(entry)
        except DataError:
            raise
        except READ_ERRORS as error:
            raise _damaged(path, reason(error)) from error
        with packed, room_for(target, entry.size), target.open("wb") as written:
            if path.endswith(".gz"):
                with gzip.open(packed) as file:
                    self._write(entry, cast(IO[bytes], file), written)
            else:
                self._share(entry, packed, written)
                self._write(entry, packed, written)
        return target.name

    def _free(self, name: str) -> str:
        """`name`, after a number where a file of another folder has the same name."""
        number, free = 1, name
        while (self._out / free).exists():
            number, free = number + 1, f"{number + 1}-{name}"
        return free

    def _share(self, entry: Entry, file: IO[bytes], written: IO[bytes]) -> None:
        number = _descriptor(file) if hasattr(os, "copy_file_range") else None
        while number is not None and (count := _copy_range(number, written.fileno(), self._left + 1)):
            self._spend(entry, count)

    def _write(self, entry: Entry, file: IO[bytes], written: IO[bytes]) -> None:
        try:
            for chunk in chunks(file):
                self._spend(entry, len(chunk))
                written.write(chunk)
        except DamagedError as error:
            raise _damaged(entry.path, str(error)) from error

    def _spend(self, entry: Entry, num_bytes: int) -> None:
        self._left -= num_bytes
        if self._left < 0:
            raise DataError(
                f"the files of data.source must be at most {self._max_bytes / 1e9:g} GB together, unpacked; {entry.path} goes "
                "beyond that. Raise data.max_gigabytes if it is meant to be."
            )


def _damaged(path: str, why: str) -> DataError:
    return DataError(f"{path} of data.source must be whole; it is damaged ({why}). Bring it again.")


def _descriptor(file: Any) -> int | None:
    """The descriptor of a file of the operating system; None for a member of an archive."""
    try:
        return int(file.fileno()) if type(file).__module__ == "_io" else None
    except (OSError, AttributeError):
        return None


def _copy_range(source: int, target: int, max_bytes: int) -> int:
    try:
        count = os.copy_file_range(source, target, min(max_bytes, 1 << 30))
    except OSError:
        return 0  # these file systems cannot: the caller reads and writes instead
    os.lseek(target, 0, os.SEEK_END)
    return count
