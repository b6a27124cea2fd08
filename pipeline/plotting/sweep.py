"""Draws a sweep, as PNG: parallel coordinates of its jobs, and the importance of its keys."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from pipeline.plotting.style import GRID, INK, MUTED, TRAINING, VALIDATION, as_png, plain_axes

_GOOD_TO_BAD = LinearSegmentedColormap.from_list("good to bad", [TRAINING, "#b9c2cc", VALIDATION])
_MOST_TICKS = 6
_LONGEST_MARK = 24  # characters that fit between two axes
_SPREAD = 0.03  # share of an axis over which jobs with the same value are spread


def parallel_coordinates(
    settings: Mapping[str, Sequence[str]], scores: Sequence[float], metric: str, *, higher_is_better: bool
) -> bytes:
    """Parallel coordinates: each job as a line across an axis for each varied key, and the metric as the last axis.

    Args:
        settings: Values of each key, one for each job, as text.
        scores: Metric of each job.
        metric: Name of the metric.
        higher_is_better: Whether a high metric is good; the good end is blue and at the top.
    """
    names = [*settings, metric]
    places = [_place([float(score) for score in scores])]
    marks = [_number_ticks([float(score) for score in scores], log=False)]
    for values in reversed(list(settings.values())):
        numbers = _numbers(values)
        if numbers is None:
            kinds = sorted(set(values), key=_numbers_first)
            height = {kind: (index + 0.5) / len(kinds) for index, kind in enumerate(kinds)}
            places.insert(0, np.array([height[value] for value in values]))
            marks.insert(0, [(height[kind], _shortened(kind) or "as in params.yaml") for kind in kinds])
        else:
            log = _looks_logarithmic(numbers)
            places.insert(0, _place([float(np.log10(number)) for number in numbers] if log else numbers))
            marks.insert(0, _number_ticks(numbers, log=log))
    heights = np.stack(places, axis=1)  # (jobs, axes), each in [0, 1]
    if not higher_is_better:
        heights[:, -1] = 1 - heights[:, -1]
        marks[-1] = [(1 - height, text) for height, text in marks[-1]]
    order = np.argsort(heights[:, -1], kind="stable")  # the best jobs are drawn last, on top
    for axis in range(len(settings)):
        heights[:, axis] += _apart(heights[:, axis], order)
    figure = Figure(figsize=(max(6.0, 1.9 * len(names) + 1.5), 4.6), layout="constrained")
    axes = figure.subplots()
    for row in order:
        colour = _GOOD_TO_BAD(1 - heights[row, -1])
        axes.add_patch(PathPatch(_smooth(heights[row]), fc="none", ec=colour, lw=1.6, alpha=0.85))
    _draw_axes(axes, names, marks)
    axes.set_title(f"{len(scores)} jobs; the better, the bluer", loc="left", fontsize=11, color=INK, weight="bold")
    return as_png(figure)


def importances(
    means: Mapping[str, float], spreads: Mapping[str, float], explained: float, num_jobs: int, metric: str
) -> bytes:
    """A bar for the permutation importance of each key, with the R² of the random forest behind it.

    Args:
        means: Loss of the forest's R² when a key is shuffled, by key; the first is at the top.
        spreads: Standard deviation of each.
        explained: R² of the forest on held-out jobs.
        num_jobs: Number of jobs that the forest was fitted to.
        metric: Metric that the forest predicts.
    """
    figure = Figure(figsize=(8, 1.5 + 0.42 * len(means)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(means))
    colour = TRAINING if explained > 0 else GRID
    axes.barh(rows, list(means.values()), xerr=list(spreads.values()), color=colour, ecolor=MUTED, height=0.6)
    axes.set_yticks(rows, list(means))
    axes.invert_yaxis()
    title = f"What moved {metric}" if explained > 0 else f"What moved {metric} cannot be told from {num_jobs} jobs"
    axes.set_title(title, loc="left", fontsize=11, color=INK, weight="bold")
    trust = f"R² {explained:.2f} on jobs that it has not seen"
    axes.set_xlabel(f"loss of R² when shuffled; a forest on {num_jobs} jobs, {trust}", color=MUTED, fontsize=9)
    plain_axes(axes, "x")
    return as_png(figure)


def _draw_axes(axes: Axes, names: Sequence[str], marks: Sequence[Sequence[tuple[float, str]]]) -> None:
    for place, (name, ticks) in enumerate(zip(names, marks, strict=True)):
        axes.plot([place, place], [-_SPREAD, 1 + _SPREAD], color=MUTED, lw=1, zorder=3)
        lines = name.replace(".", ".\n")
        axes.text(place, -0.07, lines, ha="center", va="top", fontsize=9, color=INK, weight="bold")
        for height, text in ticks:
            axes.text(
                place + 0.03, height, text, fontsize=8, color=INK, va="center", zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
            )  # fmt: skip
    axes.set(xlim=(-0.35, len(names) - 0.55), ylim=(-0.22, 1.05))
    axes.axis("off")


def _smooth(heights: NDArray[np.float64]) -> Outline:
    """A curve through the heights that is horizontal at each axis, so that lines can be followed from axis to axis."""
    points, codes = [(0.0, float(heights[0]))], [Outline.MOVETO]
    for place, (here, there) in enumerate(pairwise(heights)):
        points += [(place + 0.4, float(here)), (place + 0.6, float(there)), (place + 1.0, float(there))]
        codes += [Outline.CURVE4] * 3
    return Outline(points, codes)


def _apart(heights: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    """Offsets that spread jobs with the same value over a part of the axis, in this order."""
    offsets, distinct = np.zeros_like(heights), np.unique(heights)
    for height in distinct:
        alike = order[heights[order] == height]
        if len(alike) > 1:
            offsets[alike] = np.linspace(-1, 1, len(alike)) * min(_SPREAD, 0.4 / len(distinct))
    return offsets


def _numbers_first(text: str) -> tuple[bool, float, str]:
    number = _numbers([text])
    return number is None, number[0] if number else 0.0, text


def _shortened(text: str) -> str:
    """Shorten a text to its beginning and its end, where lists tend to differ, so that it fits between two axes."""
    tail = _LONGEST_MARK // 3
    return text if len(text) <= _LONGEST_MARK else f"{text[: _LONGEST_MARK - tail - 1]}…{text[-tail:]}"


def _numbers(values: Sequence[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def _looks_logarithmic(numbers: Sequence[float]) -> bool:
    """Whether the values span orders of magnitude and lie more evenly by their logarithms than as they are."""
    if min(numbers) <= 0 or max(numbers) < 50 * min(numbers):
        return False
    off_centre = [abs(float(np.median(_place(scaled))) - 0.5) for scaled in (np.log10(numbers), numbers)]
    return off_centre[0] < off_centre[1]


def _place(numbers: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Heights of the numbers on an axis from 0 (the smallest) to 1; if all are equal, 0.5."""
    low, high = min(numbers), max(numbers)
    return np.array([(number - low) / (high - low) if high > low else 0.5 for number in numbers])


def _number_ticks(numbers: Sequence[float], *, log: bool) -> list[tuple[float, str]]:
    """Heights and texts of the ticks: every value if there are few, else five from the smallest to the largest."""
    distinct = sorted(set(numbers))
    if len(distinct) > _MOST_TICKS:
        ends = np.log10([distinct[0], distinct[-1]]) if log else np.array([distinct[0], distinct[-1]])
        between = np.linspace(ends[0], ends[1], 5)
        distinct = [float(value) for value in (10**between if log else between)]
    scaled = [float(np.log10(value)) for value in distinct] if log else distinct
    return list(zip(_place(scaled).tolist(), [f"{value:.3g}" for value in distinct], strict=True))
