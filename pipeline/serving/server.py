"""Runs an app on a port until it is asked to stop, and cuts off connections that keep it waiting."""

import asyncio
import json
import signal
import socket
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import ConfigError
from pipeline.serving.hosts import is_loopback
from pipeline.stage import signals

if TYPE_CHECKING:
    from fastapi import FastAPI

HEAD_SECONDS = 10.0
"""Time for the head of a request to arrive, and for the rest of a body that was refused to come through."""

MOST_CONNECTIONS = 512


@dataclass(frozen=True)
class Address:
    """The host and port to listen on; port 0 is any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def listen(address: Address) -> socket.socket:
    """Open the port.

    Raises:
        ConfigError: It is taken or not this machine's.
    """
    listener = None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        # With its protocol, as asyncio turns off Nagle's algorithm, which costs 40 ms a request, by that alone.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(MOST_CONNECTIONS)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigError(
            f"--host and --port must be an address of this machine that is free; got {address.host} {address.port}: "
            f"{error.strerror}. Choose another port, or 0 for any that is free."
        ) from None
    return listener


def url(listener: socket.socket) -> str:
    """The address of an open port, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: "FastAPI", listener: socket.socket, *, timeout_seconds: float, has_access_log: bool) -> None:
    """Answer requests until a signal comes; then answer those that are under way, and raise as every command does.

    Raises:
        KeyboardInterrupt: A signal has stopped the server.
    """
    _Connection.longest_seconds = 2 * timeout_seconds + HEAD_SECONDS
    config = uvicorn.Config(
        app, http=_Connection, ws="none", lifespan="on", access_log=has_access_log, log_config=_log(has_access_log),
        timeout_keep_alive=int(HEAD_SECONDS), timeout_graceful_shutdown=int(_Connection.longest_seconds) + 1,
        server_header=False, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)

    def hang_up(number: int, frame: FrameType | None) -> None:
        server.handle_exit(signal.SIGTERM, frame)

    if signal.SIGHUP in signals.handled():
        signal.signal(signal.SIGHUP, hang_up)
    server.run(sockets=[listener])


def _log(has_access_log: bool) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
        "loggers": {
            "python_multipart": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
            "uvicorn.error": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
            "uvicorn.access": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        },
    }


class _Connection(H11Protocol):
    """A connection that ends where the head of a request, its body or the reading of its answer takes too long."""

    longest_seconds = 60.0
    _timer: asyncio.TimerHandle | None = None
    _is_in_request = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse()
        self._cut_after(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_in_request and self._has_open_request():
            self._is_in_request = True
            self._cut_after(self.longest_seconds)

    def on_response_complete(self) -> None:
        self._is_in_request = False
        self._cut_after(HEAD_SECONDS)
        super().on_response_complete()  # which may begin the next request
        if self._has_open_request():
            self._is_in_request = True
            self._cut_after(self.longest_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _has_open_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _cut_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _refuse(self) -> None:
        body = json.dumps({"detail": "the server has too many connections; connect again later."}).encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
