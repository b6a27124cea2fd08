"""Draws an ablation, as PNG: differences from the baseline, both accuracies, curves, and dose responses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.metrics import history
from pipeline.metrics.ablation import Arm, Dose, Effect
from pipeline.metrics.paired import Difference
from pipeline.plotting.style import INK, MUTED, TRAINING, VALIDATION, as_png, plain_axes

_FOREST = (
    ("validation accuracy", 1, lambda effect: effect.accuracy),
    ("gap", -1, lambda effect: effect.gap),
    ("validation loss", -1, lambda effect: effect.loss),
)
"""Title, sign of an improvement, and difference of each comparison."""

_LOSSES = ((history.CLEAN_LOSS, TRAINING, "training"), (history.VAL_LOSS, VALIDATION, "validation"))

_CURVE_COLUMNS, _DOSE_COLUMNS = 5, 4
_LARGEST_STRETCH = 3.0
"""Factor by which the height of the scatter plot may grow to show the diagonal."""

_MARKS = "osD^vPX<>hp8"


def forest(effects: Sequence[Effect]) -> bytes:
    """A forest plot: each arm's difference from the baseline with its 95 % interval, for accuracy, gap and loss."""
    figure = Figure(figsize=(11, 1.3 + 0.42 * len(effects)), layout="constrained")
    for axes, (title, good, of) in zip(figure.subplots(1, len(_FOREST), sharey=True), _FOREST, strict=True):
        differences: list[Difference] = [of(effect) for effect in effects]
        for row, difference in enumerate(differences):
            better = difference.mean * good > 0
            colour = (TRAINING if better else VALIDATION) if difference.excludes_zero else MUTED
            axes.plot([difference.low, difference.high], [row, row], color=colour, lw=2, solid_capstyle="butt")
            axes.plot(difference.mean, row, "o", color=colour, ms=6)
        axes.axvline(0, color=INK, lw=1)
        axes.set_yticks(range(len(effects)), [effect.arm.name.replace("_", " ") for effect in effects])
        axes.set_title(f"Δ {title}", loc="left", fontsize=11, color=INK, weight="bold")
        axes.set_xlabel("better →" if good > 0 else "← better", color=MUTED, fontsize=9)
        plain_axes(axes, "x")
    axes.invert_yaxis()
    return as_png(figure)


def scatter(arms: Sequence[Arm]) -> bytes:
    """Validation accuracy by training accuracy: a point for each training, a larger one for the mean of each arm.

    The gap is the vertical distance from the diagonal.
    """
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    for index, arm in enumerate(arms):
        colour, mark = _colour(index, len(arms)), _MARKS[index % len(_MARKS)]
        train, val = arm.values("train_accuracy"), arm.values("accuracy")
        axes.plot(train, val, mark, color=colour, ms=4, alpha=0.35)
        label = f"{arm.name.replace('_', ' ')} (gap {arm.mean('gap'):.3f})"
        axes.plot(np.mean(train), np.mean(val), mark, color=colour, ms=10, mec="white", label=label)
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    top = max(high, left + 0.2 * (right - left))  # includes the diagonal, unless it is far off
    if top - low <= _LARGEST_STRETCH * (high - low):
        axes.plot([0, 1], [0, 1], color=INK, lw=1, ls=":", label="no gap")
        high = top
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.set_xlabel("training accuracy (unaugmented, evaluation mode)", color=MUTED, fontsize=9)
    axes.set_ylabel("validation accuracy", color=MUTED, fontsize=9)
    plain_axes(axes, "both")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9, labelcolor=INK)
    return as_png(figure)


def curves(arms: Sequence[Arm]) -> bytes:
    """Both losses of each arm by epoch: the mean, a band from the lowest to the highest seed, and the kept epochs."""
    figure, grid = _grid(len(arms), _CURVE_COLUMNS, (2.5, 2.3), sharex=True)
    for axes, arm in zip(grid.flat, arms, strict=False):
        epochs = range(1, min(map(len, arm.histories)) + 1)  # epochs that all seeds ran
        for key, colour, label in _LOSSES:
            losses = np.array([[row[key] for row in rows[: len(epochs)]] for rows in arm.histories])  # (seeds, epochs)
            axes.fill_between(epochs, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.2, lw=0)
            axes.plot(epochs, losses.mean(axis=0), color=colour, lw=1.6, label=label)
        kept = {reading.epoch for reading in arm.readings}
        if kept != {len(epochs)}:
            axes.vlines(sorted(kept), 0, 0.08, transform=axes.get_xaxis_transform(), color=INK, lw=1.5, label="kept")
        axes.set_title(arm.name.replace("_", " "), loc="left", fontsize=10, color=INK, weight="bold")
        plain_axes(axes, "y")
    top = max(max(row[history.VAL_LOSS] for row in rows) for arm in arms for rows in arm.histories)
    grid.flat[0].set_ylim(0, min(top, 3 * float(np.median([arm.mean("loss") for arm in arms]))))
    legends = [axes.get_legend_handles_labels() for axes in grid.flat]
    by_label = {label: handle for legend in legends for handle, label in zip(*legend, strict=True)}
    handles, labels = by_label.values(), by_label.keys()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    return as_png(figure)


def dose_response(doses: Sequence[Dose], chosen: Mapping[str, str]) -> bytes:
    """Both accuracies of each remedy by its strength, from the baseline as strength 0, with the chosen strength marked.

    Args:
        doses: Doses in the order of their strength, with the baseline as the arm `baseline`.
        chosen: Override of the chosen strength of each arm.
    """
    [zero] = [dose for dose in doses if dose.arm == "baseline"]
    names = list(dict.fromkeys(dose.arm for dose in doses if dose.arm != "baseline"))
    figure, grid = _grid(len(names), _DOSE_COLUMNS, (2.9, 2.5))
    for axes, name in zip(grid.flat, names, strict=False):
        steps = [zero, *(dose for dose in doses if dose.arm == name)]
        positions = range(len(steps))
        for of, colour, label in _ACCURACIES:
            for position, dose in enumerate(steps):
                axes.plot([position] * len(of(dose)), of(dose), "o", color=colour, ms=3, alpha=0.4)
            axes.plot(positions, [np.mean(of(dose)) for dose in steps], color=colour, lw=1.6, label=label)
        marked = [position for position, dose in enumerate(steps) if dose.override == chosen.get(name)]
        axes.vlines(marked, 0, 1, transform=axes.get_xaxis_transform(), color=INK, lw=1, ls=":", label="chosen")
        texts = ["none", *(dose.override.split()[0].rpartition("=")[2] for dose in steps[1:])]
        axes.set_xticks(positions, texts)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10, color=INK, weight="bold")
        plain_axes(axes, "y")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    return as_png(figure)


_ACCURACIES: tuple[tuple[Callable[[Dose], tuple[float, ...]], str, str], ...] = (
    (lambda dose: dose.train_accuracies, TRAINING, "training"),
    (lambda dose: dose.accuracies, VALIDATION, "validation"),
)


def _grid(count: int, most_columns: int, inches: tuple[float, float], *, sharex: bool = False) -> tuple[Figure, Any]:
    """A figure with a grid of `count` axes of this width and height, and room for a legend below."""
    columns = min(count, most_columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(inches[0] * columns, inches[1] * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=sharex, sharey=True, squeeze=False)
    for axes in grid.flat[count:]:
        axes.axis("off")
    return figure, grid


def _colour(index: int, count: int) -> object:
    from matplotlib import colormaps

    return INK if index == 0 else colormaps["tab10"]((index - 1) % 10)
