"""Lists and reads the members of zip and tar archives; nothing is extracted to disk."""

import stat
import tarfile
import zipfile
from typing import IO, Any

from pipeline.errors import DataError
from pipeline.source.files import Entry, Listing, Skipped, hidden

MAX_MEMBERS = 2_000_000
"""Limit for the members of an archive. Each takes memory, and a megabyte can announce millions."""

MAX_NAME_BYTES = 1 << 20
_LONG_NAMES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class ZipTree:
    """The members of a zip archive."""

    num_readers = 1
    root = ""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        skipped = []
        for member in archive.infolist():
            path = member.filename
            if member.is_dir():
                continue
            if _unsafe(path):
                skipped.append(Skipped(path, "unsafe_name", "it would lead out of the archive"))
            elif hidden(clean := _without_dots(path)):
                continue
            elif stat.S_ISLNK(member.external_attr >> 16):
                skipped.append(Skipped(path, "link", "it is a link"))
            elif member.flag_bits & 1:
                skipped.append(Skipped(path, "encrypted", "it needs a password"))
            elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Python's zipfile unpacks bzip2 and LZMA without a bound: 1 MB of these may fill 20 GB of memory
                evidence = f"zip method {member.compress_type}, where 0 (stored) or 8 (deflated) is read"
                skipped.append(Skipped(path, "damaged", evidence))
            else:
                self._members[clean] = member  # the last of two members of one name, as in unpacking
                _check_number(len(self._members))
        entries = [Entry(path, member.file_size, f"{member.CRC:08x}") for path, member in self._members.items()]
        self.listing = Listing(entries, skipped)

    def open(self, entry: Entry) -> IO[bytes]:
        return self._archive.open(self._members[entry.path])


class TarTree:
    """The members of a tar archive."""

    num_readers = 1
    root = ""

    def __init__(self, archive: tarfile.TarFile, max_bytes: int) -> None:
        self._archive = archive
        self._offsets: dict[str, int] = {}
        entries: dict[str, Entry] = {}
        skipped = []
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would collect them, a kilobyte each
            if member.offset_data + member.size > max_bytes:  # before that much is unpacked to reach the next member
                raise DataError(
                    f"data.source must unpack to at most {max_bytes / 1e9:g} GB; it holds more. Raise data.max_gigabytes if "
                    "it is meant to be."
                )
            path = member.name
            if member.isdir():
                continue
            if _unsafe(path):
                skipped.append(Skipped(path, "unsafe_name", "it would lead out of the archive"))
            elif hidden(clean := _without_dots(path)):
                continue
            elif member.issym() or member.islnk():
                skipped.append(Skipped(path, "link", "it is a link"))
            elif not member.isreg() or member.issparse():
                skipped.append(Skipped(path, "no_file", "it is no regular file"))
            else:
                entries.pop(clean, None)  # the last of two members of one name, as in unpacking
                entries[clean] = Entry(clean, member.size, str(member.mtime))
                self._offsets[clean] = member.offset_data
                _check_number(len(entries))
        self.listing = Listing(list(entries.values()), skipped)

    def open(self, entry: Entry) -> IO[bytes]:
        member = tarfile.TarInfo(entry.path)
        member.size, member.offset_data = entry.size, self._offsets[entry.path]
        file = self._archive.extractfile(member)
        assert file is not None, "only regular files are listed"
        return file


class BoundedTarInfo(tarfile.TarInfo):
    """A header that refuses a long name, which tarfile would read into memory whatever length it announces."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _LONG_NAMES and info.size > MAX_NAME_BYTES:
            raise tarfile.ReadError(f"a name of {info.size:,} bytes")
        return info


def _check_number(number: int) -> None:
    if number > MAX_MEMBERS:
        raise DataError(
            f"data.source must hold at most {MAX_MEMBERS:,} files; the archive holds more. Bring them as a folder."
        )


def _unsafe(path: str) -> bool:
    """Whether a member's path leads out of the archive.

    >>> _unsafe("../1.png"), _unsafe("/etc/1.png"), _unsafe("C:/1.png"), _unsafe("cats/1:2.png")
    (True, True, True, False)
    """
    drive = path[:1].isalpha() and path[1:2] == ":"
    return path.startswith(("/", "\\")) or drive or ".." in path.replace("\\", "/").split("/")


def _without_dots(path: str) -> str:
    """The path without `.` and empty parts: tar writes `./cats/1.png` for `cats/1.png`."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
