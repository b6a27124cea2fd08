"""Splits of any dataset: disjoint, covering, stratified, stable, nested."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.config.errors import ConfigError, DataError
from pipeline.data.splits import limited, split_counts, stratified_split

Labels = NDArray[np.int64]

fractions = st.tuples(st.floats(0.01, 0.5), st.floats(0, 0.45), st.floats(0, 0.9))
seeds = st.integers(0, 1000)


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Labels, list[str]]:
    """Labels of 1 to 5 classes with 100 to 300 images each, shuffled."""
    sizes = draw(st.lists(st.integers(100, 300), min_size=1, max_size=5))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(draw(seeds)).permutation(labels), [f"class {label}" for label in range(len(sizes))]


@settings(deadline=None, max_examples=50)
@given(datasets(), fractions, seeds)
def test_split_is_disjoint_covering_and_stratified(
    dataset: tuple[Labels, list[str]], fractions: tuple[float, float, float], seed: int
) -> None:
    (labels, classes), (val, confirm, test) = dataset, fractions
    splits = stratified_split(labels, classes, val=val, confirm=confirm, test=test, seed=seed)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(labels)))
    for indices in splits.values():
        assert (np.diff(indices) > 0).all()
    for label in range(len(classes)):
        counts = {name: int((labels[indices] == label).sum()) for name, indices in splits.items()}
        num_images = int((labels == label).sum())
        rest = num_images - counts["test"]
        assert abs(counts["test"] - num_images * test) < 1 + 1e-6
        assert abs(counts["val"] - rest * val) < 1 + 1e-6
        assert abs(counts["confirm"] - rest * confirm) < 1 + 1e-6
        wanted = {"train": 1.0, "val": val, "confirm": confirm, "test": test}
        assert all(counts[name] >= 1 for name, fraction in wanted.items() if fraction > 0)
        assert all(counts[name] == 0 for name, fraction in wanted.items() if fraction == 0)


@settings(deadline=None, max_examples=30)
@given(datasets(), seeds)
def test_split_depends_on_the_seed_alone(dataset: tuple[Labels, list[str]], seed: int) -> None:
    labels, classes = dataset
    first, again, other = (
        stratified_split(labels, classes, val=0.1, confirm=0.1, test=0.2, seed=number)
        for number in (seed, seed, seed + 1)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["train"], other["train"])


def test_split_never_changes() -> None:
    splits = stratified_split(np.arange(20) % 2, ["even", "odd"], val=0.2, confirm=0.2, test=0.2, seed=0)
    assert {name: indices.tolist() for name, indices in splits.items()} == {
        "train": [2, 3, 4, 5, 7, 8, 12, 13, 14, 16, 17, 19],
        "val": [1, 6],
        "confirm": [9, 18],
        "test": [0, 10, 11, 15],
    }


def test_changing_val_leaves_test_and_confirm_alone() -> None:
    labels = np.arange(300) % 3
    narrow, wide = (
        stratified_split(labels, ["a", "b", "c"], val=val, confirm=0.1, test=0.1, seed=0) for val in (0.1, 0.4)
    )
    assert np.array_equal(narrow["test"], wide["test"])
    assert np.array_equal(narrow["confirm"], wide["confirm"])


@settings(deadline=None, max_examples=50)
@given(datasets(), st.integers(5, 400), st.integers(0, 400), seeds)
def test_smaller_limit_is_part_of_a_larger_one(
    dataset: tuple[Labels, list[str]], limit: int, more: int, seed: int
) -> None:
    labels, classes = dataset
    small, large = (limited(labels, classes, number, seed) for number in (limit, limit + more))
    assert len(small) == min(limit, len(labels))
    assert set(small) <= set(large)
    assert (np.diff(small) > 0).all()


@settings(deadline=None, max_examples=50)
@given(datasets(), st.integers(5, 400), seeds)
def test_limit_keeps_the_proportions_and_every_class(dataset: tuple[Labels, list[str]], limit: int, seed: int) -> None:
    labels, classes = dataset
    counts = np.bincount(labels[limited(labels, classes, limit, seed)], minlength=len(classes))
    wanted = np.bincount(labels) * min(limit, len(labels)) / len(labels)
    assert counts.min() >= 1
    assert (np.abs(counts - wanted) <= len(classes)).all()


@given(st.integers(1, 6), st.integers(0, 40), seeds)
def test_limit_of_equal_classes_is_even_within_one(num_classes: int, more: int, seed: int) -> None:
    labels = np.arange(num_classes * 30) % num_classes
    counts = np.bincount(labels[limited(labels, [""] * num_classes, num_classes + more, seed)], minlength=num_classes)
    assert counts.max() - counts.min() <= 1


def test_limit_keeps_a_class_that_is_rare() -> None:
    labels = np.repeat([0, 1], [990, 10])
    assert np.bincount(labels[limited(labels, ["common", "rare"], 20, 0)]).tolist() == [19, 1]


@pytest.mark.parametrize("limit", [None, 60, 1000])
def test_limit_that_does_not_bind_keeps_all(limit: int | None) -> None:
    assert limited(np.arange(60) % 3, ["a", "b", "c"], limit, 0).tolist() == list(range(60))


def test_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prepare\.limit must be >= 3, one image for each class; got 2\. Raise it"):
        limited(np.arange(60) % 3, ["a", "b", "c"], 2, 0)


def test_fractions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"prepare\.val_fraction \+ prepare\.confirm_fraction must be < 1; got 0\.5 \+ 0\.6"
    ):
        stratified_split(np.zeros(100, np.int64), ["a"], val=0.5, confirm=0.6, test=0, seed=0)


@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_class_with_too_few_images_is_named_with_the_number_that_would_do(num_images: int) -> None:
    labels = np.repeat([0, 1], [50, num_images])
    with pytest.raises(DataError, match=rf"each class must have at least 4 images, .*; 'rare' has {num_images}\. Add"):
        stratified_split(labels, ["common", "rare"], val=0.1, confirm=0.1, test=0.15, seed=0)


@given(fractions)
def test_number_that_would_do_does_and_so_does_every_larger_one(fractions: tuple[float, float, float]) -> None:
    val, confirm, test = fractions
    with pytest.raises(DataError) as caught:
        stratified_split(np.zeros(0, np.int64), ["a"], val=val, confirm=confirm, test=test, seed=0)
    smallest = int(str(caught.value).split()[6])

    def num_train(num_images: int) -> int:
        return split_counts(num_images, val=val, confirm=confirm, test=test)["train"]

    assert num_train(smallest - 1) < 1
    assert all(num_train(num_images) >= 1 for num_images in range(smallest, smallest + 60))
