"""Draws training images beside their augmented versions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.augment import AugmentRecord
from pipeline.plotting.captions import as_written, caption
from pipeline.plotting.style import INK, MUTED, as_png
from pipeline.plotting.thumbnails import thumbnails
from pipeline.seeds import derive_seed
from pipeline.storage.arrays import read_array

Images = NDArray[np.uint8]
Augment = Callable[[Images, NDArray[np.int64], int], Images]
"""Augments images of shape (n, height, width, channels), given their labels and a seed."""

ROWS, COLUMNS = 10, 8


@as_written()
def preview(prepared: Path, augmented: Path, augment: Augment, classes: list[str], record: AugmentRecord) -> bytes:
    """The first training image of up to ten classes, each beside its augmented versions, as PNG.

    Args:
        prepared: Output of the prepare stage.
        augmented: Folder with the augmented copies.
        augment: Augmentation of the copies, or of training.
        classes: Names of the classes in the order of the labels.
        record: Record of the augment stage.
    """
    labels, first = np.unique(read_array(prepared / "train/labels.npy"), return_index=True)
    labels, shown = labels[:ROWS], first[:ROWS]
    names = [caption(classes[label], 14) for label in labels]
    originals = read_array(prepared / "train/images.npy")[shown]
    augmentation = f"{record.name} at strength {record.strength:g}"
    limited = f"\n{len(shown)} of {len(classes)} classes" if len(first) > len(shown) else ""
    if not record.transforms:
        return _draw(originals[None], [""], names, f"No augmentation: training sees these originals alone.{limited}")
    if record.mode == "materialized":
        versions = read_array(augmented / "images.npy")[:COLUMNS, shown]
        columns = [f"copy {number + 1}" for number in range(len(versions))]
        title = f"{augmentation}: {record.copies} of each image, and the original"
    else:
        seeds = [derive_seed(record.seed, f"preview/{number}") for number in range(COLUMNS)]
        versions = np.stack([augment(originals, labels, seed) for seed in seeds])
        columns = [f"draw {number + 1}" for number in range(len(versions))]
        title = f"{augmentation}: drawn anew for each image of each epoch"
    title += limited
    for transform, spared in record.veto.items():
        title += f"\nnever {transform} on {caption(', '.join(map(str, spared)), 80)}"
    cells = np.concatenate([originals[:, None], versions.swapaxes(0, 1)], axis=1)
    return _draw(cells, names, ["original", *columns], title)


def _draw(cells: Images, row_names: list[str], column_names: list[str], title: str) -> bytes:
    """A table of images with white gaps, as PNG; `cells` has the shape (rows, columns, height, width, channels)."""
    from matplotlib.figure import Figure

    rows, columns = cells.shape[:2]
    shown = thumbnails(cells.reshape(-1, *cells.shape[2:]))
    height, width, channels = shown.shape[1:]
    cells = shown.reshape(rows, columns, height, width, channels)
    gap = max(1, height // 10)
    table = np.full((rows, height + gap, columns, width + gap, channels), 255, np.uint8)
    table[:, :height, :, :width] = cells.transpose(0, 2, 1, 3, 4)
    table = table.reshape(rows * (height + gap), columns * (width + gap), channels)[:-gap, :-gap]
    if channels == 1:
        table = table.repeat(3, axis=2)
    figure = Figure(figsize=(1.6 + 0.75 * columns, 0.9 + 0.75 * rows), layout="constrained")
    axes = figure.subplots()
    axes.imshow(table, interpolation="nearest")
    axes.set_yticks(np.arange(rows) * (height + gap) + (height - 1) / 2, row_names)
    axes.set_xticks(np.arange(columns) * (width + gap) + (width - 1) / 2, column_names)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=10, color=MUTED)
    return as_png(figure)
