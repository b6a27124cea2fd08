"""Labels that look wrong: found where they were exchanged, many where they mean nothing, few where they are right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.splits import with_noise
from pipeline.evaluation.label_audit import (
    EVEN,
    UNEVEN,
    UNKNOWN,
    Audit,
    Suspects,
    View,
    audit,
    flip_rates,
    folds,
    shrinkage,
    suspects,
)  # fmt: skip
from pipeline.evaluation.probe import regression
from pipeline.evaluation.reference import pixels


@pytest.fixture
def split(make_prepared: Callable[..., Path]) -> Path:
    return make_prepared(num_train=300) / "train"


def look(split: Path, labels: np.ndarray) -> tuple[Audit, Suspects]:
    found = audit([View("the pixels", pixels(split, 300)[0], regression)], labels)
    return found, suspects(found)


def test_right_labels_look_right(split: Path) -> None:
    found, wrong = look(split, np.load(split / "labels.npy"))
    assert found.accuracies["the pixels"] > 0.99 and len(wrong.images) == 0
    assert wrong.headline(300) == "0 of 300 labels look wrong (0.0%)"


def test_exchanged_labels_and_no_others_are_found_with_what_they_look_like(split: Path) -> None:
    right = np.load(split / "labels.npy")
    exchanged = np.arange(0, 300, 25)
    labels = np.where(np.isin(np.arange(300), exchanged), (right + 1) % 3, right)
    found, wrong = look(split, labels)
    assert set(wrong.images) <= set(exchanged) and len(wrong.images) >= 10
    assert (wrong.likely == right[wrong.images]).all() and (wrong.labels == labels[wrong.images]).all()
    assert (found.probabilities.argmax(axis=1) == right).mean() > 0.98, "each image is judged by others alone"


def test_labels_that_mean_nothing_look_wrong_for_the_most_part(split: Path) -> None:
    labels = with_noise(np.load(split / "labels.npy"), 3, 1.0, seed=1)
    found, wrong = look(split, labels)
    assert len(wrong.images) > 0.3 * 300 and found.accuracies["the pixels"] < 0.5


def test_the_view_that_predicts_the_labels_best_judges_them(split: Path) -> None:
    labels, rows = np.load(split / "labels.npy"), pixels(split, 300)[0]
    noise = np.random.default_rng(0).random(rows.shape, dtype=np.float32)
    found = audit([View("noise", noise, regression), View("the pixels", rows, regression)], labels)
    assert found.views == ("the pixels",) and found.accuracies["noise"] < 0.5
    assert "a logistic regression on the pixels, which predicts 1.000 of the labels" in found.method()
    assert f"(noise {found.accuracies['noise']:.3f}, the pixels" in found.method()


def test_rates_are_shrunk_by_how_evenly_the_flips_are_spread() -> None:
    one_pair = np.diag([50.0] * 4)
    one_pair[0, 1] = 40
    assert shrinkage(one_pair, one_pair / one_pair.sum(axis=0)) == UNEVEN
    everywhere = np.full((4, 4), 5.0) + np.diag([50.0] * 4)
    assert shrinkage(everywhere, everywhere / everywhere.sum(axis=0)) == EVEN
    few = np.diag([50.0] * 4)
    assert shrinkage(few, few / few.sum(axis=0)) == UNKNOWN


def test_flips_to_one_class_are_ranked_before_doubts_of_other_kinds() -> None:
    """Class 0 is often labelled as 1; of two images with equal probability of their label, that one is likelier wrong."""
    counts = np.diag([50.0] * 4)
    counts[1, 0] = 40
    rates = flip_rates(counts)
    doubtful = np.array([0.6, 0.4, 0.0, 0.0]) * rates[1], np.array([0.4, 0.0, 0.6, 0.0]) * rates[0]
    wrong = [1 - doubtful[0][1] / doubtful[0].sum(), 1 - doubtful[1][0] / doubtful[1].sum()]
    assert wrong[0] > 2 * wrong[1]


def test_a_class_ten_times_as_probable_as_the_label_is_suspected_in_a_set_of_few() -> None:
    positions = np.arange(30) % 3
    probabilities = np.where(np.eye(3, dtype=bool)[positions], 0.9, 0.05)
    probabilities[0] = [0.07, 0.08, 0.85]
    found = suspects(Audit(("x",), {"x": 1.0}, 1.0, np.arange(3), positions, probabilities))
    assert found.images.tolist() == [0] and found.likely.tolist() == [2] and found.probability.tolist() == [0.85]


def test_images_of_a_group_are_never_on_both_sides_of_a_fold() -> None:
    groups = np.arange(60) // 4
    for fitted, held_out in folds(np.arange(60) % 3, groups, seed=0):
        assert not set(groups[fitted]) & set(groups[held_out])


def test_a_class_of_few_images_is_not_audited(split: Path) -> None:
    labels = np.where(np.arange(300) < 3, 0, 1 + np.arange(300) % 2)
    with pytest.raises(ValueError, match="each class must have 5 images or more to be audited; one has 3"):
        look(split, labels)


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
