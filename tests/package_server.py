"""A server of a package on loopback, as a user starts it, and requests to it."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, environment

BOUNDARY = "7d6f9e0c"


@dataclass
class Answer:
    """Status, headers and content of an answer, and its JSON; of another type, its text."""

    status: int
    headers: Mapping[str, str]
    json: Any
    content: bytes


@dataclass
class PackageServer:
    """A running server.

    Attributes:
        process: Its process.
        port: The port that it listens on.
        greeting: The line that it printed.
    """

    process: "subprocess.Popen[str]"
    port: int
    greeting: str

    def ask(
        self, method: str, path: str, body: Any = None, kind: str | None = None, host: str | None = None, **options: Any
    ) -> Answer:  # fmt: skip
        """Send one request on a connection of its own, with another Host if one is given."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": kind, "Host": host}
            connection.request(method, path, body, {name: text for name, text in headers.items() if text}, **options)
            return answer(connection.getresponse())
        finally:
            connection.close()

    def predict(self, image: bytes, kind: str = "application/octet-stream", query: str = "") -> Answer:
        return self.ask("POST", "/predict" + query, image, kind)

    def predict_files(self, files: Mapping[str, bytes]) -> Answer:
        return self.ask("POST", "/predict", form(files), f"multipart/form-data; boundary={BOUNDARY}")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


def answer(response: HTTPResponse) -> Answer:
    content = response.read()
    is_json = response.headers.get_content_type() == "application/json"
    read = json.loads(content) if is_json else content.decode(errors="replace")
    return Answer(response.status, response.headers, read, content)


def form(files: Mapping[str, bytes]) -> bytes:
    """A form with files, by name."""
    parts = []
    for name, content in files.items():
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def package_server(
    command: str, package: Path | str, *options: str, errors: Any = None, **variables: str
) -> Iterator[PackageServer]:
    """Run `python -m pipeline.<command>` on a free port, and stop it at the end of the block.

    Args:
        command: `serve` or `demo`.
        package: Package, or its address in MLflow.
        options: Further options.
        errors: File for its standard error.
        variables: Further variables of its environment.
    """
    arguments = [sys.executable, "-m", f"pipeline.{command}", "--model", str(package), "--port", "0", *options]
    given = {**environment(), "PYTHONPATH": str(ROOT), **variables}
    place = package.parent if isinstance(package, Path) else None
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True, env=given, cwd=place) as process:
        try:
            assert process.stdout is not None
            greeting = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", greeting)
            assert found, f"pipeline.{command} did not start; it printed {greeting!r}"
            yield PackageServer(process, int(found[1]), greeting)
        finally:
            process.terminate()
            process.wait(60)
