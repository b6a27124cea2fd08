"""Files below one source, listed and opened the same way: a folder, a zip or tar archive, or a folder in a bucket.

Nothing is extracted: a member of an archive is read, and written only where the caller says, so that no name in it can lead
out of the project.
"""

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from pipeline.config.errors import ConfigError, DataError

CHUNK_BYTES = 1 << 20

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "ssh": "ssh",
          "sftp": "ssh"}  # fmt: skip
"""The extra of goodfit that brings the package for each kind of address."""

HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Entry:
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
    """Files below one source."""

    listing: Listing

    def open(self, entry: Entry) -> IO[bytes]:
        """A file to read, and to seek in.

        Raises:
            DamagedError: It cannot be read.
        """


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
    try:
        with tree.open(entry) as file:
            data = file.read(max_bytes + 1)
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        zlib.error,
        zipfile.BadZipFile,
        tarfile.TarError,
    ) as error:
        raise DamagedError(" ".join(str(error).split()) or type(error).__name__) from error
    if len(data) > max_bytes:
        raise DamagedError(f"it holds more than {max_bytes:,} bytes")
    return data


@contextmanager
def opened(source: str, storage_options: Mapping[str, Any]) -> Iterator[Tree]:
    """The files of `source`: the path of a folder or an archive, or the address of a folder that fsspec knows.

    Raises:
        DataError: There is nothing, or nothing that can be read.
        ConfigError: The package for such an address is not installed.
    """
    if "://" in source:
        yield _Remote(source, storage_options)
        return
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            yield _Folder(path)
        elif path.suffix.lower() != ".npz" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _Zip(archive)
        elif path.is_file() and tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                yield _Tar(tar)
        elif path.is_file():
            yield _Single(path)
        else:
            raise DataError(
                f"data.source must be a folder, an archive or a file that is there; got {source}, which is not."
            )
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} must be a whole archive; got a damaged one ({error}).") from error
    except PermissionError as error:
        raise DataError(f"{error.filename} must be readable; it is not ({error.strerror}).") from error


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._real = Path(os.path.realpath(root))
        self.listing = Listing()
        self._list(str(root), "")
        self.listing.entries.sort(key=lambda entry: entry.path)

    def open(self, entry: Entry) -> IO[bytes]:
        return (self._root / entry.path).open("rb")

    def _list(self, folder: str, prefix: str) -> None:
        with os.scandir(folder) as found:
            for each in found:
                path = f"{prefix}{each.name}"
                if hidden(each.name):
                    continue
                if each.is_symlink() and not self._inside(each.path):
                    where = os.path.realpath(each.path)
                    self.listing.skipped.append(Skipped(path, "link", f"it leads out of the source, to {where}"))
                elif each.is_dir(follow_symlinks=False):
                    self._list(each.path, f"{path}/")
                elif each.is_file():
                    about = each.stat()
                    self.listing.entries.append(Entry(path, about.st_size, str(about.st_mtime_ns)))
                else:
                    what = "a link to a folder" if each.is_symlink() and each.is_dir() else "no regular file"
                    self.listing.skipped.append(
                        Skipped(path, "link" if each.is_symlink() else "no_file", f"it is {what}")
                    )

    def _inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._real)


class _Single:
    """One file that is no archive, such as a Parquet file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        about = path.stat()
        self.listing = Listing([Entry(path.name, about.st_size, str(about.st_mtime_ns))])

    def open(self, entry: Entry) -> IO[bytes]:
        return self._path.open("rb")


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.listing = Listing()
        for member in archive.infolist():
            path = member.filename
            if member.is_dir() or (hidden(_without_dots(path)) and not _unsafe(path)):
                continue
            if _unsafe(path):
                self.listing.skipped.append(Skipped(path, "unsafe_name", "it would lead out of the archive"))
            elif stat.S_ISLNK(member.external_attr >> 16):
                self.listing.skipped.append(Skipped(path, "link", "it is a link"))
            elif member.flag_bits & 1:
                self.listing.skipped.append(Skipped(path, "encrypted", "it needs a password"))
            else:
                path = _without_dots(path)
                self._members[path] = member
                self.listing.entries.append(Entry(path, member.file_size, f"{member.CRC:08x}"))

    def open(self, entry: Entry) -> IO[bytes]:
        return self._archive.open(self._members[entry.path])


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        self.listing = Listing()
        for member in archive:
            path = member.name
            if member.isdir() or (hidden(_without_dots(path)) and not _unsafe(path)):
                continue
            if _unsafe(path):
                self.listing.skipped.append(Skipped(path, "unsafe_name", "it would lead out of the archive"))
            elif not member.isreg():
                linked = member.issym() or member.islnk()
                self.listing.skipped.append(
                    Skipped(
                        path, "link" if linked else "no_file", "it is a link" if linked else "it is no regular file"
                    )
                )
            else:
                path = _without_dots(path)
                self._members[path] = member
                self.listing.entries.append(Entry(path, member.size, str(member.mtime)))

    def open(self, entry: Entry) -> IO[bytes]:
        file = self._archive.extractfile(self._members[entry.path])
        assert file is not None, "only regular files are listed"
        return file


class _Remote:
    def __init__(self, address: str, storage_options: Mapping[str, Any]) -> None:
        import fsspec

        scheme = address.partition("://")[0]
        try:
            self._files, self._root = fsspec.core.url_to_fs(address, **storage_options)
            found = self._files.find(self._root, detail=True)
        except (ImportError, ValueError) as error:
            extra = EXTRAS.get(scheme)
            mend = (
                f"Install it with `pip install -e '.[{extra}]'`."
                if extra
                else f"Known are {', '.join(sorted(EXTRAS))}."
            )
            raise ConfigError(f"data.source={address} needs a package for {scheme}:// ({error}). {mend}") from None
        except Exception as error:  # each file system raises its library's own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(
                f"data.source must be a folder that can be listed; {address} cannot: {reason}. Correct the address, or give "
                "what it needs in data.storage_options or in the environment."
            ) from None
        self._names: dict[str, str] = {}
        self.listing = Listing()
        for name, about in sorted(found.items()):
            path = name.removeprefix(self._root).lstrip("/") or PurePosixPath(name).name
            if about.get("type") == "directory" or hidden(path):
                continue
            stamp = next((str(about[key]) for key in ("ETag", "etag", "LastModified", "mtime") if key in about), "")
            self._names[path] = name
            self.listing.entries.append(Entry(path, int(about.get("size") or 0), stamp))
        if not self.listing.entries:
            raise DataError(f"data.source must hold files; {address} holds none.")

    def open(self, entry: Entry) -> IO[bytes]:
        file: IO[bytes] = self._files.open(self._names[entry.path], "rb")
        return file


def _unsafe(path: str) -> bool:
    return path.startswith(("/", "\\")) or ":" in path[:3] or ".." in path.replace("\\", "/").split("/")


def _without_dots(path: str) -> str:
    """`./cats/1.png`, as tar writes it, as `cats/1.png`."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
