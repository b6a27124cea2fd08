"""Weights and draws for classes of unequal size."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from pipeline.training import mixing
from pipeline.training.balance import balanced_draws, balanced_weights, members, weighted_cross_entropy
from pipeline.training.batches import EpochOrder, ImageBatches

LABELS = np.repeat([0, 1, 3], [700, 90, 10])
"""Class 2 has no image."""


def batch(num_images: int = 64, num_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.from_numpy(np.random.default_rng(0).choice(LABELS, num_images))
    return logits, labels, balanced_weights(LABELS, num_classes).double()


def test_weights_are_those_of_scikit_learn_and_0_where_there_is_no_image() -> None:
    weights = balanced_weights(LABELS, num_classes=5).numpy()
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=LABELS)
    assert weights[[0, 1, 3]] == pytest.approx(expected) and weights[2] == weights[4] == 0
    assert weights[LABELS].mean() == pytest.approx(1), "the loss keeps its size"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_labels_the_loss_is_that_of_torch(smoothing: float) -> None:
    logits, labels, weights = batch()
    expected = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, labels)
    loss, weight = weighted_cross_entropy(logits, labels, weights, smoothing)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert weight.item() == pytest.approx(weights[labels].sum().item())
    as_shares, _ = weighted_cross_entropy(logits, nn.functional.one_hot(labels, 4).double(), weights, smoothing)
    assert as_shares.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("strengths", [{"mixup": 0.4, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 0.4}])
def test_a_mixed_image_counts_as_its_part_of_each_class(strengths: dict[str, float]) -> None:
    logits, labels, weights = batch()
    torch.manual_seed(0)
    _, shares = mixing.mix(torch.zeros(64, 8, 8, 1, dtype=torch.uint8), labels, 4, erasing=0.0, **strengths)
    losses = -logits.log_softmax(dim=1)
    parts = [(share * weights[c], losses[i, c]) for i, row in enumerate(shares) for c, share in enumerate(row)]
    expected = sum(part * loss for part, loss in parts) / sum(part for part, _ in parts)
    loss, weight = weighted_cross_entropy(logits, shares.double(), weights)
    assert loss.item() == pytest.approx(float(expected), rel=1e-6)
    assert weight.item() == pytest.approx(float(sum(part for part, _ in parts)), rel=1e-6)


def test_equal_weights_change_nothing() -> None:
    logits, labels, _ = batch()
    loss, weight = weighted_cross_entropy(logits, labels, torch.ones(4, dtype=torch.float64), 0.1)
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(logits, labels, label_smoothing=0.1).item())
    assert weight == 64


def test_half_precision_of_the_network_does_not_round_the_weights() -> None:
    layer, pixels = nn.Linear(8, 4), torch.rand(64, 8)
    _, labels, weights = batch()
    shares = nn.functional.one_hot(labels, 4).float()
    for targets in (labels, shares):
        with torch.autocast("cpu", torch.bfloat16):
            logits = layer(pixels)
            loss, weight = weighted_cross_entropy(logits, targets, weights.float())
        assert logits.dtype == torch.bfloat16 and loss.dtype == torch.float32
        assert weight.item() == pytest.approx(weights[labels].sum().item(), rel=1e-6)


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    num_draws=st.integers(1, 200),
    epoch=st.integers(0, 30),
)
def test_each_class_is_drawn_equally_often(counts: list[int], num_draws: int, epoch: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    drawn = balanced_draws(members(labels), num_draws, seed=3, epoch=epoch)
    frequencies = np.bincount(labels[drawn], minlength=len(counts))
    present = np.array(counts) > 0
    assert len(drawn) == num_draws and frequencies[~present].sum() == 0
    assert np.ptp(frequencies[present]) <= 1
    times = np.bincount(drawn, minlength=len(labels))
    for label in np.flatnonzero(present):
        assert np.ptp(times[labels == label]) <= 2, "whole orders before any repeats, but for the ends of two"


@pytest.mark.parametrize("num_draws", [800, 799, 31])
def test_over_epochs_all_images_of_a_class_come_equally_often(num_draws: int) -> None:
    epochs = [balanced_draws(members(LABELS), num_draws, seed=0, epoch=epoch) for epoch in range(12)]
    for number in range(1, 13):
        times = np.bincount(np.concatenate(epochs[:number]), minlength=len(LABELS))
        assert all(np.ptp(times[label == LABELS]) <= 1 for label in (0, 1, 3))
    assert times[LABELS == 3].sum() / times.sum() == pytest.approx(1 / 3, abs=0.02)


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    def first(seed: int, epoch: int) -> tuple[int, ...]:
        order = EpochOrder(len(LABELS), 100, seed, LABELS)
        order.set_epoch(epoch)
        return tuple(np.concatenate([indices for _, _, indices in order]).tolist())

    assert first(1, 4) == first(1, 4)
    assert len({first(seed, epoch) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_a_balanced_epoch_has_as_many_batches_and_mixes_the_classes() -> None:
    plain, balanced = EpochOrder(len(LABELS), 100, 0), EpochOrder(len(LABELS), 100, 0, LABELS)
    assert [len(batch) for _, _, batch in balanced] == [len(batch) for _, _, batch in plain] == [100] * 8
    for _, _, indices in balanced:
        assert np.bincount(LABELS[indices], minlength=4)[[0, 1, 3]].min() > 15, "a third of each, about"


def test_processes_share_a_balanced_epoch_and_a_resumed_one_draws_the_same(
    make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]
) -> None:
    prepared = make_prepared(num_train=60)
    labels = np.repeat([0, 1, 2], [50, 8, 2])
    np.save(prepared / "train" / "labels.npy", labels)
    augmented = make_augmented(prepared)
    make = partial(ImageBatches, prepared, augmented, batch_size=16, seed=0, balanced=True)

    def epoch(rank: int, size: int, resumed: bool = False) -> list[tuple[torch.Tensor, torch.Tensor]]:
        batches = make()
        batches.trainer = type("Trainer", (), {"global_rank": rank, "world_size": size})()
        if resumed:
            batches.start_at(3)
            return list(batches.train_dataloader())
        loader = batches.train_dataloader()
        assert batches.order is not None
        batches.order.set_epoch(3)
        return list(loader)

    whole, parts = epoch(0, 1), [epoch(rank, 2) for rank in range(2)]
    assert np.bincount(torch.cat([labels for _, labels in whole])).tolist() == [20, 20, 20]
    for number, (images, own) in enumerate(whole):
        for rank in range(2):
            part_images, part_labels = parts[rank][number]
            assert torch.equal(part_images, images[rank::2]) and torch.equal(part_labels, own[rank::2])
    resumed = epoch(0, 1, resumed=True)
    assert all(
        torch.equal(a, b) for one, two in zip(whole, resumed, strict=True) for a, b in zip(one, two, strict=True)
    )
