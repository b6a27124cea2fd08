"""Mirrors of every kind, in any order, with what each of them may get wrong."""

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.source import mirrors
from pipeline.source.download import Patience
from pipeline.source.mirrors import fetch_files
from pipeline.source.unpack import MirrorError
from tests.cifar_files import tarred
from tests.idx_files import gzipped, write_files
from tests.loopback import WebServer, web_server

CONTENT = {"images": bytes(range(251)) * 1000, "labels": b"0123456789" * 30}
FILES = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
ARCHIVE = gzip.compress(tarred(CONTENT), mtime=0)
CHECKSUM = hashlib.sha256(ARCHIVE).hexdigest()
PATIENT = Patience(connect_seconds=1, read_seconds=0.2, retry_seconds=0)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as server:
        server.files = gzipped(CONTENT)
        yield server


def fetch(tmp_path: Path, *mirrors: str, key: str = "data.mirrors") -> dict[str, bytes]:
    """Ask `mirrors`, and give what is in the output folder then."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    fetch_files(FILES, key, mirrors, out, tmp_path / "cache", PATIENT)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def cached(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("files", [CONTENT, gzipped(CONTENT)], ids=["plain", "gzip"])
def test_folder_gives_plain_and_gzipped_files(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert fetch(tmp_path, str(write_files(tmp_path / "mirror", files))) == CONTENT


@pytest.mark.parametrize("end", ["", "/"])
def test_web_address_gives_gzipped_files(tmp_path: Path, server: WebServer, end: str) -> None:
    assert fetch(tmp_path, server.url + end) == CONTENT
    assert [path for path, _ in server.requests] == ["images.gz", "labels.gz"]
    assert cached(tmp_path) == []


def test_web_address_gives_plain_files_where_it_has_no_gzipped_ones(tmp_path: Path, server: WebServer) -> None:
    server.files = dict(CONTENT)
    assert fetch(tmp_path, server.url) == CONTENT


def test_package_gives_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack_package(package: str, scratch: Path, timeout_seconds: float) -> Path:
        assert package == "some-data"
        write_files(scratch / "usr/share/some", gzipped(CONTENT))
        return scratch

    monkeypatch.setattr(mirrors, "unpack_package", unpack_package)
    assert fetch(tmp_path, "debian:some-data/usr/share/some") == CONTENT


def test_tar_file_gives_files(tmp_path: Path) -> None:
    assert fetch(tmp_path, str(write_files(tmp_path / "mirror", {"any-name": ARCHIVE}) / "any-name")) == CONTENT


@pytest.mark.parametrize("end", ["", f"#sha256={CHECKSUM}", f"#sha256={CHECKSUM.upper()}"])
def test_address_of_a_tar_file_gives_files(tmp_path: Path, server: WebServer, end: str) -> None:
    server.files = {"some/data.tar.gz": ARCHIVE}
    assert fetch(tmp_path, f"{server.url}/some/data.tar.gz{end}") == CONTENT
    assert [path for path, _ in server.requests] == ["some/data.tar.gz"]
    assert cached(tmp_path) == []


def test_stopped_download_of_a_tar_file_goes_on_in_the_next_run(tmp_path: Path, server: WebServer) -> None:
    server.files, server.cuts = {"data.tar.gz": ARCHIVE}, [len(ARCHIVE) // 2, 0]
    with pytest.raises(DataError, match="the connection broke after"):
        fetch(tmp_path, f"{server.url}/data.tar.gz")
    server.requests.clear()
    assert fetch(tmp_path, f"{server.url}/data.tar.gz") == CONTENT
    assert server.requests == [("data.tar.gz", f"bytes={len(ARCHIVE) // 2}-")]


def test_archive_with_another_checksum_is_not_opened_and_the_next_mirror_is_asked(
    tmp_path: Path, server: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["data.tar.gz"] = gzip.compress(tarred(CONTENT | {"images": b"not the right ones"}))
    found = hashlib.sha256(server.files["data.tar.gz"]).hexdigest()
    assert fetch(tmp_path, f"{server.url}/data.tar.gz#sha256={CHECKSUM}", server.url) == CONTENT
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{server.url}/data.tar.gz: it must have the SHA-256 {CHECKSUM}; got {found} (")
    assert [line.partition(":")[0] for line in others] == ["images", "labels"]


def test_what_is_no_checksum_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"follows its # must be sha256= and 64 hexadecimal digits; got 'md5=0123'"):
        fetch(tmp_path, "http://localhost/data.tar#md5=0123")


def test_next_mirror_is_asked_for_what_is_missing_only(
    tmp_path: Path, server: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    half = write_files(tmp_path / "half", {"images": CONTENT["images"]})
    assert fetch(tmp_path, str(half), server.url) == CONTENT
    assert [path for path, _ in server.requests] == ["labels.gz"]
    assert f"{half}: it holds neither labels nor labels.gz" in capsys.readouterr().out


def test_terminal_names_each_file_and_who_served_it(
    tmp_path: Path, server: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(tmp_path, server.url)
    assert capsys.readouterr().out.splitlines() == [
        f"images: 251,000 bytes from {server.url}",
        f"labels: 300 bytes from {server.url}",
    ]


def test_mirror_with_wrong_bytes_is_passed_over(tmp_path: Path, server: WebServer) -> None:
    wrong = write_files(tmp_path / "wrong", {"images": b"an error page", "labels": CONTENT["labels"]})
    assert fetch(tmp_path, str(wrong), server.url) == CONTENT


def test_stopped_download_goes_on_in_the_next_run(tmp_path: Path, server: WebServer) -> None:
    num_bytes = len(server.files["images.gz"])
    server.cuts = [num_bytes // 2, 0]
    with pytest.raises(DataError, match="the connection broke after"):
        fetch(tmp_path, server.url)
    assert [path.stat().st_size for path in cached(tmp_path)] == [num_bytes // 2]
    server.requests.clear()
    assert fetch(tmp_path, server.url) == CONTENT
    assert server.requests[0] == ("images.gz", f"bytes={num_bytes // 2}-")
    assert cached(tmp_path) == []


def test_part_with_wrong_bytes_is_replaced_by_the_whole_file(tmp_path: Path, server: WebServer) -> None:
    server.cuts = [200, 0]
    with pytest.raises(DataError):
        fetch(tmp_path, server.url)
    [partial] = cached(tmp_path)
    partial.write_bytes(b"x" * 200)
    server.requests.clear()
    assert fetch(tmp_path, server.url) == CONTENT
    assert [wanted for path, wanted in server.requests if path == "images.gz"] == ["bytes=200-", None]


def test_wrong_bytes_are_fetched_once_and_not_kept(tmp_path: Path, server: WebServer) -> None:
    server.files["images.gz"] = gzip.compress(b"other")
    with pytest.raises(DataError, match=f"images must have the SHA-256 {FILES['images']}; got [0-9a-f]{{64}}"):
        fetch(tmp_path, server.url)
    assert len(server.requests) == 1
    assert cached(tmp_path) == []


def test_wrong_part_and_wrong_file_end_all_the_same(tmp_path: Path, server: WebServer) -> None:
    server.cuts = [100, 0]
    with pytest.raises(DataError):
        fetch(tmp_path, server.url)
    server.files["images.gz"] = b"x" * 1000
    server.requests.clear()
    with pytest.raises(DataError, match="images must have the SHA-256"):
        fetch(tmp_path, server.url)
    assert len(server.requests) == 2


def test_file_cut_short_on_the_mirror_is_told(tmp_path: Path, server: WebServer) -> None:
    server.files["images.gz"] = server.files["images.gz"][:-20]
    with pytest.raises(DataError, match="images must come as a whole gzip file; got a truncated"):
        fetch(tmp_path, server.url)


def test_parts_that_another_mirror_left_vanish_in_the_end(tmp_path: Path, server: WebServer) -> None:
    server.cuts = [100, 0]
    assert fetch(tmp_path, server.url, str(write_files(tmp_path / "mirror", CONTENT))) == CONTENT
    assert cached(tmp_path) == []


def test_every_mirror_is_listed_with_its_reason(tmp_path: Path, server: WebServer) -> None:
    server.files.clear()
    silent = "ftp://example.invalid/data"
    with pytest.raises(DataError) as caught:
        fetch(tmp_path, str(tmp_path / "none"), server.url, "debian:some-data", silent)
    lines = str(caught.value).splitlines()
    assert lines == [
        "data.mirrors must name a folder, a tar file, an http(s) address of one of these, or debian:<package>/<path> that "
        "holds images, labels, plain or as .gz; got",
        f"  {tmp_path / 'none'}: there is no such folder or tar file",
        f"  {server.url}: it has neither images.gz nor images (HTTP 404)",
        "  debian:some-data: it must be debian:<package>/<path in the package>",
        f"  {silent}: it must be a folder, a tar file, an http(s) address of one of these, or debian:<package>/<path>",
        "Set data.source to one that does; or run `dvc pull` where a remote has the data; or take data=digits, which "
        "needs no network.",
    ]


def test_no_mirror_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.mirrors must name .*; got \[\]\. Set data\.source to"):
        fetch(tmp_path)


def test_missing_source_folder_is_one_clear_line(tmp_path: Path) -> None:
    match = r"data\.source must name .*; got .*/none: there is no such folder or tar file\. Set .*, or to null for the mirrors"
    with pytest.raises(DataError, match=match) as caught:
        fetch(tmp_path, str(tmp_path / "none"), key="data.source")
    assert "\n" not in str(caught.value)


def test_source_that_is_another_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT["images"])
    with pytest.raises(DataError, match="it must be a whole tar file, plain or gzipped; got something else"):
        fetch(tmp_path, str(tmp_path / "file"), key="data.source")


@pytest.mark.parametrize("name", ["images", "data.tar"])
def test_source_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = write_files(tmp_path / "mirror", {name: b""})
    opened = Path.open

    def closed(path: Path, *arguments: object, **options: object) -> object:
        if path.parent == folder:
            raise PermissionError(13, os.strerror(13), str(path))
        return opened(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(DataError, match=rf"{name} cannot be read there \(Permission denied\)"):
        fetch(tmp_path, str(folder if name == "images" else folder / name), key="data.source")


def test_source_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_files(tmp_path / "mirror", CONTENT)
    assert fetch(tmp_path, "~/mirror", key="data.source") == CONTENT


def test_password_in_an_address_is_never_shown(
    tmp_path: Path, server: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files.clear()
    with pytest.raises(DataError, match="127") as caught:
        fetch(tmp_path, server.url.replace("//", "//me:secret@"))
    assert "secret" not in str(caught.value) + capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_is_not_blamed_on_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = write_files(tmp_path / "mirror", CONTENT)
    opened = Path.open

    def full(path: Path, *arguments: object, **options: object) -> object:
        target = Path("/dev/full") if path.parent.name == "out" else path
        return opened(target, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match="images must have room for 251,000 bytes; the disk is full") as caught:
        fetch(tmp_path, str(mirror))
    assert not isinstance(caught.value, MirrorError)
