"""The charts of the probabilities, and what the decisions of a package are worth."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.evaluation import EvaluationRecord
from pipeline.artefacts.outputs import EVALUATED, NetworkOutputs
from pipeline.artefacts.package import Cost, OperatingPoint, ThresholdsRecord
from pipeline.artefacts.run import RunRecord
from pipeline.delivery.classifier import Classifier
from pipeline.errors import DataError
from pipeline.metrics.calibration import calibrated
from pipeline.page.in_use import in_use
from pipeline.page.probabilities import Probabilities, probabilities_of
from pipeline.page.unit_charts import x_of, y_of
from tests.page_artefacts import CLASSES, make_evaluated
from tests.records import rewrite_record


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_evaluated(tmp_path_factory.mktemp("made"))


def outputs(labels: NDArray[np.int64], num_classes: int) -> NetworkOutputs:
    """Outputs that are better for classes of higher number."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(len(labels), num_classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += labels + 0.5
    return NetworkOutputs(labels, logits, logits, np.log(calibrated(logits, 1.0)))


def shown(folders: dict[str, Path], num_classes: int, point: OperatingPoint | None = None) -> Probabilities:
    record = EvaluationRecord.read(folders["evaluation"])
    names = [f"class {index}" for index in range(num_classes)]
    labels = np.arange(12 * num_classes) % num_classes
    return probabilities_of(outputs(labels, num_classes), record, names, point)


def point(label: str) -> OperatingPoint:
    share = Interval(value=0.75, low=0.5, high=0.9)
    alarms = Interval(value=0.25, low=0.1, high=0.4)
    return OperatingPoint(
        label=label, recall=0.8, threshold=0.3, cost=Cost(split="test", recall=share, precision=share, false_alarms=alarms)
    )  # fmt: skip


def test_the_three_worst_of_a_few_classes_stand_out(folders: dict[str, Path]) -> None:
    found = shown(folders, 6)
    areas = [each.precision_recall.area for each in found.curves]
    assert len(found.curves) == 6 and areas == sorted(areas)
    assert [each.style for each in found.curves] == ["first", "second", "third", "", "", ""]
    assert all(len(chart.lines) - (chart.name == "roc") == 6 for chart in found.charts)
    assert all(each.name in chart.summary for each in found.curves for chart in found.charts)


def test_of_two_classes_one_is_drawn_as_the_other_mirrors_it(folders: dict[str, Path]) -> None:
    assert len(shown(folders, 2).curves) == 1
    assert [each.name for each in shown(folders, 2, point("class 0")).curves] == ["class 0"]


def test_of_many_classes_only_that_of_the_operating_point_is_drawn(folders: dict[str, Path]) -> None:
    assert shown(folders, 11).curves == [] and shown(folders, 11).charts == []
    assert [each.name for each in shown(folders, 11, point("class 4")).curves] == ["class 4"]


def test_the_operating_point_is_marked_where_it_lies_with_its_intervals(folders: dict[str, Path]) -> None:
    roc, precision = shown(folders, 5, point("class 4")).charts
    (mark,) = roc.marks
    assert (mark.x, mark.y) == (x_of(0.25), y_of(0.75))
    assert (mark.left, mark.right, mark.low, mark.high) == (x_of(0.1), x_of(0.4), y_of(0.5), y_of(0.9))
    assert [(each.x, each.y) for each in precision.marks] == [(x_of(0.75), y_of(0.75))]
    styles = {each.name: each.style for each in shown(folders, 5, point("class 4")).curves}
    assert styles["class 4"] == "first", "the best class stands out too where it has a threshold"


def test_a_class_without_images_has_no_curve(folders: dict[str, Path]) -> None:
    record = EvaluationRecord.read(folders["evaluation"])
    found = probabilities_of(outputs(np.arange(20) % 2, 3), record, ["a", "b", "c"], None)
    assert sorted(each.name for each in found.curves) == ["a", "b"]


def test_reliability_has_a_point_with_its_interval_for_each_bin(folders: dict[str, Path]) -> None:
    chart = shown(folders, 4).reliability
    assert {line.style for line in chart.lines} == {"diagonal", "before", "after"}
    after = next(line for line in chart.lines if line.style == "after")
    assert len(after.points.split()) == len(chart.marks) > 2
    assert all(mark.low >= mark.y >= mark.high for mark in chart.marks), "up is less in SVG"
    assert len(re.findall(r"[\d.]+ sure and [\d.]+ right", chart.summary)) == len(chart.marks)


def test_shares_are_those_of_the_classifier_on_the_same_images(folders: dict[str, Path]) -> None:
    record = NetworkOutputs.read(folders["evaluation"], EVALUATED)
    found = in_use(folders["package"], RunRecord.read(folders["training"]), record, CLASSES, None)
    images = np.load(folders["prepared"] / "test" / "images.npy")
    frame = Classifier.load(folders["package"]).predict(list(images))
    sets = [[CLASSES.index(name) for name in names] for names in frame["set"]]
    covered = np.mean([label in inside for label, inside in zip(record.labels, sets, strict=True)])
    assert found.coverage is not None and found.coverage.value == pytest.approx(covered)
    assert found.one_class is not None and found.one_class.value == np.mean([len(inside) == 1 for inside in sets])
    assert found.no_class is not None and found.no_class.value == np.mean([not inside for inside in sets])
    assert found.mean_size == pytest.approx(np.mean([len(inside) for inside in sets]))
    assert found.unknown is not None and found.unknown.value == frame["unknown"].mean()
    assert found.command == "python -m pipeline.predict FOLDER"


def test_a_package_without_sets_says_why(folders: dict[str, Path], tmp_path: Path) -> None:
    record = ThresholdsRecord.read(folders["package"])
    changes = {
        "set_thresholds": [],
        "coverage": None,
        "outlier_score": None,
        "outlier_threshold": None,
        "note": "Too few.",
    }
    record.model_copy(update=changes).write(tmp_path)
    (tmp_path / "manifest.json").write_bytes((folders["package"] / "manifest.json").read_bytes())
    record = NetworkOutputs.read(folders["evaluation"], EVALUATED)
    found = in_use(tmp_path, RunRecord.read(folders["training"]), record, CLASSES, tmp_path)
    assert found.coverage is None and found.unknown is None and found.thresholds.note == "Too few."
    assert found.command == f"python -m pipeline.predict FOLDER --model {tmp_path}"


def test_a_folder_that_is_no_package_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    record = NetworkOutputs.read(folders["evaluation"], EVALUATED)
    with pytest.raises(DataError, match=r"report.package must be a folder that package finished; got"):
        in_use(tmp_path, RunRecord.read(folders["training"]), record, CLASSES, None)
    (tmp_path / "manifest.json").write_bytes((folders["package"] / "manifest.json").read_bytes())
    rewrite_record(tmp_path / "manifest.json", training="another")
    (tmp_path / "calibration.json").write_bytes((folders["package"] / "calibration.json").read_bytes())
    with pytest.raises(DataError, match=r"report.package must be a package of the training that the page shows; got"):
        in_use(tmp_path, RunRecord.read(folders["training"]), record, CLASSES, None)
