"""What a mirror gives is taken only when it is the expected file, whole."""

import errno
import gzip
import hashlib
from pathlib import Path

import pytest

from pipeline.config.errors import DataError
from pipeline.data.unpack import BadBytesError, room_for, unpack

CONTENT = bytes(range(256)) * 8
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def packed(folder: Path, content: bytes) -> Path:
    path = folder / "packed"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [CONTENT, gzip.compress(CONTENT)], ids=["plain", "gzip"])
def test_unpack_writes_the_checked_content(tmp_path: Path, content: bytes) -> None:
    assert unpack(packed(tmp_path, content), tmp_path / "file", SHA256) == len(CONTENT)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("kept_bytes", [2, 3, 20, 200])
def test_unpack_refuses_a_truncated_gzip_file(tmp_path: Path, kept_bytes: int) -> None:
    path = packed(tmp_path, gzip.compress(CONTENT)[:kept_bytes])
    with pytest.raises(BadBytesError, match=rf"file must come as a whole gzip file; got a .* of {kept_bytes} bytes"):
        unpack(path, tmp_path / "file", SHA256)
    assert not (tmp_path / "file").exists()


def test_unpack_refuses_a_damaged_gzip_file(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(CONTENT))
    damaged[40] ^= 0xFF
    with pytest.raises(BadBytesError, match=r"whole gzip file|SHA-256"):
        unpack(packed(tmp_path, bytes(damaged)), tmp_path / "file", SHA256)
    assert not (tmp_path / "file").exists()


def test_unpack_names_both_checksums(tmp_path: Path) -> None:
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(BadBytesError, match=rf"file must have the SHA-256 {SHA256}; got {found} \(5 bytes\)"):
        unpack(packed(tmp_path, b"other"), tmp_path / "file", SHA256)
    assert not (tmp_path / "file").exists()


def test_unpack_refuses_a_gzip_bomb_before_it_fills_the_disk(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(BadBytesError, match="packed must hold at most 1,000,000 bytes; it holds more"):
        unpack(packed(tmp_path, bomb), tmp_path / "file", SHA256, max_bytes=1_000_000)
    assert not (tmp_path / "file").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("content", [CONTENT, gzip.compress(CONTENT)], ids=["plain", "gzip"])
def test_a_full_disk_is_named_with_the_bytes_needed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"file must have room for 2,048 bytes; the disk is full. Free some space"):
        unpack(packed(tmp_path, content), tmp_path / "file", SHA256)


def test_room_for_leaves_other_errors_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room_for(tmp_path, 1):
        raise PermissionError(errno.EACCES, "no")
