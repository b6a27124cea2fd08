"""Computes the coordinates of charts whose axes both run from 0 to 1, for an inline SVG."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.page.charts import Tick

SIDE, LEFT, RIGHT, TOP, BOTTOM = 340, 46, 12, 12, 44
"""Size and margins of a chart in SVG units."""
GEOMETRY = {"side": SIDE, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        style: Name of its colour and dashes, as the style sheet has it.
        points: Its points, for an SVG polyline.
    """

    style: str
    points: str


@dataclass(frozen=True)
class Mark:
    """A point with the 95 % intervals of its coordinates, in SVG units; `size` is its radius."""

    style: str
    x: float
    y: float
    size: float
    left: float
    right: float
    low: float
    high: float


@dataclass(frozen=True)
class UnitChart:
    """A chart in the unit square.

    Attributes:
        name: Name for identities in the page.
        title: Title.
        x_title: Title of the horizontal axis.
        y_title: Title of the vertical axis.
        lines: Its lines.
        marks: Its points.
        summary: Its content in words, for screen readers.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    lines: list[Line]
    marks: list[Mark]
    summary: str

    @property
    def x_ticks(self) -> list[Tick]:
        return [Tick(x_of(value), f"{value:g}") for value in TICKS]

    @property
    def y_ticks(self) -> list[Tick]:
        return [Tick(y_of(value), f"{value:g}") for value in TICKS]


def x_of(value: float) -> float:
    """The horizontal position of a value.

    >>> x_of(0), x_of(1)
    (46, 328)
    """
    return round(LEFT + value * (SIDE - LEFT - RIGHT), 2)


def y_of(value: float) -> float:
    """The vertical position of a value; up is more.

    >>> y_of(0), y_of(1)
    (296, 12)
    """
    return round(TOP + (1 - value) * (SIDE - TOP - BOTTOM), 2)


def line(style: str, xs: Iterable[float], ys: Iterable[float]) -> Line:
    """A line through points in [0, 1]."""
    return Line(style, " ".join(f"{x_of(x):g},{y_of(y):g}" for x, y in zip(xs, ys, strict=True)))


def mark(
    style: str, x: float, y: float, *, size: float = 5, across: tuple[float, float] | None = None,
    up: tuple[float, float] | None = None,
) -> Mark:  # fmt: skip
    """A point in [0, 1], with the intervals of its coordinates where they have one."""
    left, right = across or (x, x)
    low, high = up or (y, y)
    return Mark(style, x_of(x), y_of(y), round(size, 1), x_of(left), x_of(right), y_of(low), y_of(high))
