"""Servers on this machine: one for files from memory that fails when it is told to, and a port for others."""

import re
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WebServer:
    """Files that the server serves, and its misbehaviour; a test changes both at any time.

    Attributes:
        url: Its address.
        files: Content by path, without the leading slash.
        cuts: For each of the next answers, the number of bytes after which the connection breaks.
        hangs_after: Bytes after which an answer stops without ending; None: never.
        hangs_silently: Takes a request and never answers.
        ignores_range: Always sends the whole file.
        status: Answered to everything, where not None.
        requests: Path and Range header of each request so far.
        credentials: User and password of each request so far that had some, for the server or for a proxy.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    hangs_after: int | None = None
    hangs_silently: bool = False
    ignores_range: bool = False
    status: int | None = None
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)


@contextmanager
def web_server() -> Iterator[WebServer]:
    """A running server, stopped at the end of the block."""
    state, stopped = WebServer(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append((self.path[1:], self.headers["Range"]))
            for name in ("Authorization", "Proxy-Authorization"):
                if self.headers[name]:
                    state.credentials.append(b64decode(self.headers[name].removeprefix("Basic ")).decode())
            if state.hangs_silently:
                stopped.wait()
                return
            content = state.files.get(self.path[1:])
            if state.status is not None or content is None:
                self.send_error(state.status or 404)
                return
            self._send(content)

        def _send(self, content: bytes) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            begin = int(wanted[1]) if wanted and not state.ignores_range else 0
            if begin and begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            end = begin + state.cuts.pop(0) if state.cuts else len(content)
            if state.hangs_after is not None:
                end = begin + state.hangs_after
            self.wfile.write(content[begin:end])
            self.wfile.flush()
            if state.hangs_after is not None:
                stopped.wait()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """A port that nothing listens on right now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
