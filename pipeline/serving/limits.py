"""Limits of a server, and the counter that keeps what it holds at once within them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MEGABYTE = 1_000_000

BODIES_AT_ONCE = 4
"""Number of bodies of the largest allowed size that are held at once; of smaller ones as many as fit."""

IMAGES_AT_ONCE = 256
"""Number of images that are decoded or wait for it at once, unless a single request may hold more."""


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        max_bytes: Size of a request's body.
        max_pixels: Height × width of an image.
        max_files: Number of images in a request.
        timeout_seconds: Time for a request to arrive, and again for its answer.
    """

    max_bytes: int
    max_pixels: int
    max_files: int
    timeout_seconds: float


class TooBusyError(Exception):
    """Raised where a request would make the server hold more than it may; the same request may succeed later."""


class Load:
    """What a server holds at the moment: bytes of bodies, and images that wait or are worked on."""

    def __init__(self, limits: Limits) -> None:
        self._most_bytes = BODIES_AT_ONCE * limits.max_bytes
        self._most_images = max(IMAGES_AT_ONCE, limits.max_files)
        self._num_bytes = self._num_images = 0

    def add_bytes(self, count: int) -> None:
        """Count bytes that have arrived; the caller gives them back through `free_bytes`, also after an error.

        Raises:
            TooBusyError: These would be too many.
        """
        if self._num_bytes + count > self._most_bytes:
            raise TooBusyError
        self._num_bytes += count

    def free_bytes(self, count: int) -> None:
        self._num_bytes -= count

    @contextmanager
    def images(self, count: int) -> Iterator[None]:
        """Hold a number of images within the block.

        Raises:
            TooBusyError: These would be too many.
        """
        if self._num_images + count > self._most_images:
            raise TooBusyError
        self._num_images += count
        try:
            yield
        finally:
            self._num_images -= count
