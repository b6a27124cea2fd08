"""Reads the images of a request while it streams in, and refuses what exceeds a limit as soon as it does."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from fastapi import HTTPException, Request
from starlette.formparsers import MultiPartException, MultiPartParser

from pipeline.serving.limits import MEGABYTE, Limits, Load

FORM, CURLS_OWN = "multipart/form-data", "application/x-www-form-urlencoded"
BODIES = ("application/octet-stream", "application/dicom", "")
"""Types of a body that is one image, beside image/…; an empty text is that of a request without a type."""


class Upload(NamedTuple):
    """Name that the client gives an image, or an empty text, and the content of its file."""

    name: str
    content: bytes


@asynccontextmanager
async def uploads(request: Request, limits: Limits, load: Load) -> AsyncIterator[list[Upload]]:
    """The images of a request: the files of a form, or the whole body as one. They count as load within the block.

    Raises:
        HTTPException: The body is too large, of another type, damaged or without an image.
        TooBusyError: The server holds too much already.
    """
    kind = _kind(request)
    if kind not in (FORM, *BODIES) and not kind.startswith("image/"):
        advice = ", which curl --data-binary says unless -H names another" if kind == CURLS_OWN else ""
        raise HTTPException(415, f"Content-Type must be {FORM}, image/… or {BODIES[0]}; got {kind[:100]!r}{advice}.")
    _check_promise(request, limits)
    body = _Body(request, limits, load)
    try:
        yield await (_files(request, body, limits) if is_form(request) else _single(body))
    finally:
        load.free_bytes(body.num_bytes)


def is_form(request: Request) -> bool:
    """Whether the body of a request is a form, and not one image."""
    return _kind(request) == FORM


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_promise(request: Request, limits: Limits) -> None:
    promised = request.headers.get("content-length", "")
    if promised.isdecimal() and int(promised[:20]) > limits.max_bytes:
        raise _too_large(limits)


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(413, f"a request must have at most {limits.max_bytes / MEGABYTE:g} MB; this one has more.")


class _Body:
    """The chunks of a body, counted as they come."""

    def __init__(self, request: Request, limits: Limits, load: Load) -> None:
        self._request, self._limits, self._load = request, limits, load
        self.num_bytes = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._request.stream():
            if self.num_bytes + len(chunk) > self._limits.max_bytes:
                raise _too_large(self._limits)
            self._load.add_bytes(len(chunk))
            self.num_bytes += len(chunk)
            yield chunk


async def _single(body: _Body) -> list[Upload]:
    content = bytearray()
    async for chunk in body.chunks():
        content += chunk
    if not content:
        raise HTTPException(422, "the body must hold an image; it is empty.")
    return [Upload("", bytes(content))]


async def _files(request: Request, body: _Body, limits: Limits) -> list[Upload]:
    parser = _Form(request.headers, body.chunks(), max_files=limits.max_files)
    parser.max_parts = limits.max_files
    parser.spool_max_size = limits.max_bytes + 1  # never to disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message.rstrip('.')}.") from None
    try:
        if not parser.has_ended:
            raise HTTPException(400, "the form cannot be read: it ends before its last boundary.")
        found = []
        for name, value in form.multi_items():
            if isinstance(value, str):
                without = f"{name[:100]!r} is none, as it has no filename"
                raise HTTPException(422, f"the form must hold files alone; {without}.")
            found.append(Upload(value.filename or "", await value.read()))
    finally:
        await form.close()
    if not found:
        raise HTTPException(422, "the form must hold a file at least; it has none.")
    return found


class _Form(MultiPartParser):
    """Starlette's parser, which also counts parts without a file and tells whether the form is whole."""

    max_parts = 1
    num_parts = 0
    has_ended = False

    def on_part_begin(self) -> None:
        self.num_parts += 1
        if self.num_parts > self.max_parts:
            raise HTTPException(413, f"a request must hold at most {self.max_parts:,} files; this one holds more.")
        super().on_part_begin()

    def on_end(self) -> None:
        self.has_ended = True
