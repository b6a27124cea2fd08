"""Draws the first images of each class."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.plotting.captions import caption
from pipeline.plotting.style import MOST_CLASSES
from pipeline.plotting.thumbnails import thumbnails

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = NDArray[np.uint8]


def overview(images: Images, labels: NDArray[np.int64], classes: list[str], title: str, columns: int = 10) -> "Figure":
    """The first images of each class, a named row for each of the first `MOST_CLASSES` classes.

    Args:
        images: uint8 of shape (n, height, width, channels); 1 channel is grey, 3 are red, green and blue.
        labels: int64 of shape (n,).
        classes: Names of the classes in the order of the labels.
        title: Title above the images.
        columns: Number of images in a row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = classes[:MOST_CLASSES]
    if len(names) < len(classes):
        title += f"; {len(names)} of {len(classes)} classes"
    mosaic = _mosaic(images, labels, len(names), columns)
    cell_inches = 0.5
    figure = Figure(figsize=(columns * cell_inches + 2.2, len(names) * cell_inches + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    pixels = mosaic.squeeze(2) if mosaic.shape[2] == 1 else mosaic
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")  # for colours only the last one counts
    cell_pixels = mosaic.shape[0] / len(names)
    rows = [(row + 0.5) * cell_pixels - 0.5 for row in range(len(names))]
    axes.set_yticks(rows, [caption(name, 28) for name in names], parse_math=False)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_title(title, loc="left", fontsize="medium", parse_math=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _mosaic(images: Images, labels: NDArray[np.int64], num_classes: int, columns: int) -> Images:
    """One image with a row of images for each class, and white lines of 1 pixel between them."""
    height, width, channels = thumbnails(images[:1]).shape[1:]
    cells = np.full((num_classes, columns, height + 1, width + 1, channels), 255, dtype=np.uint8)
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)[:columns]
        cells[label, : len(members), :height, :width] = thumbnails(images[members])
    rows = cells.transpose(0, 2, 1, 3, 4)  # class, height, column, width, channels
    return rows.reshape(num_classes * (height + 1), columns * (width + 1), channels)
