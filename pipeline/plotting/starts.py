"""Draws how accurate each way to start is, by the number of training images."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from pipeline.metrics.starts import Way
from pipeline.plotting.style import GRID, INK, MUTED, TRAIN_MODE, TRAINING, VALIDATION, as_png

_STYLES = (
    (VALIDATION, "o", "-"), (TRAINING, "s", "--"), (TRAIN_MODE, "^", "-."), ("#7a4fa3", "D", ":"), (INK, "v", "-"),
    ("#3d8b57", "P", "--"),
)  # fmt: skip
"""Colour, marker and dashes, so that ways differ without colour too."""


def accuracies(results: Mapping[int, Sequence[Way]], num_classes: int) -> bytes:
    """The mean accuracy of each way, and its standard deviation over the folds, as PNG.

    Args:
        results: Ways by the number of training images.
        num_classes: Number of classes, for the axis of images a class.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(results)
    names = [way.name for way in results[sizes[-1]]]
    for name, (colour, marker, dashes) in zip(names, _STYLES * (1 + len(names) // len(_STYLES)), strict=False):
        found = [next(way for way in results[size] if way.name == name).accuracies for size in sizes]
        axes.errorbar(
            sizes, [fmean(values) for values in found], [stdev(values) for values in found], color=colour, marker=marker,
            ls=dashes, lw=1.6, capsize=3, label=name,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}\n{size / num_classes:,.0f} a class"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel("training images", color=MUTED)
    axes.set_ylabel("validation accuracy", color=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    return as_png(figure)
