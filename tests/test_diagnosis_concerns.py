"""What should worry a reader beside the verdict."""

import json
from pathlib import Path

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.diagnosis import Thresholds
from pipeline.diagnosis.concerns import concerns
from pipeline.diagnosis.record import as_lines
from pipeline.evaluation.course import examine
from tests.courses import good_fit


def dataset(**counts: list[int]) -> DatasetRecord:
    return DatasetRecord(
        name="animals", classes=["ant", "bee"], size=32, channels=1, counts=counts, mean=[0.5], std=[0.2], source="here",
        licence="none", files={},
    )  # fmt: skip


def test_a_shifted_split_is_a_concern_and_changes_no_verdict(tmp_path: Path) -> None:
    shifted = dataset(train=[500, 500], val=[90, 10], confirm=[50, 50], test=[20, 80])
    with_it, without = (examine(good_fit(), Thresholds(), None, data) for data in (shifted, None))
    (concern,) = with_it.concerns
    assert concern.name == "split_shift" and concern.evidence == "'ant' is 90.0% of val and 50.0% of train"
    assert concern.interval.value == 0.4 and 0.3 < concern.interval.low < concern.interval.high < 0.5
    assert with_it.model_copy(update={"concerns": []}) == without
    assert any(
        line.startswith("  Concern: 'ant' is 90.0% of val") and "prepare.seed=1" in line for line in as_lines(with_it)
    )
    with_it.write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["concerns"] == 1


def test_splits_drawn_alike_are_no_concern() -> None:
    assert concerns(dataset(train=[500, 500], val=[52, 48], confirm=[49, 51], test=[100, 100])) == []
