"""Downloads against a real server that breaks, hangs and lies."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.source.download import ATTEMPTS, NotFoundError, Patience, download
from pipeline.source.unpack import MirrorError
from tests.loopback import WebServer, web_server

CONTENT = bytes(range(251)) * 2000  # 502,000 bytes: several pieces
PATIENT = Patience(connect_seconds=1, read_seconds=0.2, retry_seconds=0)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as server:
        server.files["file"] = CONTENT
        yield server


def get(server: WebServer, partial: Path, **more: int) -> list[tuple[int, int | None]]:
    """Download, and give what was told on the way."""
    steps: list[tuple[int, int | None]] = []
    download(f"{server.url}/file", partial, PATIENT, lambda now, total: steps.append((now, total)), **more)
    return steps


def test_download_tells_how_far_it_is(server: WebServer, tmp_path: Path) -> None:
    steps = get(server, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT
    assert steps[0] == (0, len(CONTENT)) and steps[-1] == (len(CONTENT), len(CONTENT)) and len(steps) > 2


def test_broken_download_is_taken_up_where_it_broke(server: WebServer, tmp_path: Path) -> None:
    server.cuts = [100_000, 200_000]
    get(server, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=300000-"]


def test_download_goes_on_from_what_an_earlier_run_left(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(CONTENT[:400_000])
    assert get(server, tmp_path / "partial")[0] == (400_000, len(CONTENT))
    assert (tmp_path / "partial").read_bytes() == CONTENT
    assert server.requests == [("file", "bytes=400000-")]


def test_whole_file_is_taken_from_a_server_that_ignores_ranges(server: WebServer, tmp_path: Path) -> None:
    server.ignores_range = True
    (tmp_path / "partial").write_bytes(b"x" * 400_000)
    get(server, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT


def test_download_that_was_whole_already_is_kept(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(CONTENT)
    assert get(server, tmp_path / "partial") == []
    assert (tmp_path / "partial").read_bytes() == CONTENT


def test_part_that_is_longer_than_the_file_is_thrown_away(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(CONTENT + b"more")
    get(server, tmp_path / "partial")
    assert (tmp_path / "partial").read_bytes() == CONTENT


def test_download_that_keeps_breaking_ends_and_keeps_what_it_got(server: WebServer, tmp_path: Path) -> None:
    server.cuts = [1000] * 100
    with pytest.raises(MirrorError, match=r"broke after 5,000 bytes \(the next fetch goes on from there\)"):
        get(server, tmp_path / "partial")
    assert len(server.requests) == ATTEMPTS
    assert (tmp_path / "partial").read_bytes() == CONTENT[:5000]


def test_download_that_gets_nothing_is_not_tried_again(server: WebServer, tmp_path: Path) -> None:
    server.cuts = [0] * 100
    with pytest.raises(MirrorError, match="the connection broke after 0 bytes"):
        get(server, tmp_path / "partial")
    assert len(server.requests) == 1


def test_server_that_stops_sending_is_left(server: WebServer, tmp_path: Path) -> None:
    server.hangs_after = 0
    with pytest.raises(MirrorError, match=r"it sent nothing for 0\.2 s after 0 bytes"):
        get(server, tmp_path / "partial")


def test_server_that_never_answers_is_left(server: WebServer, tmp_path: Path) -> None:
    server.hangs_silently = True
    with pytest.raises(MirrorError, match=r"no answer within 0\.2 s"):
        get(server, tmp_path / "partial")


def test_missing_file_is_told_from_a_failing_server(server: WebServer, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="HTTP 404"):
        download(f"{server.url}/other", tmp_path / "partial", PATIENT, lambda now, total: None)
    server.status = 503
    with pytest.raises(MirrorError, match="HTTP 503 Service Unavailable") as caught:
        get(server, tmp_path / "partial")
    assert not isinstance(caught.value, NotFoundError)


def test_refused_connection_is_named(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
        with pytest.raises(MirrorError, match="the connection was refused or broken off"):
            download(url, tmp_path / "partial", PATIENT, lambda now, total: None)


def test_unknown_host_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(MirrorError, match="its host name is not known here"):
        download("http://nowhere.invalid/file", tmp_path / "partial", PATIENT, lambda now, total: None)


def test_nonsense_address_is_named(tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="InvalidURL"):
        download("http:///file", tmp_path / "partial", PATIENT, lambda now, total: None)


def test_file_that_is_announced_too_long_is_refused(server: WebServer, tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="at most 1,000 bytes long; the server announces 502,000"):
        get(server, tmp_path / "partial", max_bytes=1000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_is_named_with_the_bytes_needed(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "partial").symlink_to("/dev/full")
    with pytest.raises(DataError, match="partial must have room for 502,000 bytes; the disk is full") as caught:
        get(server, tmp_path / "partial")
    assert not isinstance(caught.value, MirrorError)


def test_stop_leaves_the_part_that_was_got(server: WebServer, tmp_path: Path) -> None:
    def stop(now: int, total: int | None) -> None:
        if now > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}/file", tmp_path / "partial", PATIENT, stop)
    kept = (tmp_path / "partial").read_bytes()
    assert kept and CONTENT.startswith(kept)
