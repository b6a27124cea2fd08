"""Computes the coordinates of a training's curves for an inline SVG and for the script of the page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.metrics import history

WIDTH, HEIGHT = 520, 320
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 14, 36
"""Size and margins of a chart in SVG units."""
GEOMETRY = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}

SERIES = ("clean", "val", "train")
CHARTS = (
    ("loss", "Loss", (history.CLEAN_LOSS, history.VAL_LOSS, history.TRAIN_LOSS)),
    ("accuracy", "Accuracy", (history.CLEAN_ACCURACY, history.VAL_ACCURACY, history.TRAIN_ACCURACY)),
)


@dataclass(frozen=True)
class Tick:
    position: float
    label: str


@dataclass(frozen=True)
class Chart:
    """One pair of axes.

    Attributes:
        name: `"loss"` or `"accuracy"`.
        title: Name as the page shows it.
        values: Values of each series of `SERIES`, one for each epoch.
        x: Horizontal position of each epoch.
        y: Vertical positions of each series.
        x_ticks: Ticks at whole epochs.
        y_ticks: Ticks at round values.
        best: Horizontal position of the epoch whose weights were kept.
        best_index: Index of that epoch, counted from 0.
    """

    name: str
    title: str
    values: dict[str, list[float]]
    x: list[float]
    y: dict[str, list[float]]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    best: float
    best_index: int

    def line(self, series: str) -> str:
        """The series as the points of an SVG polyline."""
        return _points(zip(self.x, self.y[series], strict=True))

    def gap(self) -> str:
        """The area between clean training and validation as the points of an SVG polygon."""
        there = list(zip(self.x, self.y["clean"], strict=True))
        back = list(zip(self.x, self.y["val"], strict=True))[::-1]
        return _points(there + back)

    def summary(self) -> str:
        """The content of the chart in words, for screen readers."""
        clean, val = self.values["clean"], self.values["val"]
        best = self.best_index
        return (
            f"{self.title} over {len(self.x)} epochs: training from {clean[0]:.3f} to {clean[-1]:.3f}, validation from "
            f"{val[0]:.3f} to {val[-1]:.3f}. With the weights kept training is {clean[best]:.3f}, validation {val[best]:.3f}."
        )


def charts(rows: Sequence[dict[str, float]], best_epoch: int) -> list[Chart]:
    """The charts of loss and of accuracy from the rows of `history.csv`, with the epoch whose weights were kept."""
    return [_chart(name, title, keys, rows, best_epoch) for name, title, keys in CHARTS]


@dataclass(frozen=True)
class PairChart:
    """One pair of axes with the curves of two trainings.

    Attributes:
        name: `"loss"` or `"accuracy"`.
        title: Name as the page shows it.
        lines: Points of SVG polylines, by the style of each: `first` or `second`, and `clean` or `val`.
        best: Horizontal position of the epoch whose weights each training kept, by `first` and `second`.
        x_ticks: Ticks at whole epochs.
        y_ticks: Ticks at round values.
        summary: The content of the chart in words, for screen readers.
    """

    name: str
    title: str
    lines: dict[str, str]
    best: dict[str, float]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    summary: str


def pair(
    first: Sequence[dict[str, float]], second: Sequence[dict[str, float]], best_epochs: tuple[int, int]
) -> list[PairChart]:
    """The charts of loss and of accuracy with the curves of two trainings in the same axes, from the rows of both histories."""
    sides = dict(zip(("first", "second"), (first, second), strict=True))
    last = int(max(rows[-1]["epoch"] for rows in sides.values()))
    drawn = []
    for name, title, keys in CHARTS:
        values = {
            f"{side} {series}": [row[key] for row in rows]
            for side, rows in sides.items()
            for series, key in zip(("clean", "val"), keys, strict=False)
        }
        numbers = [number for line in values.values() for number in line]
        axes = _Axes(1, last, *_with_margin(numbers))
        lines = {
            style: _points(
                (axes.x(row["epoch"]), axes.y(value)) for row, value in zip(sides[style.split()[0]], line, strict=True)
            )
            for style, line in values.items()
        }
        ends = ", ".join(f"{style.replace('clean', 'training')} {line[-1]:.3f}" for style, line in values.items())
        best = {side: axes.x(epoch) for side, epoch in zip(sides, best_epochs, strict=True)}
        summary = f"{title} at the end: {ends}."
        drawn.append(PairChart(name, title, lines, best, axes.x_ticks(), axes.y_ticks(), summary))
    return drawn


def for_script(rows: Sequence[dict[str, float]], drawn: Sequence[Chart]) -> Mapping[str, object]:
    """The data with which the script of the page follows the pointer, to be written as JSON.

    They are the numbers of the epochs, the index of the best one, the width of a chart in SVG units, and by the name of each
    chart the positions of its epochs, and the positions and values of its series.
    """
    return {
        "epochs": [row["epoch"] for row in rows],
        "best": drawn[0].best_index,
        "width": WIDTH,
        "charts": {chart.name: {"x": chart.x, "y": chart.y, "values": chart.values} for chart in drawn},
    }


def round_steps(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers inside [low, high], evenly apart (1, 2 or 5 times a power of ten).

    >>> round_steps(0.13, 0.97, 4)
    [0.2, 0.4, 0.6, 0.8]
    >>> round_steps(1, 15, 3)
    [5.0, 10.0, 15.0]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power, 2 * power, 5 * power, 10 * power), key=lambda candidate: abs(candidate - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


@dataclass(frozen=True)
class _Axes:
    """The scales of a chart: epochs from `first` to `last`, values from `low` to `high`."""

    first: int
    last: int
    low: float
    high: float

    def x(self, epoch: float) -> float:
        share = (epoch - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)

    def y(self, value: float) -> float:
        return round(TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 2)

    def x_ticks(self) -> list[Tick]:
        return [Tick(self.x(epoch), str(epoch)) for epoch in _epoch_ticks(self.first, self.last)]

    def y_ticks(self) -> list[Tick]:
        ticks = round_steps(self.low, self.high, 5)
        digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) if len(ticks) > 1 else 2
        return [Tick(self.y(value), f"{value:.{digits}f}") for value in ticks]


def _chart(
    name: str, title: str, keys: tuple[str, str, str], rows: Sequence[dict[str, float]], best_epoch: int
) -> Chart:
    values = {series: [row[key] for row in rows] for series, key in zip(SERIES, keys, strict=True)}
    epochs = [int(row["epoch"]) for row in rows]
    # All values, but only the last one of the series while learning. That one begins far off: with all of it, the other two
    # would lie so close together that nobody sees their gap.
    axes = _Axes(
        epochs[0], epochs[-1], *_with_margin([*values["clean"], *values["val"], values["train"][-1]])
    )  # fmt: skip
    return Chart(
        name=name, title=title, values=values, x=[axes.x(epoch) for epoch in epochs],
        y={series: [axes.y(value) for value in numbers] for series, numbers in values.items()},
        x_ticks=axes.x_ticks(), y_ticks=axes.y_ticks(), best=axes.x(best_epoch), best_index=epochs.index(best_epoch),
    )  # fmt: skip


def _with_margin(numbers: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest number, moved apart a little."""
    low, high = min(numbers), max(numbers)
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def _epoch_ticks(first: int, last: int) -> list[int]:
    """The first epoch and some round ones after it."""
    if last - first < 6:
        return list(range(first, last + 1))
    rounds = [int(step) for step in round_steps(first, last, 6)]
    spacing = rounds[1] - rounds[0]
    return [first, *(epoch for epoch in rounds if epoch - first > spacing / 2)]


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in pairs)
