from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augmentation.veto import augmentation
from pipeline.training.batches import EpochOrder, ImageBatches, MeasuredImages, probe_indices


@given(num_images=st.integers(1, 300), batch_size=st.integers(1, 64), epoch=st.integers(0, 5))
def test_an_epoch_shows_every_image_once(num_images: int, batch_size: int, epoch: int) -> None:
    order = EpochOrder(num_images, batch_size, seed=7)
    order.set_epoch(epoch)
    batches = [indices for _, _, indices in order]
    assert len(batches) == len(order) and all(len(indices) <= batch_size for indices in batches)
    assert [len(indices) for indices in batches] == [order.batch_length(number) for number in range(len(order))]
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_images))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def first(seed: int, epoch: int) -> list[int]:
        order = EpochOrder(50, 50, seed)
        order.set_epoch(epoch)
        return next(iter(order))[2].tolist()

    assert first(1, 0) == first(1, 0)
    assert len({tuple(first(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_no_batch_is_left_with_a_single_image() -> None:
    assert {len(indices) for _, _, indices in EpochOrder(257, 256, seed=0)} == {128, 129}


def test_each_image_is_the_original_or_one_of_its_copies(
    make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]
) -> None:
    prepared = make_prepared()
    augmented = make_augmented(prepared, num_copies=2)
    batches = ImageBatches(prepared, augmented, batch_size=64, seed=0)
    originals = np.load(prepared / "train" / "images.npy")
    copies = np.load(augmented / "images.npy")
    versions = np.concatenate([originals[None], copies])
    indices = np.arange(64)
    images, labels = batches.train[(0, 0, indices)]
    matches = [[bool((images.numpy()[i] == version[i]).all()) for version in versions] for i in indices]
    drawn = [row.index(True) for row in matches]
    assert set(drawn) == {0, 1, 2}
    assert torch.equal(labels, torch.from_numpy(np.load(prepared / "train" / "labels.npy")))
    again, _ = batches.train[(0, 0, indices)]
    later, _ = batches.train[(1, 0, indices)]
    assert torch.equal(images, again) and not torch.equal(images, later)
    assert (np.load(prepared / "train" / "images.npy") == originals).all(), "drawing must not change the stored images"


def test_processes_share_a_batch_of_which_each_image_is_drawn_as_it_would_be_for_one(
    make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]
) -> None:
    prepared = make_prepared()
    batches = ImageBatches(prepared, make_augmented(prepared), batch_size=16, seed=0)
    batch = np.random.default_rng(0).permutation(64)[:17]
    whole, labels = batches.train[(3, 1, batch)]
    batches.train.num_processes = 3
    for rank in range(3):
        batches.train.rank = rank
        images, own = batches.train[(3, 1, batch)]
        assert torch.equal(images, whole[rank::3]) and torch.equal(own, labels[rank::3])


@given(num_images=st.integers(3, 60), num_processes=st.integers(1, 3), batch_size=st.integers(1, 20))
def test_what_processes_measure_is_every_image_once(num_images: int, num_processes: int, batch_size: int) -> None:
    images = MeasuredImages(np.arange(num_images)[:, None, None, None], np.arange(num_images), batch_size)
    parts = [images.part(rank, num_processes) for rank in range(num_processes)]
    seen = [part[number][1] for part in parts for number in range(len(part))]
    assert sorted(torch.cat(seen).tolist()) == list(range(num_images))
    if batch_size % num_processes == 0:
        first = torch.cat([part[0][1] for part in parts])
        assert sorted(first.tolist()) == images[0][1].tolist(), "of dead units, all processes look at the same images"


@pytest.mark.parametrize("num_copies", [0, 2])
def test_online_augmentation_gets_a_seed_of_its_own_for_each_batch(
    make_prepared: Callable[..., Path], make_augmented: Callable[..., Path], num_copies: int
) -> None:
    prepared = make_prepared()
    seeds: list[int] = []

    def brighten(images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        seeds.append(seed)
        return np.full_like(images, 255)

    batches = ImageBatches(prepared, make_augmented(prepared, num_copies), batch_size=16, seed=0, augment=brighten)
    first = [batches.train[key][0] for key in ((0, 0, np.arange(4)), (0, 1, np.arange(4)), (1, 0, np.arange(4)))]
    assert len(set(seeds)) == 3 and all((images == 255).all() for images in first)


def test_the_probe_is_as_large_as_validation_and_fixed() -> None:
    chosen = probe_indices(100, 30, seed=0)
    assert len(set(chosen.tolist())) == 30 and (chosen == probe_indices(100, 30, seed=0)).all()
    assert len(probe_indices(20, 30, seed=0)) == 20


def test_online_augmentation_by_class_is_the_same_from_any_number_of_workers(
    make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]
) -> None:
    prepared = make_prepared()
    augmented = make_augmented(prepared, num_copies=0, mode="online")
    classes = ["class 0", "class 1", "class 2"]
    vetoed = augmentation([{"HorizontalFlip": {"p": 1}}], {"HorizontalFlip": ["class 1"]}, 32, 1, classes)
    epochs = []
    for workers in (0, 2):
        batches = ImageBatches(prepared, augmented, batch_size=20, seed=0, loader_workers=workers, augment=vetoed)
        epochs.append(list(batches.train_dataloader()))
    assert all(torch.equal(a, b) for one, other in zip(*epochs, strict=True) for a, b in zip(one, other, strict=True))
    for images, labels in epochs[0]:
        bright = images[:, :, :, 0].numpy() == 220
        mirrored = bright[:, :, 27].any(axis=1) & ~bright[:, :, 4].any(axis=1)
        assert np.array_equal(mirrored, labels.numpy() != 1), (
            "the bright square stands at the left, mirrored at the right"
        )
