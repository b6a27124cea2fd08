"""Files that hold many images each, copied out of a source: gzipped ones unpacked, the arrays of an .npz file one by one."""

import gzip
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from pipeline.errors import DataError
from pipeline.source import containers
from pipeline.source.archives import ZipTree
from pipeline.source.files import READ_ERRORS, DamagedError, Entry, Tree, chunks, reason
from pipeline.storage.atomic import room_for


def copy_parts(tree: Tree, layout: str, parts: Mapping[str, Any], out: Path, max_bytes: int) -> dict[str, Any]:
    """Copy the files of `parts` into `out`, gzipped and zipped ones unpacked, and name them as they are called there.

    Args:
        tree: Where they are.
        layout: What they are, and
        parts: which, as `pipeline.source.layout.Found` has them.
        out: An existing folder.
        max_bytes: Of all files together, unpacked.

    Raises:
        DataError: A file cannot be read, they are too large, or the disk is full.
    """
    if "npz" in parts:
        return _copy_arrays(tree, parts["npz"], out, max_bytes)
    copies = _Copies(tree, out, max_bytes)
    if layout == "parquet":
        return {copies.add(path): about for path, about in parts.items()}
    return {
        split: {
            kind: copies.add(paths) if isinstance(paths, str) else [copies.add(path) for path in paths]
            for kind, paths in files.items()
        }
        for split, files in parts.items()
    }


def _copy_arrays(tree: Tree, path: str, out: Path, max_bytes: int) -> dict[str, Any]:
    """The arrays of an .npz file, each as a .npy file of its own; nothing in it is unpickled."""
    entry = next(each for each in tree.listing.entries if each.path == path)
    try:
        with tree.open(entry) as file, zipfile.ZipFile(file) as archive:
            arrays = ZipTree(archive)
            found = containers.arrays(arrays.listing.entries)
            if found is None or "npz" in found.parts:
                names = ", ".join(sorted(each.path.removesuffix(".npy") for each in arrays.listing.entries))
                raise DataError(
                    f"{path} must hold arrays named images and labels, or x_train and y_train; it holds {names or 'none'}."
                )
            return copy_parts(arrays, "arrays", found.parts, out, max_bytes)
    except DataError:
        raise
    except READ_ERRORS as error:
        raise _damaged(path, reason(error)) from error


class _Copies:
    """Files copied into one folder, as long as they are not too large together."""

    def __init__(self, tree: Tree, out: Path, max_bytes: int) -> None:
        self._tree, self._out = tree, out
        self._entries = {entry.path: entry for entry in tree.listing.entries}
        self._max_bytes = self._left = max_bytes

    def add(self, path: str) -> str:
        """Copy a file, sharing its blocks where the file system can; give the name of the copy."""
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
        """`name`, or where it is taken already, as by a file of another folder, that with a number before it."""
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
    """The number of a file of the system, of which nothing has been read yet; None for a member of an archive."""
    try:
        return int(file.fileno()) if type(file).__module__ == "_io" else None
    except (OSError, AttributeError):
        return None


def _copy_range(source: int, target: int, max_bytes: int) -> int:
    try:
        count = os.copy_file_range(source, target, min(max_bytes, 1 << 30))
    except OSError:
        return 0  # not between these file systems; it is read and written instead
    os.lseek(target, 0, os.SEEK_END)
    return count
