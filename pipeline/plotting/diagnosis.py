"""Draws the curves of a training with the evidence of its diagnosis."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.diagnosis import Course
from pipeline.plotting.style import GRID, INK, MUTED, TRAINING, VALIDATION, as_png


def curve(course: Course, record: DiagnosisRecord) -> bytes:
    """Loss and accuracy of training and validation, with the kept epoch and the gap there with its interval, as PNG."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = range(1, course.num_epochs + 1)
    label = "training" if course.clean else "training, while learning"
    for axes, title, train, val in (
        (left, "Loss", course.train_loss, course.val_loss),
        (right, "Accuracy", course.train_accuracy, course.val_accuracy),
    ):
        axes.plot(epochs, train, color=TRAINING, label=label, marker="o" if course.num_epochs == 1 else None)
        axes.plot(epochs, val, color=VALIDATION, label="validation", marker="o" if course.num_epochs == 1 else None)
        axes.fill_between(epochs, train, val, color=VALIDATION, alpha=0.08, linewidth=0)
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        axes.set_xlabel("epoch", color=MUTED)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if record.evidence:
        _mark_gap(right, course, record)
    if course.reference is not None:
        right.axhline(course.reference, color=MUTED, linestyle=":", linewidth=1.2, label="reachable by simple methods")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    figure.suptitle(record.sentence, x=0.01, ha="left", fontsize=11, color=INK)
    return as_png(figure)


def _mark_gap(axes: Axes, course: Course, record: DiagnosisRecord) -> None:
    epoch = course.kept_epoch or course.num_epochs
    train, val, gap = (record.interval(name) for name in ("train_accuracy", "val_accuracy", "gap"))
    axes.axvline(epoch, color=MUTED, linewidth=0.8, linestyle="--")
    for accuracy, colour in ((train, TRAINING), (val, VALIDATION)):
        below, above = accuracy.value - accuracy.low, accuracy.high - accuracy.value
        axes.errorbar([epoch], [accuracy.value], [[below], [above]], color=colour, marker="o", markersize=5, capsize=3)
    axes.set_title(f"gap {gap} at epoch {epoch}", loc="right", fontsize=9, color=INK)
