"""Downloads files, and resumes broken downloads."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3
from urllib3.exceptions import NameResolutionError

from pipeline.source.unpack import CHUNK_BYTES, MAX_BYTES, MirrorError
from pipeline.storage.atomic import room_for

ATTEMPTS = 5
"""Number of attempts at one download; an attempt that receives no bytes is the last one."""

_GOES_ON = " (the next fetch goes on from there)"

Advance = Callable[[int, int | None], None]
"""Takes the number of bytes that have arrived, and of those of the whole file (None: unknown)."""


@dataclass(frozen=True)
class Patience:
    """Time-outs: for a connection, for a server's next bytes and for a call of apt-get; and the pause before a retry."""

    connect_seconds: float = 5.0
    read_seconds: float = 20.0
    retry_seconds: float = 1.0
    apt_seconds: float = 300.0


class NotFoundError(MirrorError):
    """Raised when the server answers that it has no such file."""


class _BrokenError(MirrorError):
    """Raised when the connection ends before the file does."""


def download(url: str, partial: Path, patience: Patience, advance: Advance, max_bytes: int = MAX_BYTES) -> None:
    """Download `url` into `partial`, which outlives a break, a kill or Ctrl-C; the next call resumes it if the server can.

    Raises:
        NotFoundError: The server has no such file.
        MirrorError: The server does not answer, answers with an error, or breaks off without sending more.
        DataError: The disk is full.
    """
    for attempt in range(1, ATTEMPTS + 1):
        begin = _size(partial)
        try:
            return _attempt(url, partial, patience, advance, max_bytes)
        except _BrokenError:
            if attempt == ATTEMPTS or _size(partial) <= begin:
                raise
        time.sleep(patience.retry_seconds)


def _attempt(url: str, partial: Path, patience: Patience, advance: Advance, max_bytes: int) -> None:
    have = _size(partial)
    # "identity": the bytes of a .gz file as they are, so that a range of them means the same each time
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        timeouts = patience.connect_seconds, patience.read_seconds
        with requests.get(url, headers=headers, stream=True, timeout=timeouts) as response:
            if response.status_code == 416 and have:  # nothing follows our bytes: they are whole, or another file's
                if _total(response) == have:
                    return
                partial.unlink()
                return _attempt(url, partial, patience, advance, max_bytes)
            if response.status_code in (404, 410):
                raise NotFoundError(f"HTTP {response.status_code}")
            if response.status_code not in (200, 206):
                raise MirrorError(f"HTTP {response.status_code} {response.reason}")
            _receive(response, partial, have if _continues(response, have) else 0, advance, max_bytes)
    except requests.RequestException as error:
        raise MirrorError(_reason(error, patience)) from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise _BrokenError(
            f"it sent nothing for {patience.read_seconds:g} s after {_size(partial):,} bytes{_GOES_ON}"
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise _BrokenError(f"the connection broke after {_size(partial):,} bytes{_GOES_ON}") from error


def _receive(response: requests.Response, partial: Path, have: int, advance: Advance, max_bytes: int) -> None:
    length = response.headers.get("Content-Length")
    total = have + int(length) if length is not None and length.isdigit() else None
    if (total or 0) > max_bytes:
        raise MirrorError(f"the file must be at most {max_bytes:,} bytes long; the server announces {total:,}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with room_for(partial, total or have), partial.open("ab" if have else "wb") as file:
        advance(have, total)
        for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
            have += len(chunk)
            if have > max_bytes:
                raise MirrorError(f"the file must be at most {max_bytes:,} bytes long; the server sends more")
            file.write(chunk)
            advance(have, total)


def _continues(response: requests.Response, have: int) -> bool:
    """Whether the answer begins where our bytes end; a server may ignore the range and send the whole file."""
    begins = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return response.status_code == 206 and begins == str(have)


def _total(response: requests.Response) -> int | None:
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: requests.RequestException, patience: Patience) -> str:
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {patience.connect_seconds:g} s"
    if isinstance(error, requests.ReadTimeout):
        return f"no answer within {patience.read_seconds:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate was not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused the connection"
    if isinstance(cause, NameResolutionError):
        return "its host name is not known here"
    if isinstance(error, requests.ConnectionError):
        return "the connection was refused or broken off"
    return f"{type(error).__name__}: {error}"
