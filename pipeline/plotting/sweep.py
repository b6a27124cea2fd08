"""Pictures of a sweep, as PNG on white paper: every job as a line, and what moved the result."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from pipeline.plotting.figures import GRID, INK, MUTED, TRAINING, VALIDATION, as_png

_GOOD_TO_BAD = LinearSegmentedColormap.from_list("good to bad", [TRAINING, "#b9c2cc", VALIDATION])
_MOST_TICKS = 6
_LONGEST_MARK = 24  # characters, which fit between two axes
_SPREAD = 0.03  # of an axis, over which jobs with the same value lie apart


def parallel_coordinates(
    settings: Mapping[str, Sequence[str]], scores: Sequence[float], metric: str, *, higher_is_better: bool
) -> bytes:
    """Each job as a line from axis to axis, one axis for each varied key and the metric as the last.

    Args:
        settings: The values of each key, one for each job, as text.
        scores: The metric of each job.
        metric: Its name.
        higher_is_better: Which end of the metric is the good one; it is blue and stands at the top.
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
    order = np.argsort(heights[:, -1], kind="stable")  # the best are drawn last, on top
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
    """Bars of how much each key moved the metric, and how far the forest behind them is to be trusted.

    Args:
        means: For each key, by how much shuffling it lowers the forest's R²; the first stands at the top.
        spreads: The standard deviation of each.
        explained: R² of the forest on jobs that it has not seen.
        num_jobs: Jobs that it was fitted to.
        metric: What it predicts.
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
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
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
    """A curve through the heights that crosses each axis level, so that neighbours can be told apart between axes."""
    points, codes = [(0.0, float(heights[0]))], [Outline.MOVETO]
    for place, (here, there) in enumerate(pairwise(heights)):
        points += [(place + 0.4, float(here)), (place + 0.6, float(there)), (place + 1.0, float(there))]
        codes += [Outline.CURVE4] * 3
    return Outline(points, codes)


def _apart(heights: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    """Offsets that put jobs with the same value side by side on an axis, in this order, so that each can be followed."""
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
    """A text that fits between two axes, with its beginning and its end, where lists tend to differ."""
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
    """Numbers on an axis from 0 (the least) to 1; equal ones in its middle."""
    low, high = min(numbers), max(numbers)
    return np.array([(number - low) / (high - low) if high > low else 0.5 for number in numbers])


def _number_ticks(numbers: Sequence[float], *, log: bool) -> list[tuple[float, str]]:
    """Heights and texts: every value where there are few, else both ends and what lies between them."""
    distinct = sorted(set(numbers))
    if len(distinct) > _MOST_TICKS:
        ends = np.log10([distinct[0], distinct[-1]]) if log else np.array([distinct[0], distinct[-1]])
        between = np.linspace(ends[0], ends[1], 5)
        distinct = [float(value) for value in (10**between if log else between)]
    scaled = [float(np.log10(value)) for value in distinct] if log else distinct
    return list(zip(_place(scaled).tolist(), [f"{value:.3g}" for value in distinct], strict=True))
