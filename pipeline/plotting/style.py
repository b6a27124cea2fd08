"""Gives all figures one look: colours, plain axes, and PNG on white paper."""

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINING, VALIDATION, TRAIN_MODE = "#2f80c8", "#d9691e", "#6f86a3"
"""Colours of the curves: at least 3 : 1 against white and against the dark page (report.css holds the same)."""
VALIDATION_TEXT = "#a94c0d"
INK, MUTED, GRID = "#20262e", "#5b6570", "#e3e7eb"

MOST_CLASSES = 40
"""Largest number of classes in one figure or table, so that it stays readable."""


def plain_axes(axes: "Axes", grid: Literal["x", "y", "both"], label_colour: str = INK) -> None:
    """Leave only the bottom line of the frame, and draw a faint grid behind the data.

    Args:
        axes: Axes to change.
        grid: Axis whose grid is drawn.
        label_colour: Colour of the tick labels.
    """
    axes.grid(axis=grid, color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=label_colour)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def as_png(figure: "Figure") -> bytes:
    """The figure as PNG on white, without the version of Matplotlib, so that equal figures have equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
