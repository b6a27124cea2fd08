"""Draws a learning curve: both accuracies by the number of training images, and the forecast of the power law."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from pipeline.metrics.power_law import Forecast, PowerLaw
from pipeline.plotting.style import GRID, INK, MUTED, TRAINING, VALIDATION, as_png


def learning_curve(
    train: Mapping[int, Sequence[float]], val: Mapping[int, Sequence[float]], law: PowerLaw, forecast: Forecast
) -> bytes:
    """The learning curve as PNG.

    Args:
        train: Training accuracies, one for each seed, keyed by the number of training images.
        val: Validation accuracies, keyed likewise.
        law: Power law of the validation error.
        forecast: Forecast for more images than there are.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(val)
    for values, colour, label in ((train, TRAINING, "training"), (val, VALIDATION, "validation")):
        means = [fmean(values[size]) for size in sizes]
        axes.plot(sizes, means, "o-" if values is train else "o", color=colour, label=label, markersize=5)
        lowest, highest = ([extreme(values[size]) for size in sizes] for extreme in (min, max))
        axes.vlines(sizes, lowest, highest, color=colour, lw=1)
    fine = np.geomspace(sizes[0], forecast.num_images, 100)
    axes.plot(fine, [1 - law.error(size) for size in fine], color=VALIDATION, lw=1.2, ls="--", label="power law")
    spread = [[forecast.accuracy - forecast.low], [forecast.high - forecast.accuracy]]
    axes.errorbar(
        [forecast.num_images], [forecast.accuracy], spread, color=VALIDATION, marker="D", markerfacecolor="white",
        capsize=4, label="foretold, 95 % interval", ls="",
    )  # fmt: skip
    text = f"{forecast.accuracy:.3f}\n[{forecast.low:.3f}, {forecast.high:.3f}]"
    axes.annotate(
        text, (forecast.num_images, forecast.low), xytext=(0, -6), textcoords="offset points", ha="center", va="top",
        fontsize=9, color=INK,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([*sizes, forecast.num_images])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08, y=0.15)
    axes.set_ylim(top=min(1.002, axes.get_ylim()[1]))
    axes.set_xlabel("training images", color=MUTED)
    axes.set_ylabel("accuracy", color=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    return as_png(figure)
