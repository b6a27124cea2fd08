"""Unpacks and checks the files of a mirror, which are plain, gzipped or in a tar file."""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.errors import DataError
from pipeline.storage import digests
from pipeline.storage.atomic import room_for

MAX_BYTES = 1 << 30
"""Limit for a raw file, far above any of ours, so that none fills the disk."""

CHUNK_BYTES = 1 << 18
GZIP_MAGIC = b"\x1f\x8b"


class MirrorError(DataError):
    """Raised when a mirror does not serve a file; its text is a clause for a message that names the mirror."""


class BadBytesError(MirrorError):
    """Raised when a mirror serves wrong bytes."""


def check(packed: Path, sha256: str) -> None:
    """Check the SHA-256 of `packed`, as the mirror served it.

    Raises:
        BadBytesError: It is another one.
    """
    digest = digests.sha256(packed)
    if digest != sha256:
        raise BadBytesError(f"it must have the SHA-256 {sha256}; got {digest} ({packed.stat().st_size:,} bytes)")


def unpack(packed: Path, target: Path, sha256: str, max_bytes: int = MAX_BYTES) -> int:
    """Write the content of `packed`, a plain or a gzip file, to `target`, check it, and return its number of bytes.

    The first bytes of `packed`, not its name, tell whether it is gzipped. A wrong `target` is removed again.

    Raises:
        BadBytesError: The content is truncated, too long, or not the expected one.
        DataError: The disk is full.
    """
    try:
        with _opened(packed) as source:
            return _write_checked(source, target, sha256, _unpacked_size(packed), max_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadBytesError(
            f"{target.name} must come as a whole gzip file; got a truncated or damaged one of "
            f"{packed.stat().st_size:,} bytes ({error})"
        ) from error


def unpack_archive(
    packed: Path, files: Mapping[str, str], out: Path, max_bytes: int = MAX_BYTES
) -> Iterator[tuple[str, int]]:
    """Write the members of `packed`, a plain or a gzipped tar file, whose names and SHA-256 `files` holds, and check each.

    Folders in the archive and all other members are ignored: a member is written to its name in `files` and nowhere else, so
    that none can lead out of `out`.

    Yields:
        The name and the number of bytes of each file, as soon as it is whole.

    Raises:
        BadBytesError: The archive is damaged, unpacks to too much, or lacks a file; or one is a link or has other bytes.
        DataError: The disk is full.
    """
    missing = dict(files)
    try:
        with _opened(packed) as source, tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                if member.offset_data + member.size > max_bytes:
                    raise BadBytesError(f"it must unpack to at most {max_bytes:,} bytes; it holds more")
                name = PurePosixPath(member.name).name
                if name not in missing:
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise BadBytesError(f"it must hold {name} as a file; it holds a link or a folder of that name")
                yield name, _write_checked(content, out / name, missing.pop(name), member.size, max_bytes)
                if not missing:
                    return
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadBytesError(
            f"it must be a whole tar file, plain or gzipped; got something else, or a damaged one, of "
            f"{packed.stat().st_size:,} bytes ({error})"
        ) from error
    raise BadBytesError(f"it holds no {' and no '.join(missing)}")


def _write_checked(source: IO[bytes], target: Path, sha256: str, expected_bytes: int, max_bytes: int) -> int:
    """Copy `source` to `target` and return its number of bytes; a wrong or truncated copy is removed."""
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with room_for(target, expected_bytes), target.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                num_bytes += len(chunk)
                if num_bytes > max_bytes:
                    raise BadBytesError(f"{target.name} must hold at most {max_bytes:,} bytes; it holds more")
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise BadBytesError(
                f"{target.name} must have the SHA-256 {sha256}; got {digest.hexdigest()} ({num_bytes:,} bytes)"
            )
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return num_bytes


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if _is_gzip(path) else path.open("rb")  # type: ignore[return-value]


def _unpacked_size(path: Path) -> int:
    """Number of bytes of the content; for a gzip file, as its last four bytes announce (RFC 1952, section 2.3.1: ISIZE)."""
    num_bytes = path.stat().st_size
    if not _is_gzip(path):
        return num_bytes
    with path.open("rb") as file:
        file.seek(max(0, num_bytes - 4))
        return int.from_bytes(file.read(4), "little")
