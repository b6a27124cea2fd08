"""Twice the size is tried on a simple method where much is lost, and the concern tells what it brought."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.diagnosis import SizeTrialRecord
from pipeline.artefacts.source import SourceRecord
from pipeline.diagnosis.concerns import Seen, concerns
from pipeline.evaluation import size_trial
from pipeline.evaluation.course import course_of, seen_of
from tests.page_artefacts import CLASSES, SIZE, dataset_record, make_all

COUNTS = {"train": 160, "val": 40, "confirm": 12, "test": 30}


def striped(labels: np.ndarray, side: int, visible: bool) -> np.ndarray:
    """Stripes whose direction tells the class of large images; small ones, averaged, are grey noise unless `visible`."""
    draw = np.random.default_rng(0)
    images = draw.integers(100, 120, (len(labels), side, side, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        if visible:
            (image if label else image.transpose(1, 0, 2))[::4] += 60
    return images


@pytest.mark.parametrize(("visible", "least", "most"), [(True, 0.3, 1.0), (False, -0.2, 0.2)])
def test_the_gain_is_that_of_what_only_larger_images_show(visible: bool, least: float, most: float) -> None:
    labels = np.arange(200) % 2
    small, large = striped(labels, 16, False), striped(labels, 32, visible)
    found = size_trial.compared(small, large, labels)
    assert found is not None and (found.size, found.num_images) == (32, 200)
    assert least < found.gain.value < most and found.gain.low <= found.gain.value <= found.gain.high
    assert (found.gain.low > 0) == visible


def test_nothing_is_told_of_a_few_images_or_of_one_class() -> None:
    images = striped(np.zeros(99, np.int64), 16, False)
    assert size_trial.compared(images, images, np.arange(99) % 2) is None
    images = striped(np.zeros(200, np.int64), 16, False)
    assert size_trial.compared(images, images, np.zeros(200, np.int64)) is None


def source(folder: Path, prepared: Path) -> None:
    """A raw dataset with a picture of 100 pixels for each image of training and validation, and no more."""
    rows: dict[str, list[Any]] = {"image": [], "label": [], "path": []}
    for split in ("train", "val"):
        names = pq.read_table(prepared / split / "ids.parquet").to_pydict()["id"]
        labels = np.load(prepared / split / "labels.npy")
        for image, label, name in zip(striped(labels, 100, True), labels, names, strict=True):
            rows["image"].append(cv2.imencode(".png", image)[1].tobytes())
            rows["label"].append(CLASSES[label])
            rows["path"].append(name)
        ids = pq.read_table(prepared / split / "ids.parquet").to_pydict()
        ids["sha256"] = [size_trial_sha(content) for content in rows["image"][-len(names) :]]
        ids["width"] = ids["height"] = [100] * len(names)
        pq.write_table(pa.table(ids), prepared / split / "ids.parquet")
    folder.mkdir()
    pq.write_table(pa.table(rows), folder / "images-00.parquet", row_group_size=50)
    SourceRecord(
        name="made", layout="parquet", found=None, asked=None, parts=None, columns=None, classes=None, licence="none",
        source="made for tests", files={},
    ).write(folder)  # fmt: skip


def size_trial_sha(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def test_images_of_the_source_are_tried_once_and_the_concern_tells_the_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stage.lineage.CACHE", tmp_path / "cache")
    monkeypatch.setattr("pipeline.stage.lineage.dvc_folder", lambda stage: tmp_path / "nowhere")
    folders = make_all(tmp_path, COUNTS)
    training, prepared = folders["training"], folders["prepared"]
    course = course_of(training, prepared, 0.9)
    assert seen_of(training, prepared, course).trial is None, "the source is as small"
    (tmp_path / "cache").mkdir(exist_ok=True)
    source(tmp_path / "cache" / "fetch-0", prepared)
    seen = seen_of(training, prepared, course)
    assert seen.trial is not None and (seen.trial.size, seen.trial.num_images) == (2 * SIZE, 200)

    def never(*arguments: object) -> None:
        raise AssertionError("the trial is in the cache")

    monkeypatch.setattr(size_trial, "compared", never)
    assert seen_of(training, prepared, course).trial == seen.trial


def test_the_concern_says_whether_the_gain_may_be_chance() -> None:
    labels = np.arange(100) % 3
    seen = Seen(labels=labels, probabilities=np.eye(3)[labels], source_side=100.0)
    record = dataset_record(classes=CLASSES, counts={split: [40, 40, 40] for split in COUNTS})
    for low, text in ((0.006, ""), (-0.004, ", which may be chance")):
        gain = Interval(value=0.027, low=low, high=0.048)
        trial = SizeTrialRecord(size=2 * SIZE, num_images=1125, gain=gain)
        (concern,) = (each for each in concerns(record, replace(seen, trial=trial)) if each.name == "small_images")
        assert concern.evidence.endswith(
            f"; at 32 pixels a logistic regression on edges gains 0.027 [{low:.3f}, 0.048] on 1,125 images{text}"
        )
