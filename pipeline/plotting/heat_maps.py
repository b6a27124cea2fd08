"""Draws images beside their heat maps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.plotting.captions import as_written, caption
from pipeline.plotting.style import INK, MUTED, TRAINING, VALIDATION, as_png
from pipeline.plotting.thumbnails import thumbnails

_COLUMNS, _PIXELS = 4, 128
_WIDTH, _HEIGHT = 3.1, 2.0
"""Inches of an image with its map and its caption."""

_SIGNED = LinearSegmentedColormap.from_list("signed", [TRAINING, "#ffffff", VALIDATION])


@as_written()
def sheet(images: NDArray[np.uint8], maps: NDArray[np.float32], names: Sequence[str], titles: Sequence[str]) -> bytes:
    """A contact sheet: each image, and beside it the same image in grey under its map.

    Orange speaks for the class, blue against it; the strongest place of each map has the full colour.

    Args:
        images: Shape (n, height, width, channels), n >= 1.
        maps: Shape (n, height, width).
        names: Name of each image.
        titles: Class and probability of each.
    """
    columns = min(len(images), _COLUMNS)
    rows = -(-len(images) // columns)
    bottom = 0.3
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows + bottom))
    axes = figure.add_axes((0, 0, 1, 1))  # shared by all images, which is much faster than axes for each
    axes.axis("off")
    grey = thumbnails(images, _PIXELS)
    small = thumbnails(np.rint(127.5 + 127.5 * _scaled(maps))[..., None].astype(np.uint8), _PIXELS)[..., 0]
    for index, (image, heat, name, title) in enumerate(zip(grey, small, names, titles, strict=True)):
        left, top = _WIDTH * (index % columns), _HEIGHT * (index // columns)
        rgb = np.broadcast_to(image, (*image.shape[:2], 3))
        paper = 0.35 + 0.65 * np.broadcast_to(rgb.mean(axis=2, keepdims=True), rgb.shape) / 255
        strength = np.abs(heat / 127.5 - 1)[..., None] * 0.8
        over = paper * (1 - strength) + _SIGNED(heat / 255)[..., :3] * strength
        for place, picture in enumerate((rgb, np.clip(over, 0, 1))):
            x = left + 0.05 + 1.5 * place
            axes.imshow(picture, extent=(x, x + 1.45, top + 1.95, top + 0.5), interpolation="nearest", aspect="auto")
        axes.text(left + 0.05, top + 0.22, caption(title, 34), fontsize=9, color=INK, weight="bold")
        axes.text(left + 0.05, top + 0.42, caption(_end(name), 40), fontsize=8, color=MUTED)
    note = "orange: speaks for the class · blue: speaks against it · each map on its own scale"
    axes.text(0.05, _HEIGHT * rows + 0.2, note, fontsize=8, color=MUTED)
    axes.set(xlim=(0, _WIDTH * columns), ylim=(_HEIGHT * rows + bottom, 0))
    return as_png(figure)


def _scaled(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each map divided by its largest absolute value."""
    scaled: NDArray[np.float32] = maps / np.maximum(np.abs(maps).max(axis=(1, 2), keepdims=True), 1e-12)
    return scaled


def _end(name: str, most: int = 40) -> str:
    """
    >>> _end("photos/a/1.png", 8)
    '…a/1.png'
    """
    return name if len(name) <= most else f"…{name[1 - most :]}"
