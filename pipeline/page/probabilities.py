"""Shows how far the probabilities can be believed, and what thresholds on them trade for each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.evaluation import SPLIT_TITLES, EvaluationRecord
from pipeline.artefacts.outputs import NetworkOutputs
from pipeline.artefacts.package import OperatingPoint
from pipeline.metrics import curves
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.curves import Curve
from pipeline.page.unit_charts import Line, Mark, UnitChart, line, mark

MOST_CLASSES = 10
"""Largest number of classes whose curves are drawn."""

HIGHLIGHTS = ("first", "second", "third")
"""Styles of the classes that stand out, the worst first."""

DIAGONAL = line("diagonal", (0, 1), (0, 1))


@dataclass(frozen=True)
class ClassCurves:
    """The curves of one class against all others; `style` is empty where it does not stand out."""

    name: str
    style: str
    count: int
    roc: Curve
    precision_recall: Curve


@dataclass(frozen=True)
class Probabilities:
    """The content of the section.

    Attributes:
        fitted_on: Splits that the temperature was fitted on, as people call them.
        reliability: Diagram of accuracy over confidence, before and after calibration.
        curves: Each class against the others, the lowest average precision first; empty where there are many classes.
        charts: Their charts.
    """

    fitted_on: str
    reliability: UnitChart
    curves: list[ClassCurves]
    charts: list[UnitChart]


def probabilities_of(
    outputs: NetworkOutputs, evaluation: EvaluationRecord, classes: Sequence[str], point: OperatingPoint | None
) -> Probabilities:
    """Measure the probabilities of an evaluation.

    Args:
        outputs: Outputs of the network for the images of the evaluation.
        evaluation: Its record.
        classes: Names of the classes.
        point: Class with a threshold of its own, or None.
    """
    after = calibrated(outputs.log_probabilities, evaluation.calibration.temperature)
    before = calibrated(outputs.log_probabilities, 1.0)
    found = _curves(outputs.labels, after, classes, point)
    return Probabilities(
        fitted_on=" and ".join(SPLIT_TITLES.get(split, split) for split in evaluation.calibration.splits),
        reliability=_reliability(outputs.labels, before, after), curves=found,
        charts=[_roc_chart(found, point), _precision_chart(found, point)] if found else [],
    )  # fmt: skip


def _curves(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], classes: Sequence[str], point: OperatingPoint | None
) -> list[ClassCurves]:
    """The curves of each class that has images and counterparts; of two classes, those of one, as the other mirrors it."""
    counts = np.bincount(labels, minlength=len(classes))
    columns = [column for column in range(len(classes)) if 0 < counts[column] < len(labels)]
    if point is not None and (len(classes) > MOST_CLASSES or len(classes) == 2):
        columns = [column for column in columns if classes[column] == point.label]
    elif len(classes) > MOST_CLASSES:
        return []
    elif len(classes) == 2:
        columns = [min(columns, key=lambda column: (counts[column], -column))] if columns else []
    measured = []
    for column in columns:
        is_class, probability = labels == column, probabilities[:, column]
        both = curves.roc(is_class, probability), curves.precision_recall(is_class, probability)
        measured.append(ClassCurves(classes[column], "", int(counts[column]), *both))
    measured.sort(key=lambda each: each.precision_recall.area)
    named = [each.name for each in measured if point is None or each.name != point.label]
    named = [*([point.label] if point is not None else []), *named][: len(HIGHLIGHTS)]
    styles = dict(zip(named, HIGHLIGHTS, strict=False))
    return [
        ClassCurves(each.name, styles.get(each.name, ""), each.count, each.roc, each.precision_recall)
        for each in measured
    ]


def _reliability(labels: NDArray[np.int64], before: NDArray[np.float32], after: NDArray[np.float32]) -> UnitChart:
    raw, mended = curves.reliability(labels, before), curves.reliability(labels, after)
    largest = max(each.count for each in mended)
    marks = [
        mark(
            "after",
            each.confidence,
            each.accuracy,
            size=2.5 + 5 * (each.count / largest) ** 0.5,
            up=(each.low, each.high),
        )
        for each in mended
    ]
    lines = [
        DIAGONAL,
        line("before", [each.confidence for each in raw], [each.accuracy for each in raw]),
        line("after", [each.confidence for each in mended], [each.accuracy for each in mended]),
    ]
    parts = [f"{each.confidence:.2f} sure and {each.accuracy:.2f} right" for each in mended]
    return UnitChart(
        "reliability", "Is it as often right as it is sure?", "confidence", "accuracy", lines, marks,
        f"After calibration, by confidence: {', '.join(parts)}.",
    )  # fmt: skip


def _roc_chart(found: Sequence[ClassCurves], point: OperatingPoint | None) -> UnitChart:
    marks: list[Mark] = []
    if point is not None and point.cost is not None:
        alarms, recall = point.cost.false_alarms, point.cost.recall
        across, up = (alarms.low, alarms.high), (recall.low, recall.high)
        marks.append(mark("first", alarms.value, recall.value, across=across, up=up))
    lines = _lines([(each.style, each.roc) for each in found])
    areas = ", ".join(f"{each.name} {each.roc.area:.3f}" for each in found)
    return UnitChart(
        "roc", "Recall against false alarms (ROC)", "false alarms: share of the other images", "recall",
        [DIAGONAL, *lines], marks, f"Area under the curve: {areas}.",
    )  # fmt: skip


def _precision_chart(found: Sequence[ClassCurves], point: OperatingPoint | None) -> UnitChart:
    marks: list[Mark] = []
    if point is not None and point.cost is not None and point.cost.precision is not None:
        recall, precision = point.cost.recall, point.cost.precision
        across, up = (recall.low, recall.high), (precision.low, precision.high)
        marks.append(mark("first", recall.value, precision.value, across=across, up=up))
    lines = _lines([(each.style, each.precision_recall) for each in found])
    areas = ", ".join(f"{each.name} {each.precision_recall.area:.3f}" for each in found)
    return UnitChart(
        "precision", "Precision against recall", "recall", "precision", lines, marks, f"Average precision: {areas}.",
    )  # fmt: skip


def _lines(drawn: Sequence[tuple[str, Curve]]) -> list[Line]:
    """The curves, those that stand out last, so that they lie on top."""
    ordered = sorted(drawn, key=lambda each: HIGHLIGHTS[::-1].index(each[0]) if each[0] else -1)
    return [line(style or "other", curve.x, curve.y) for style, curve in ordered]
