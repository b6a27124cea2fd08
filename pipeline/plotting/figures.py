"""Draws a training and its mistakes, as PNG: curves, confusion matrix, misclassified images, learning rate range test."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.metrics import history
from pipeline.plotting import style
from pipeline.plotting.captions import as_written, caption
from pipeline.plotting.style import GRID, INK, MOST_CLASSES, MUTED, TRAINING, VALIDATION, as_png, plain_axes
from pipeline.plotting.thumbnails import thumbnails

_CORRECT = LinearSegmentedColormap.from_list("right", ["#ffffff", TRAINING])
_WRONG = LinearSegmentedColormap.from_list("wrong", ["#ffffff", VALIDATION])
_MISTAKE_COLUMNS, _MISTAKE_PIXELS = 6, 96


def curves(rows: Sequence[dict[str, float]], best_epoch: int) -> bytes:
    """Loss and accuracy by epoch, side by side, from the rows of `history.csv`; marks the epoch whose weights were kept."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curve(left, rows, best_epoch, "Loss", (history.TRAIN_LOSS, history.CLEAN_LOSS, history.VAL_LOSS))
    _curve(right, rows, best_epoch, "Accuracy", (history.TRAIN_ACCURACY, history.CLEAN_ACCURACY, history.VAL_ACCURACY))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9, labelcolor=INK)
    return as_png(figure)


@as_written()
def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> bytes:
    """The confusion matrix: a row for each true class, a column for each predicted one, coloured by the share of the row.

    With more than `MOST_CLASSES` classes it shows the `hardest`.

    Args:
        matrix: Number of images, of shape (num_classes, num_classes).
        classes: Names of the classes in the order of the labels.
    """
    shown = hardest(matrix)
    names = [caption(classes[label], 24) for label in shown]
    share = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))[np.ix_(shown, shown)]
    counts = matrix[np.ix_(shown, shown)]
    diagonal = np.eye(len(shown), dtype=bool)
    colours = np.where(diagonal[..., None], _CORRECT(0.85 * share), _WRONG(0.85 * np.sqrt(share)))
    side = float(np.clip(1.6 + 0.55 * len(shown), 4.0, 14.0))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(colours)
    for row, column in np.argwhere(counts > 0):
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=9, color=INK)
    axes.set_xticks(range(len(shown)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(shown)), names)
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true", color=MUTED)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_color(GRID)
    if len(shown) < len(classes):
        title = f"{len(shown)} of {len(classes)} classes, those with the lowest recall"
        axes.set_title(title, loc="left", fontsize=11, color=INK)
    return as_png(figure)


def hardest(matrix: NDArray[np.int64], limit: int = MOST_CLASSES) -> NDArray[np.int64]:
    """The labels with the lowest recall, at most `limit`, in ascending order; classes without images are chosen last.

    >>> hardest(np.array([[9, 1, 0], [0, 0, 0], [1, 0, 1]]), limit=2).tolist()
    [0, 2]
    """
    counts = matrix.sum(axis=1)
    recall = np.where(counts > 0, matrix.diagonal() / np.maximum(counts, 1), np.inf)
    return np.sort(np.argsort(recall, kind="stable")[:limit])


@as_written()
def mistakes(
    images: NDArray[np.uint8], labels: NDArray[np.int64], predicted: NDArray[np.int64], confidence: NDArray[np.float32],
    classes: Sequence[str],
) -> bytes:  # fmt: skip
    """A grid of misclassified images, in the given order, each with its true and its predicted class.

    Args:
        images: Shape (n, height, width, channels), in [0, 255]; with n = 0 the figure says that there are none.
        labels: True classes, shape (n,).
        predicted: Predicted classes, shape (n,).
        confidence: Probability of the predicted class in [0, 1], shape (n,).
        classes: Names of the classes in the order of the labels.
    """
    if len(images) == 0:
        figure = Figure(figsize=(5, 1))
        figure.text(0.5, 0.5, "No image was classified wrongly.", ha="center", va="center", color=INK)
        return as_png(figure)
    columns = min(len(images), _MISTAKE_COLUMNS)
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.95 * rows))
    axes = figure.add_axes((0, 0, 1, 1))  # shared by all images, which is six times as fast as axes for each
    axes.axis("off")
    images = thumbnails(images, _MISTAKE_PIXELS)
    for index, (image, label, guess, sure) in enumerate(zip(images, labels, predicted, confidence, strict=True)):
        left, top = 1.6 * (index % columns), 1.95 * (index // columns)
        rgb = np.broadcast_to(image, (*image.shape[:2], 3))
        extent = (left + 0.05, left + 1.55, top + 1.9, top + 0.4)
        axes.imshow(rgb, extent=extent, interpolation="nearest", aspect="auto")
        axes.text(left + 0.8, top + 0.18, caption(classes[label], 14), ha="center", fontsize=9, color=INK)
        prediction = f"→ {caption(classes[guess], 14)} {sure:.2f}"
        axes.text(
            left + 0.8, top + 0.35, prediction, ha="center", fontsize=9, color=style.VALIDATION_TEXT, weight="bold"
        )
    axes.set(xlim=(0, 1.6 * columns), ylim=(1.95 * rows, 0))
    return as_png(figure)


def lr_range(steps: Sequence[dict[str, float]], chosen: float) -> bytes:
    """The loss by learning rate in a range test, with the chosen rate."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    rates = [step["lr"] for step in steps]
    axes.plot(rates, [step["loss"] for step in steps], color=style.TRAIN_MODE, lw=1, label="each batch")
    axes.plot(rates, [step["smoothed"] for step in steps], color=TRAINING, lw=2, label="smoothed")
    axes.axvline(chosen, color=VALIDATION, lw=1.5, ls=":", label=f"chosen: {chosen:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    top = 1.5 * steps[0]["smoothed"]
    axes.set_ylim(min(step["smoothed"] for step in steps) - 0.05 * top, top)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return as_png(figure)


def _curve(axes: Axes, rows: Sequence[dict[str, float]], best: int, title: str, keys: tuple[str, str, str]) -> None:
    """Draw the three series `keys`: training while learning, training in evaluation mode, validation."""
    epochs = [row["epoch"] for row in rows]
    train, clean, val = ([row[key] for row in rows] for key in keys)
    marker = "o" if len(rows) == 1 else None
    axes.fill_between(epochs, clean, val, color=VALIDATION, alpha=0.13, linewidth=0, label="gap")
    axes.plot(
        epochs, train, color=style.TRAIN_MODE, lw=1, ls=(0, (4, 3)), marker=marker, label="training, while learning"
    )
    axes.plot(epochs, clean, color=TRAINING, lw=2, marker=marker, label="training")
    axes.plot(epochs, val, color=VALIDATION, lw=2, marker=marker, label="validation")
    axes.axvline(best, color=MUTED, lw=1, ls=":", label=f"weights kept (epoch {best})")
    axes.set_title(title, loc="left", fontsize=11, color=INK, weight="bold")
    axes.set_xlabel("epoch", color=MUTED, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.02)
    shown = [*clean, *val, train[-1]]  # the series while learning starts far outside
    margin = 0.06 * (max(shown) - min(shown)) or 0.05
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    plain_axes(axes, "y", MUTED)
