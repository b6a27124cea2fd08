"""Labels that look wrong: found where they were exchanged, many where they mean nothing, few where they are right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.splits import with_noise
from pipeline.evaluation.label_audit import audit


@pytest.fixture
def split(make_prepared: Callable[..., Path]) -> Path:
    return make_prepared(num_train=300) / "train"


def relabel(split: Path, labels: np.ndarray) -> None:
    np.save(split / "labels.npy", labels)


def test_right_labels_look_right(split: Path) -> None:
    found = audit(split)
    assert found.num_images == 300 and found.accuracy > 0.99 and found.share == 0 and len(found.images) == 0


def test_exchanged_labels_and_no_others_are_found_with_what_they_look_like(split: Path) -> None:
    labels = np.load(split / "labels.npy")
    wrong = np.arange(0, 300, 25)
    relabel(split, np.where(np.isin(np.arange(300), wrong), (labels + 1) % 3, labels))
    found = audit(split)
    assert set(found.images) <= set(wrong) and len(found.images) >= len(wrong) / 3, "those above the average confidence"
    assert found.share == len(found.images) / 300
    assert (found.predicted == labels[found.images]).all()
    assert (found.labels == (labels[found.images] + 1) % 3).all()


def test_labels_that_mean_nothing_look_wrong_for_the_most_part(split: Path) -> None:
    labels = np.load(split / "labels.npy")
    relabel(split, with_noise(labels, 3, 1.0, seed=1))
    found = audit(split)
    assert found.share > 0.4 and found.accuracy < 0.5


def test_a_class_of_few_images_is_not_audited(split: Path) -> None:
    relabel(split, np.where(np.arange(300) < 3, 0, 1 + np.arange(300) % 2))
    with pytest.raises(ValueError, match="each class must have 5 images or more to be audited; one has 3"):
        audit(split)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_as_many_labels_are_drawn_anew_as_were_asked_for(share: float) -> None:
    labels = np.zeros(10_000, dtype=np.int64)
    changed = (with_noise(labels, 10, share, seed=0) != labels).mean()
    assert changed == pytest.approx(0.9 * share, abs=0.02)


def test_less_noise_changes_some_of_the_labels_that_more_noise_changes() -> None:
    labels = np.arange(1000) % 10
    little, much = (with_noise(labels, 10, share, seed=3) for share in (0.2, 0.6))
    changed = little != labels
    assert (little[changed] == much[changed]).all()
