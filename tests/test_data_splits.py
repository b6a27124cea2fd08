"""Splits of any dataset: disjoint, covering, stratified, stable, nested."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data.splits import Fractions, assign, limited
from pipeline.errors import ConfigError, DataError

Labels = NDArray[np.int64]

NAMES = ("train", "val", "confirm", "test")

fractions = st.builds(Fractions, test=st.floats(0, 0.9), confirm=st.floats(0, 0.45), val=st.floats(0.01, 0.5))
seeds = st.integers(0, 1000)


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Labels, list[str]]:
    """Labels of 1 to 5 classes with 100 to 300 images each, shuffled."""
    sizes = draw(st.lists(st.integers(100, 300), min_size=1, max_size=5))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(draw(seeds)).permutation(labels), [f"class {label}" for label in range(len(sizes))]


def keys_of(number: int) -> list[str]:
    return [f"key {place}" for place in range(number)]


def shared(labels: Labels, classes: list[str], fractions: Fractions, seed: int = 0, **more: Any) -> NDArray[np.str_]:
    """Splits of images of which none belong together and to which the source gives no split."""
    more = {"keys": keys_of(len(labels)), "given": np.full(len(labels), ""), **more}
    more["keys"] = np.array([key.encode() for key in more["keys"]])
    return assign(labels, classes=classes, fractions=fractions, seed=seed, **more)


USUAL = Fractions(test=0.15, confirm=0.1, val=0.1)


@settings(deadline=None, max_examples=50)
@given(datasets(), fractions, seeds)
def test_every_class_is_in_every_split_that_is_wanted(
    dataset: tuple[Labels, list[str]], fractions: Fractions, seed: int
) -> None:
    labels, classes = dataset
    splits = shared(labels, classes, fractions, seed)
    wanted = {"train": 1.0, "val": fractions.val, "confirm": fractions.confirm, "test": fractions.test}
    for label in range(len(classes)):
        counts = {name: int((splits[labels == label] == name).sum()) for name in NAMES}
        assert sum(counts.values()) == (labels == label).sum()
        assert all((counts[name] > 0) == (fraction > 0) for name, fraction in wanted.items())


def test_shares_are_near_their_fractions() -> None:
    labels = np.arange(20_000) % 4
    splits = shared(labels, list("abcd"), USUAL)
    for label in range(4):
        shares = {name: float((splits[labels == label] == name).mean()) for name in NAMES}
        assert shares == pytest.approx({"train": 0.68, "val": 0.085, "confirm": 0.085, "test": 0.15}, abs=0.02)


@settings(deadline=None, max_examples=30)
@given(datasets(), seeds)
def test_split_depends_on_the_seed_alone(dataset: tuple[Labels, list[str]], seed: int) -> None:
    labels, classes = dataset
    first, again, other = (shared(labels, classes, USUAL, number) for number in (seed, seed, seed + 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@settings(deadline=None, max_examples=30)
@given(datasets(), seeds)
def test_order_of_the_images_does_not_matter(dataset: tuple[Labels, list[str]], seed: int) -> None:
    labels, classes = dataset
    order = np.random.default_rng(seed).permutation(len(labels))
    keys = keys_of(len(labels))
    mixed = shared(labels[order], classes, USUAL, keys=[keys[place] for place in order])
    assert np.array_equal(mixed, shared(labels, classes, USUAL, keys=keys)[order])


@settings(deadline=None, max_examples=30)
@given(datasets(), st.integers(1, 300), seeds)
def test_new_images_move_no_old_one(dataset: tuple[Labels, list[str]], number: int, seed: int) -> None:
    labels, classes = dataset
    old = shared(labels, classes, USUAL, seed)
    new = shared(np.concatenate([labels, np.arange(number) % len(classes)]), classes, USUAL, seed)
    assert np.array_equal(new[: len(labels)], old)


def test_new_label_moves_no_image() -> None:
    labels = np.arange(600) % 3
    relabelled = np.where(np.arange(600) < 30, 2, labels)
    assert np.array_equal(shared(labels, list("abc"), USUAL), shared(relabelled, list("abc"), USUAL))


def test_split_never_changes() -> None:
    splits = shared(np.arange(20) % 2, ["even", "odd"], Fractions(test=0.2, confirm=0.2, val=0.2))
    assert {name: np.flatnonzero(splits == name).tolist() for name in NAMES} == {
        "train": [2, 4, 5, 8, 13, 14, 16],
        "val": [1, 9, 12, 15, 18, 19],
        "confirm": [6, 10, 11],
        "test": [0, 3, 7, 17],
    }


def test_changing_val_leaves_test_and_confirm_alone() -> None:
    labels = np.arange(300) % 3
    narrow, wide = (shared(labels, list("abc"), Fractions(0.1, 0.1, val)) for val in (0.1, 0.4))
    for name in ("test", "confirm"):
        assert np.array_equal(narrow == name, wide == name)
    assert (wide == "val").sum() > (narrow == "val").sum()


@settings(deadline=None, max_examples=30)
@given(datasets(), st.integers(1, 8), seeds)
def test_images_of_one_key_stay_together(dataset: tuple[Labels, list[str]], size: int, seed: int) -> None:
    labels, classes = dataset
    keys = [f"{labels[place]}/{place // size}" for place in range(len(labels))]
    splits = shared(labels, classes, USUAL, seed, keys=keys)
    for key in set(keys):
        assert len({split for split, other in zip(splits, keys, strict=True) if other == key}) == 1


def large_groups(seed: int, num_classes: int = 3) -> tuple[Labels, list[str]]:
    """Labels and keys of classes that consist of groups of 1 to 60 images, the largest a tenth of its class or more."""
    generator = np.random.default_rng(seed)
    labels: list[int] = []
    keys: list[str] = []
    for label in range(num_classes):
        for group, size in enumerate([60, *generator.integers(1, 20, 45).tolist()]):
            labels += [label] * size
            keys += [f"{seed} {label} {group}"] * size
    return np.array(labels), keys


@pytest.mark.parametrize("seed", range(20))
def test_large_groups_leave_the_shares_of_each_class_near_the_fractions(seed: int) -> None:
    labels, keys = large_groups(seed)
    splits = shared(labels, ["a", "b", "c"], Fractions(test=0.15, confirm=0.1, val=0.1), seed, keys=keys)
    wanted = {"test": 0.15, "confirm": 0.85 * 0.1, "val": 0.85 * 0.1}
    for split, fraction in wanted.items():
        for label in range(3):
            share = np.mean(splits[labels == label] == split)
            assert abs(share - fraction) <= 0.02 + 0.005, (split, label, share)


def test_one_image_in_a_hundred_more_moves_few_of_large_groups() -> None:
    moved = []
    for seed in range(20):
        labels, keys = large_groups(seed, num_classes=6)
        more = len(labels) // 100
        generator = np.random.default_rng(seed)
        later_labels = np.concatenate([labels, generator.integers(0, 6, more)])
        later_keys = [*keys, *(f"new {place}" for place in range(more))]
        fractions, classes = Fractions(test=0.15, confirm=0.1, val=0.1), list("abcdef")
        before = shared(labels, classes, fractions, seed, keys=keys)
        after = shared(later_labels, classes, fractions, seed, keys=later_keys)
        moved.append(np.mean(before != after[: len(labels)]))
    assert np.mean(moved) <= 0.03, moved


def test_given_splits_are_kept_and_get_no_others() -> None:
    given = np.repeat(["train", "val", "test"], [200, 50, 50])
    labels = np.arange(300) % 2
    splits = shared(labels, ["a", "b"], USUAL, given=given)
    assert np.array_equal(splits == "test", given == "test") and np.array_equal(splits == "val", given == "val")
    assert 0 < (splits[:200] == "confirm").sum() < 60 and set(splits[:200]) == {"train", "confirm"}


@settings(deadline=None, max_examples=30)
@given(datasets(), st.integers(2, 7), seeds)
def test_folds_are_disjoint_covering_and_even(dataset: tuple[Labels, list[str]], folds: int, seed: int) -> None:
    labels, classes = dataset
    fractions = Fractions(test=0.1, confirm=0, val=0.1)
    splits = [shared(labels, classes, fractions, seed, folds=folds, fold=fold) for fold in range(folds)]
    assert all(np.array_equal(split == "test", splits[0] == "test") for split in splits)
    in_val = np.stack([split == "val" for split in splits])
    assert (in_val.sum(axis=0) == (splits[0] != "test")).all()
    for label in range(len(classes)):
        counts = in_val[:, labels == label].sum(axis=1)
        assert counts.max() - counts.min() <= 1


def test_folds_keep_groups_together_and_about_even() -> None:
    labels, keys = np.arange(600) % 2, [f"{place % 2}/{place // 12}" for place in range(600)]
    splits = [shared(labels, ["a", "b"], Fractions(0, 0, 0.1), keys=keys, folds=5, fold=fold) for fold in range(5)]
    for split in splits:
        inside = {key for key, name in zip(keys, split, strict=True) if name == "val"}
        assert all((name == "val") == (key in inside) for key, name in zip(keys, split, strict=True))
        assert (split == "val").sum() == 120


def test_a_repeat_divides_the_same_images_into_other_folds() -> None:
    labels = np.arange(400) % 2
    folds = [shared(labels, ["a", "b"], USUAL, folds=4, fold=1, repeat=repeat) for repeat in (0, 1, 2)]
    assert all(np.array_equal(split == "test", folds[0] == "test") for split in folds)
    shared_images = [int(((folds[0] == "val") & (split == "val")).sum()) for split in folds]
    assert all(abs((split == "val").sum() - shared_images[0]) <= 2 for split in folds)  # one of each class
    assert all(count < shared_images[0] / 2 for count in shared_images[1:]), shared_images


def test_folds_leave_room_for_the_images_that_confirm() -> None:
    splits = shared(np.arange(400) % 2, ["a", "b"], Fractions(0, 0.2, 0.1), folds=4, fold=1)
    assert (splits == "val").sum() == 100 and 30 < (splits == "confirm").sum() < 90


@pytest.mark.parametrize(("num_images", "folds"), [(1, None), (3, None), (4, 4)])
def test_class_with_too_few_images_is_named_with_the_number_that_would_do(num_images: int, folds: int | None) -> None:
    labels = np.repeat([0, 1], [50, num_images])
    needed, way = (6, "lower prepare.folds=4") if folds else (4, "or cross-validate: .* prepare.folds=2")
    match = rf"each class must have at least {needed} images .*; 'rare' has {num_images}\. Add images, .* {way}"
    with pytest.raises(DataError, match=match):
        shared(labels, ["common", "rare"], USUAL, folds=folds)
    assert len(shared(np.repeat([0, 1], [50, needed]), ["common", "rare"], USUAL, folds=folds)) == 50 + needed


def test_class_without_images_is_told() -> None:
    with pytest.raises(DataError, match=r"each class must have images; 'none' has none\. Add some, or leave it out"):
        shared(np.zeros(50, np.int64), ["all", "none"], USUAL)


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_that_is_only_tested_is_an_error(split: str) -> None:
    given = np.repeat(["train", split], [60, 20])
    labels = np.repeat([0, 1, 2, 1], [30, 30, 10, 10])
    with pytest.raises(DataError, match=rf"must have images to train on; 'c' has some in {split} only\. Add images"):
        shared(labels, ["a", "b", "c"], USUAL, given=given)


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


def test_classes_may_be_mixed_within_groups() -> None:
    labels, keys = np.arange(400) % 4, [f"patient {place // 8}" for place in range(400)]
    splits = shared(labels, list("abcd"), USUAL, keys=keys)
    for label in range(4):
        assert set(splits[labels == label].tolist()) == set(NAMES)


def test_class_that_goes_away_with_its_groups_is_told() -> None:
    labels, keys = np.repeat([0, 1], [40, 4]), [*keys_of(40), "key 0", "key 1", "key 2", "key 3"]
    fractions = Fractions(test=0.99, confirm=0.0, val=0.01)
    outcomes = []
    for seed in range(20):
        try:
            shared(labels, ["a", "b"], fractions, seed, keys=keys)
            outcomes.append("")
        except DataError as error:
            outcomes.append(str(error))
    match = "each class must have images to train on; all of 'b' went to other splits with the groups that they are in. Take"
    assert all(outcome == "" or outcome.startswith(match) for outcome in outcomes)
