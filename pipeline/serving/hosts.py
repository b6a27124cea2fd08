"""Refuses requests that name another host, so that a web page cannot reach a server on this machine under its own name.

Such a page lets its name lead to the address of this machine (DNS rebinding). The browser then takes what the server answers
for the page's own, and shows it to the page.
"""

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOCALHOST = "localhost"


class KnownHosts:
    """An app that answers 421 to requests for other hosts than those known and the names of this machine for itself.

    A request without the header Host passes: browsers always send one.
    """

    def __init__(self, app: ASGIApp, known: Collection[str]) -> None:
        self._app, self._known = app, frozenset(name.lower() for name in known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if host is None or is_loopback(name := name_of(host)) or name in self._known:
            await self._app(scope, receive, send)
            return
        sentence = f"Host must name this machine, or a host given with --allow-host; got {host[:100]!r}."
        await JSONResponse({"detail": sentence}, 421)(scope, receive, send)


def name_of(host: str) -> str:
    """A host without its port, in small letters.

    >>> name_of("Shoes.example:8000"), name_of("[::1]:8000"), name_of("localhost.")
    ('shoes.example', '::1', 'localhost')
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower().removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether a name is that of this machine alone, wherever it is asked for.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("127.evil.example"), is_loopback("localhost.evil.example")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == LOCALHOST or name.endswith(f".{LOCALHOST}")
