"""A learning curve over data: both accuracies against the number of training images, and what the law foretells."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from pipeline.metrics.power_law import Forecast, PowerLaw
from pipeline.plotting.figures import GRID, INK, MUTED, TRAINING, VALIDATION, as_png


def learning_curve(
    train: Mapping[int, Sequence[float]], val: Mapping[int, Sequence[float]], law: PowerLaw, foretold: Forecast
) -> bytes:
    """As PNG on white paper.

    Args:
        train: Training accuracies, one for each seed, by the number of training images.
        val: Validation accuracies likewise.
        law: Of the validation error.
        foretold: For more images than there are.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(val)
    for values, colour, label in ((train, TRAINING, "training"), (val, VALIDATION, "validation")):
        means = [fmean(values[size]) for size in sizes]
        axes.plot(sizes, means, "o-" if values is train else "o", color=colour, label=label, markersize=5)
        axes.vlines(
            sizes, [min(values[size]) for size in sizes], [max(values[size]) for size in sizes], color=colour, lw=1
        )
    fine = np.geomspace(sizes[0], foretold.num_images, 100)
    axes.plot(fine, [1 - law.error(size) for size in fine], color=VALIDATION, lw=1.2, ls="--", label="power law")
    spread = [[foretold.accuracy - foretold.low], [foretold.high - foretold.accuracy]]
    axes.errorbar(
        [foretold.num_images], [foretold.accuracy], spread, color=VALIDATION, marker="D", markerfacecolor="white",
        capsize=4, label="foretold, 95 % interval", ls="",
    )  # fmt: skip
    text = f"{foretold.accuracy:.3f}\n[{foretold.low:.3f}, {foretold.high:.3f}]"
    axes.annotate(
        text, (foretold.num_images, foretold.low), xytext=(0, -6), textcoords="offset points", ha="center", va="top",
        fontsize=9, color=INK,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([*sizes, foretold.num_images])
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
