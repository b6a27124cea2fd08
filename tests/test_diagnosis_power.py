"""More training images at the kept epoch narrow the gap, so that only validation limits what can be said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.artefacts.run import KeptTraining, RunRecord
from pipeline.diagnosis import diagnose
from pipeline.diagnosis.loading import read_course
from pipeline.diagnosis.measurements import Measurements
from pipeline.diagnosis.pooling import pooled
from pipeline.diagnosis.thresholds import Thresholds
from pipeline.evaluation.scoring import evaluate
from tests import courses
from tests.page_artefacts import BEST_EPOCH, make_all


def test_a_gap_is_inconclusive_less_often_and_its_interval_is_narrower() -> None:
    """Accuracies of 0.93 and 0.83, drawn 40 times on 100 images, and on 2,000 training images for the kept weights."""
    draw = np.random.default_rng(0)
    open_before = open_after = 0
    for _ in range(40):
        probe, val, measured = (draw.binomial(n, p) / n for n, p in ((100, 0.93), (100, 0.83), (2000, 0.93)))
        before = courses.course(
            courses.rising(0.5, probe, 30), courses.rising(0.5, val, 30), num_train=100, num_val=100, kept_epoch=30
        )
        after = replace(before, kept_training=(measured, 2000))
        gaps = [Measurements(course, Thresholds()).gap for course in (before, after)]
        assert gaps[1].half < gaps[0].half
        assert gaps[1].value == pytest.approx(measured - before.val_accuracy[-1])
        open_before += diagnose(before).verdict == "inconclusive"
        open_after += diagnose(after).verdict == "inconclusive"
    assert open_after <= 0.6 * open_before


def test_the_kept_weights_count_only_for_their_own_epoch(tmp_path: Path) -> None:
    training = make_all(tmp_path)["training"]
    old = read_course(training)
    assert old.kept_training is None, "a record of an earlier version"
    measured(training, 0.75, 400)
    assert read_course(training).kept_training == (0.75, 400)
    assert read_course(training, kept_epoch=BEST_EPOCH - 1).kept_training is None


def test_the_evaluation_tells_the_same_gap_as_the_diagnosis(tmp_path: Path) -> None:
    folders = make_all(tmp_path)
    training = folders["training"]
    measured(training, 0.75, 400)
    record = evaluate(training=training, prepared=folders["prepared"], batch_size=8, out=tmp_path / "evaluation")
    gap = diagnose(read_course(training)).evidence["gap"]
    assert not isinstance(gap, float)
    assert record.kept_epoch["train_clean/accuracy"] == 0.75
    assert (record.gap.value, record.gap.low, record.gap.high) == (gap.value, gap.low, gap.high)


def test_folds_pool_what_was_measured_of_their_kept_weights() -> None:
    each = [courses.good_fit(kept_training=(accuracy, 300), num_val=100) for accuracy in (0.9, 0.94)]
    assert pooled(each).kept_training == (pytest.approx(0.92), 200)
    assert pooled([each[0], replace(each[1], kept_training=None)]).kept_training is None


def measured(training: Path, accuracy: float, num_images: int) -> None:
    """Write the record as this version writes it."""
    kept = KeptTraining(accuracy=accuracy, num_images=num_images)
    RunRecord.read(training).model_copy(update={"kept_training": kept}).write(training)
