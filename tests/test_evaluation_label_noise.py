"""The share of wrong labels: near the truth where a logistic regression is good, and no concern where it is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import LabelNoiseRecord
from pipeline.diagnosis.concerns import SKILL, WRONG, concerns
from pipeline.evaluation import label_noise
from pipeline.evaluation.course import course_of, seen_of
from pipeline.evaluation.label_audit import Audit, View
from pipeline.evaluation.probe import regression
from tests.page_artefacts import make_all


def digits(wrong: float, seed: int = 0) -> LabelNoiseRecord:
    """The estimate for scikit-learn's digits with a share of their labels replaced by others."""
    from sklearn.datasets import load_digits

    rows, labels = load_digits(return_X_y=True)
    draw = np.random.default_rng(seed)
    replaced = draw.random(len(labels)) < wrong
    labels = np.where(replaced, (labels + draw.integers(1, 10, len(labels))) % 10, labels)
    found = label_noise.measured([View("the pixels", rows / 16, regression)], labels)
    assert found is not None
    return found


def test_clean_labels_are_estimated_to_be_right() -> None:
    found = digits(0.0)
    assert found.high < WRONG and found.skill > 0.9


@pytest.mark.parametrize("wrong", [0.1, 0.2])
def test_replaced_labels_are_counted_within_the_interval(wrong: float) -> None:
    found = digits(wrong)
    assert WRONG < found.low <= wrong <= found.high and found.skill > SKILL


def test_classes_that_are_taken_for_each_other_are_no_wrong_labels() -> None:
    """Four classes in two pairs: the predictions know the pair, and within it they guess."""
    draw = np.random.default_rng(0)
    positions = np.arange(2000) % 4
    share = draw.uniform(0.1, 0.9, 2000)
    probabilities = np.full((2000, 4), 0.01)
    rows = np.arange(2000)
    probabilities[rows, positions], probabilities[rows, positions ^ 1] = share, 0.98 - share
    found = Audit(("a",), {}, 0.5, np.arange(4), positions, probabilities)
    assert (probabilities.argmax(axis=1) != positions).mean() > 0.4
    assert label_noise.wrong_at_random(found) == (0.0, 0.0, 0.0)


def test_labels_without_any_relation_to_the_images_show_no_skill() -> None:
    found = digits(0.9)  # each label is as likely as the right one
    assert found.skill < SKILL


def test_nothing_is_estimated_from_a_few_images() -> None:
    view = View("the pixels", np.zeros((50, 3)), regression)
    assert label_noise.measured([view], np.arange(50) % 2) is None
    one_class = View("the pixels", np.zeros((200, 3)), regression)
    assert label_noise.measured([one_class], np.zeros(200, np.int64)) is None


def test_the_estimate_of_prepared_images_is_made_once_and_is_a_concern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stage.lineage.CACHE", tmp_path / "cache")
    folders = make_all(tmp_path, {"train": 600, "val": 150, "confirm": 12, "test": 30})
    training, prepared = folders["training"], folders["prepared"]
    clean = seen_of(training, prepared, course_of(training, prepared, 0.9))
    assert clean.noise is not None and clean.noise.num_images == 750 and clean.noise.share < WRONG

    def never(*arguments: object) -> None:
        raise AssertionError("the estimate is in the cache")

    monkeypatch.setattr(label_noise, "measured", never)
    assert label_noise.label_noise(training, prepared) == clean.noise
    wrong = clean.noise.model_copy(update={"share": 0.1, "low": 0.06, "high": 0.14})
    unsure, unskilled = wrong.model_copy(update={"low": 0.01}), wrong.model_copy(update={"accuracy": 0.5})
    dataset = DatasetRecord.read(prepared)
    for noise, told in ((clean.noise, False), (wrong, True), (unsure, False), (unskilled, False)):
        found = {each.name: each for each in concerns(dataset, replace(clean, noise=noise))}
        assert ("suspect_labels" in found) == told
        if told:
            assert found["suspect_labels"].evidence.startswith("about 75 of 750 labels look wrong, a share of 0.100 [")
            assert "pipeline.audit" in found["suspect_labels"].step
