"""Images of one dataset brought to one size, and what is measured on them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.captions import caption
from pipeline.data.thumbnails import thumbnails

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = NDArray[np.uint8]


def fit_image(image: Images, size: int, fit: str) -> Images:
    """Bring one image to `size` × `size` pixels.

    Args:
        image: uint8 of shape (height, width, channels).
        size: Height and width in pixels afterwards.
        fit: `pad` centres it in zeros (one that is larger is first made smaller, with its proportions kept); `crop` cuts
            out the largest square in its middle and brings that to the size; `stretch` gives up its proportions.

    Returns:
        uint8 of shape (size, size, channels).
    """
    height, width, channels = image.shape
    if (height, width) == (size, size):
        return image
    if fit == "pad":
        scale = min(1.0, size / max(height, width))
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (size - height) // 2, (size - width) // 2
        padded = np.zeros((size, size, channels), dtype=np.uint8)
        padded[top : top + height, left : left + width] = _resized(image, height, width)
        return padded
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    return _resized(image, size, size)


def _resized(image: Images, height: int, width: int) -> Images:
    """First made smaller, each pixel the mean of the area it covers, where it is too large; then larger, linearly.

    OpenCV would take no means at all of an image that shrinks one way and grows the other.
    """
    import cv2

    channels = image.shape[2]
    smaller = min(height, image.shape[0]), min(width, image.shape[1])
    for shape, method in ((smaller, cv2.INTER_AREA), ((height, width), cv2.INTER_LINEAR)):
        if image.shape[:2] != shape:
            image = cv2.resize(image, shape[::-1], interpolation=method).reshape(*shape, channels)  # type: ignore[assignment]
    return image


class PixelCounts:
    """How often each value occurs in each channel, counted chunk by chunk, so that mean and std are exact.

    >>> counts = PixelCounts(num_channels=1)
    >>> counts.add(np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1))
    >>> counts.mean(), counts.std()
    ([0.5], [0.5])
    """

    def __init__(self, num_channels: int) -> None:
        self._counts = np.zeros((num_channels, 256), dtype=np.int64)

    def add(self, images: Images) -> None:
        """Count uint8 images of shape (n, height, width, channels)."""
        for channel, counts in enumerate(self._counts):
            counts += np.bincount(images[..., channel].ravel(), minlength=256)

    def mean(self) -> list[float]:
        """Of each channel, with values in [0, 1]."""
        return [float(value) for value in self._mean()]

    def std(self) -> list[float]:
        """Of each channel, with values in [0, 1]; 1 for a channel that never changes, which cannot be scaled."""
        squares = (np.arange(256) / 255 - self._mean()[:, None]) ** 2
        std = np.sqrt((self._counts * squares).sum(axis=1) / self._counts.sum(axis=1))
        return [float(value) or 1.0 for value in std]

    def _mean(self) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = (self._counts @ np.arange(256)) / (255 * self._counts.sum(axis=1))
        return mean


MOST_ROWS = 40
"""Classes that a picture shows, so that it can be read."""


def overview(images: Images, labels: NDArray[np.int64], classes: list[str], title: str, columns: int = 10) -> "Figure":
    """A picture of the first images of each class, one named row for each of the first `MOST_ROWS` classes.

    Args:
        images: uint8 of shape (n, height, width, channels); 1 channel is grey, 3 are red, green and blue.
        labels: int64 of shape (n,).
        classes: Names, in the order of the labels.
        title: Stands above.
        columns: Images in a row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = classes[:MOST_ROWS]
    if len(names) < len(classes):
        title += f"; {len(names)} of {len(classes)} classes"
    mosaic = _mosaic(images, labels, len(names), columns)
    cell_inches = 0.5
    figure = Figure(figsize=(columns * cell_inches + 2.2, len(names) * cell_inches + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if mosaic.shape[2] == 1 else {}
    axes.imshow(mosaic.squeeze(2) if mosaic.shape[2] == 1 else mosaic, interpolation="nearest", **shown)
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
    """The images of one class side by side, classes below one another, with a white line of 1 pixel between them."""
    height, width, channels = thumbnails(images[:1]).shape[1:]
    cells = np.full((num_classes, columns, height + 1, width + 1, channels), 255, dtype=np.uint8)
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)[:columns]
        cells[label, : len(members), :height, :width] = thumbnails(images[members])
    rows = cells.transpose(0, 2, 1, 3, 4)  # class, height, column, width, channels
    return rows.reshape(num_classes * (height + 1), columns * (width + 1), channels)
