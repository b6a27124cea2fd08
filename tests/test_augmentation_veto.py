import pickle
from typing import Any

import numpy as np
import pytest

from pipeline.augmentation.transforms import augment_batch, build
from pipeline.augmentation.veto import Augmentation, augmentation
from pipeline.errors import ConfigError

CLASSES = ["6", "9", "cat"]
TRANSFORMS = ["HorizontalFlip", {"Rotate": {"limit": 30, "p": 1}}]


def noise(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(1).integers(0, 256, (count, 12, 12, 1), dtype=np.uint8)
    return images, np.arange(count) % 3


def made(veto: dict[str, list[Any]], transforms: list[Any] = TRANSFORMS) -> Augmentation:
    return augmentation(transforms, veto, 12, 1, CLASSES)


def test_without_a_veto_images_are_what_the_transforms_alone_make() -> None:
    images, labels = noise()
    assert np.array_equal(made({})(images, labels, 5), augment_batch(build(TRANSFORMS, 12, 1), images, 5))


def test_a_veto_changes_the_images_of_its_classes_alone() -> None:
    images, labels = noise()
    free, vetoed = made({})(images, labels, 5), made({"Rotate": ["9"]})(images, labels, 5)
    same = (free == vetoed).all(axis=(1, 2, 3))
    assert same[labels != 1].all() and not same[labels == 1].any()


def test_each_class_is_spared_what_is_vetoed_for_it() -> None:
    images, labels = noise()
    vetoed = made({"Rotate": ["6", "9"], "HorizontalFlip": ["9"]})(images, labels, 5)
    flipped = images[:, :, ::-1]
    unchanged, mirrored = ((vetoed == other).all(axis=(1, 2, 3)) for other in (images, flipped))
    assert unchanged[labels == 1].all(), "neither turned nor mirrored"
    assert (unchanged | mirrored)[labels == 0].all() and mirrored[labels == 0].any(), "mirrored and not turned"
    assert not (unchanged | mirrored)[labels == 2].any(), "turned"


def test_a_veto_holds_for_each_transform_of_its_name() -> None:
    images, labels = noise()
    twice = ["VerticalFlip", {"Transpose": {"p": 1}}, {"VerticalFlip": {"p": 1}}]
    vetoed = made({"VerticalFlip": ["cat"]}, twice)(images, labels, 0)
    assert np.array_equal(vetoed[labels == 2], images[labels == 2].swapaxes(1, 2))


def test_the_same_seed_gives_the_same_images_also_in_another_process() -> None:
    images, labels = noise()
    draw = made({"Rotate": ["6"], "HorizontalFlip": ["9"]})
    first, other, again = (draw(images, labels, seed) for seed in (1, 2, 1))
    assert np.array_equal(first, again) and np.array_equal(pickle.loads(pickle.dumps(draw))(images, labels, 1), first)
    assert not np.array_equal(first[labels == 0], other[labels == 0])


def test_a_batch_without_the_class_and_one_without_images_are_fine() -> None:
    images, labels = noise()
    draw = made({"Rotate": ["6"]})
    assert draw(images[labels == 2], labels[labels == 2], 0).shape == (20, 12, 12, 1)
    assert draw(images[:0], labels[:0], 0).shape == (0, 12, 12, 1)


def test_a_class_written_as_a_number_is_the_class_of_that_name() -> None:
    assert made({"Rotate": [9]}).reduced.keys() == {1}


def refused(veto: dict[str, list[Any]], transforms: list[Any] = TRANSFORMS) -> str:
    with pytest.raises(ConfigError) as caught:
        made(veto, transforms)
    return str(caught.value)


def test_a_class_that_the_dataset_lacks_is_refused_with_the_nearest() -> None:
    assert refused({"Rotate": ["9", "cta"]}) == (
        "augment.veto.Rotate must name classes of the dataset; got 'cta'. Did you mean 'cat'? They are 6, 9, cat."
    )


def test_a_transform_that_the_list_lacks_is_refused_with_the_nearest() -> None:
    assert refused({"HorizontalFlpi": ["9"]}) == (
        "augment.veto must name transforms of augment.transforms; got 'HorizontalFlpi'. Did you mean 'HorizontalFlip'? "
        "They are HorizontalFlip, Rotate."
    )


def test_where_nothing_is_applied_any_transform_may_be_vetoed_so_that_a_sweep_may_hold_no_augmentation() -> None:
    images, labels = noise()
    assert np.array_equal(made({"HorizontalFlip": ["6"]}, [])(images, labels, 0), images)
    assert "must name classes of the dataset; got 'dog'" in refused({"HorizontalFlip": ["dog"]}, [])


def test_a_veto_that_leaves_images_of_another_shape_is_refused() -> None:
    pad_and_crop = [{"Pad": {"padding": 2}}, {"RandomCrop": {"height": "size", "width": "size"}}]
    assert refused({"RandomCrop": ["6"]}, pad_and_crop).startswith(
        "augment.veto must leave transforms that work; got RandomCrop, without which augment.transforms must give back 12×12×1"
    )
