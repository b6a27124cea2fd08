"""What should worry a reader beside the verdict."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.diagnosis import Thresholds
from pipeline.diagnosis.concerns import Seen, concerns
from pipeline.diagnosis.measurements import Estimate
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
    assert concern.name == "split_shift"
    assert concern.evidence.startswith("'ant' is 90.0% of val and 50.0% of train, a difference of 0.400 [")
    assert concern.interval.value == 0.4 and 0.3 < concern.interval.low < concern.interval.high < 0.5
    assert with_it.model_copy(update={"concerns": []}) == without
    assert any(
        line.startswith("  Concern: 'ant' is 90.0% of val") and "prepare.seed=1" in line for line in as_lines(with_it)
    )
    with_it.write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["concerns"] == 1


def seen(right: list[int], counts: list[int], *, sure: float = 0.9, others: int = 1, **known: Any) -> Seen:
    """`right` of `counts` images of each class are recognised; each other one is taken for the class `others` further on."""
    labels = np.repeat(np.arange(len(counts)), counts)
    predicted = np.concatenate(
        [
            np.where(np.arange(n) < k, c, (c + others) % len(counts))
            for c, (k, n) in enumerate(zip(right, counts, strict=True))
        ]
    )
    probabilities = np.full((len(labels), len(counts)), (1 - sure) / (len(counts) - 1))
    probabilities[np.arange(len(labels)), predicted] = sure
    return Seen(labels=labels, probabilities=probabilities, **known)


def animals(counts: list[int]) -> DatasetRecord:
    splits = {name: counts for name in ("train", "val", "confirm", "test")}
    return dataset(**splits).model_copy(update={"classes": ["ant", "bee", "cat", "dog"][: len(counts)]})


EVEN = [100, 100, 100, 100]
REACHED = Estimate(0.95, 0.93, 0.97)
CASES: dict[str, tuple[Seen, Seen, str, str]] = {
    "unrecognised_class": (
        seen([90, 90, 90, 2], EVEN), seen([90, 90, 90, 40], EVEN),
        "'dog' is recognised in 2 of its 100 validation images", "train.class_weights=balanced",
    ),
    "unbalanced": (
        seen([970, 15], [1000, 50]), seen([970, 47], [1000, 50]),
        "the mean accuracy of the classes is 0.635", "train.class_weights=balanced",
    ),
    "confused_classes": (
        seen([40, 95, 95, 95], EVEN), seen([95, 95, 95, 95], EVEN),
        "'ant' and 'bee' are taken for each other in 60 of 200 validation images", "build/evaluate/mistakes.csv",
    ),
    "no_better_than_simple_methods": (
        seen([90, 90, 90, 90], EVEN, reference=REACHED), seen([96, 96, 96, 96], EVEN, reference=REACHED),
        "validation accuracy is 0.900 [0.867, 0.926], and simple methods reach 0.950 [0.930, 0.970]", "pipeline.starts",
    ),
    "overconfident": (
        seen([80, 80, 80, 80], EVEN, sure=0.99), seen([92, 92, 92, 92], EVEN, sure=0.93),
        "the network is 0.990 sure on average, and right in 0.800", "regularization.label_smoothing=0.1",
    ),
    "small_images": (
        seen(EVEN, EVEN, source_side=300.0), seen(EVEN, EVEN, source_side=48.0),
        "the images of the source are 300 pixels wide or high, and the network sees 32", "prepare.size=64",
    ),
}  # fmt: skip
"""For each concern validation images that give it, others that do not, and what it says."""


@pytest.mark.parametrize("name", CASES)
def test_each_concern_is_told_where_it_is_and_not_where_it_is_not(name: str) -> None:
    with_it, without, evidence, step = CASES[name]
    for shown, expected in ((with_it, True), (without, False)):
        counts = np.bincount(shown.labels).tolist()
        found = {each.name: each for each in concerns(animals(counts), shown)}
        assert (name in found) == expected
        if expected:
            assert found[name].evidence.startswith(evidence) and step in found[name].step


def test_a_class_that_nothing_is_taken_for_is_told_even_with_few_images() -> None:
    concern = concerns(animals([100, 5]), seen([100, 0], [100, 5]))[0]
    assert concern.name == "unrecognised_class" and "0 of its 5 validation images" in concern.evidence
    assert concern.interval.value == 0 and concern.interval.high > 0.2


def test_splits_drawn_alike_are_no_concern() -> None:
    assert concerns(dataset(train=[500, 500], val=[52, 48], confirm=[49, 51], test=[100, 100])) == []
