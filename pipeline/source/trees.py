"""The user's source, opened: a folder, a zip or tar archive, one file, or a folder in a bucket, listed and read alike."""

import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.errors import DataError
from pipeline.source.archives import BoundedTarInfo, TarTree, ZipTree
from pipeline.source.buckets import Bucket
from pipeline.source.files import READ_ERRORS, Entry, Listing, Skipped, Tree, hidden, reason

ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
"""Endings of files that are archives, or damaged ones."""


@contextmanager
def opened(source: str, storage_options: Mapping[str, Any], max_bytes: int) -> Iterator[Tree]:
    """The files of `source`.

    Args:
        source: The path of a folder, an archive or a file, or the address of a folder that fsspec knows.
        storage_options: What fsspec needs for that address.
        max_bytes: An archive that has to be unpacked to be listed is refused where it unpacks to more.

    Raises:
        DataError: There is nothing, or nothing that can be read.
        ConfigError: The package for such an address is not installed.
    """
    if "://" in source:
        yield Bucket(source, storage_options)
        return
    with ExitStack() as stack:
        yield _listed(Path(source).expanduser(), max_bytes, stack)


def _listed(path: Path, max_bytes: int, stack: ExitStack) -> Tree:
    try:
        if path.is_dir():
            return _Folder(path)
        if not path.is_file():
            raise DataError(
                f"data.source must be a folder, an archive or a file that is there; got {path}, which is not."
            )
        if path.suffix.lower() != ".npz" and zipfile.is_zipfile(path):
            return ZipTree(stack.enter_context(zipfile.ZipFile(path)))
        if tarfile.is_tarfile(path):
            return TarTree(stack.enter_context(tarfile.open(path, tarinfo=BoundedTarInfo)), max_bytes)
        if path.name.lower().endswith(ARCHIVES):
            raise DataError(f"{path} must be a whole archive; its beginning or its end is not that of one.")
        return _Single(path)
    except (DataError, RecursionError):
        raise
    except PermissionError as error:
        raise DataError(f"{error.filename} must be readable; it is not ({error.strerror}).") from error
    except READ_ERRORS as error:
        raise DataError(f"{path} must be a whole archive; got a damaged one ({reason(error)}).") from error


class _Folder:
    num_readers = 1

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._real = Path(os.path.realpath(root))
        self.listing = Listing()
        folders = [""]
        while folders:
            self._list(folders.pop(), folders)
        self.listing.entries.sort()

    def open(self, entry: Entry) -> IO[bytes]:
        return open(f"{self._root}/{entry.path}", "rb")

    def _list(self, prefix: str, folders: list[str]) -> None:
        """List the folder that `prefix` names, with its slash; put those below it on `folders`."""
        entries, skipped = self.listing.entries, self.listing.skipped
        with os.scandir(f"{self._root}/{prefix}") as found:
            for each in found:
                if hidden(each.name):
                    continue
                path = prefix + each.name
                try:
                    if each.is_symlink():
                        if (problem := self._problem_of_link(each.path)) is not None:
                            skipped.append(Skipped(path, "link", problem))
                            continue
                    elif each.is_dir():
                        folders.append(f"{path}/")
                        continue
                    elif not each.is_file():
                        skipped.append(Skipped(path, "no_file", "it is no regular file"))
                        continue
                    about = each.stat()
                except OSError as error:  # such as one that was removed a moment ago
                    skipped.append(Skipped(path, "damaged", reason(error)))
                    continue
                entries.append(Entry(path, about.st_size, str(about.st_mtime_ns)))

    def _problem_of_link(self, path: str) -> str | None:
        target = os.path.realpath(path)
        if not Path(target).is_relative_to(self._real):
            return f"it leads out of the source, to {target}"
        if os.path.isdir(target):
            return "it is a link to a folder"
        return None if os.path.isfile(target) else "it leads to no file"


class _Single:
    """One file that is no archive, such as a Parquet file."""

    num_readers = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        about = path.stat()
        self.listing = Listing([Entry(path.name, about.st_size, str(about.st_mtime_ns))])

    def open(self, entry: Entry) -> IO[bytes]:
        return self._path.open("rb")
