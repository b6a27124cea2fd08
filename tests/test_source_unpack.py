"""A mirror's file is accepted only when it is the expected one, and whole."""

import errno
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.source.unpack import BadBytesError, check, room_for, unpack, unpack_archive
from tests.cifar_files import tarred

CONTENT = bytes(range(256)) * 8
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MEMBERS = {"readme.html": b"<html>", "first.bin": CONTENT, "second.bin": CONTENT[:700]}
FILES = {name: hashlib.sha256(MEMBERS[name]).hexdigest() for name in ("first.bin", "second.bin")}


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
    with pytest.raises(BadBytesError, match="file must hold at most 1,000,000 bytes; it holds more"):
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


def test_check_names_both_checksums(tmp_path: Path) -> None:
    path = packed(tmp_path, b"other")
    check(path, hashlib.sha256(b"other").hexdigest())
    with pytest.raises(BadBytesError, match=rf"it must have the SHA-256 {SHA256}; got [0-9a-f]{{64}} \(5 bytes\)"):
        check(path, SHA256)


def members(folder: Path, content: bytes, **options: int) -> dict[str, bytes]:
    """Unpack an archive into `folder / "out"`, and give what is there then."""
    out = folder / "out"
    out.mkdir()
    told = dict(unpack_archive(packed(folder, content), FILES, out, **options))
    assert told == {name: len(MEMBERS[name]) for name in FILES}
    return {path.name: path.read_bytes() for path in out.iterdir()}


def link(name: str, target: str, kind: bytes) -> bytes:
    """A tar file whose only member is a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
@pytest.mark.parametrize("folder", ["data", ".", "a/b"])
def test_archive_gives_the_named_files_and_no_others(tmp_path: Path, pack: type[bytes], folder: str) -> None:
    assert members(tmp_path, pack(tarred(MEMBERS, folder))) == {name: MEMBERS[name] for name in FILES}


@pytest.mark.parametrize("folder", ["../..", "/etc", "data/../../.."])
def test_no_member_is_written_outside_of_the_folder(tmp_path: Path, folder: str) -> None:
    members(tmp_path, tarred(MEMBERS, folder))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first.bin", "out", "packed", "second.bin"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_archive_with_a_link_in_the_place_of_a_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(BadBytesError, match=r"it must hold first\.bin as a file; it holds a link or a folder"):
        members(tmp_path, link("data/first.bin", "/etc/passwd", kind))
    assert list((tmp_path / "out").iterdir()) == []


def test_member_with_other_bytes_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(BadBytesError, match=r"second\.bin must have the SHA-256 .*\(2,048 bytes\)"):
        members(tmp_path, tarred(MEMBERS | {"second.bin": CONTENT}))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first.bin"]


def test_archive_that_lacks_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadBytesError, match=r"it holds no first\.bin and no second\.bin"):
        members(tmp_path, tarred({"readme.html": b""}))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
@pytest.mark.parametrize("share", [0, 0.1, 0.3, 0.6])
def test_truncated_archive_is_told(tmp_path: Path, pack: type[bytes], share: float) -> None:
    whole = pack(tarred(MEMBERS)[: 2048 + 1024 + 2048 + 512 + 700])  # without the zeros that pad a tar file
    told = r"it must be a whole tar file, plain or gzipped; got .* of [\d,]+ bytes|it holds no second\.bin"
    with pytest.raises(BadBytesError, match=told):
        members(tmp_path, whole[: int(share * len(whole))])


@pytest.mark.parametrize("content", [b"an error page", gzip.compress(CONTENT), CONTENT * 9])
def test_file_that_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadBytesError, match="it must be a whole tar file, plain or gzipped; got something else"):
        members(tmp_path, content)


def test_archive_that_unpacks_to_too_much_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    bomb = gzip.compress(tarred({"bomb": bytes(50_000_000)} | MEMBERS))
    assert len(bomb) < 100_000
    with pytest.raises(BadBytesError, match="it must unpack to at most 1,000,000 bytes; it holds more"):
        members(tmp_path, bomb, max_bytes=1_000_000)
