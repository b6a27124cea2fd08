"""Optimisers, schedules, and penalties against their closed forms."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.schema import SGD, AdamW, Cosine, WarmupScheduler
from pipeline.model import l2, soft_threshold_
from pipeline.training.optimizers import build_optimizer, build_scheduler, threshold

OPTIMIZERS: dict[str, tuple[SGD | AdamW, float]] = {
    "sgd": (SGD(name="sgd", lr="auto", momentum=0.0, nesterov=False, layer_decay=1.0), 0.05),
    "momentum": (SGD(name="sgd", lr="auto", momentum=0.9, nesterov=False, layer_decay=1.0), 0.01),
    "nesterov": (SGD(name="sgd", lr="auto", momentum=0.9, nesterov=True, layer_decay=1.0), 0.01),
    "adamw": (AdamW(name="adamw", lr="auto", beta1=0.9, beta2=0.999, layer_decay=1.0), 0.01),
}
NUM_STEPS = 3000


def descend(
    loss: Callable[[Tensor], Tensor], num_weights: int, settings: tuple[SGD | AdamW, float], l1: float = 0.0
) -> Tensor:
    """The weights after many steps on the whole data, the learning rate going down to a hundredth."""
    weights = nn.Parameter(torch.zeros(num_weights, dtype=torch.float64))
    optimizer = build_optimizer([weights], *settings)
    scheduler = build_scheduler(optimizer, NUM_STEPS, Cosine(name="cosine", warmup_fraction=0.0, final_fraction=0.01))
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()
        if l1:
            soft_threshold_(weights, threshold(optimizer, weights, l1))
        scheduler.step()
    return weights.detach()


def orthonormal(num_weights: int) -> tuple[Tensor, Tensor, Tensor]:
    """X with orthonormal columns, y, and the weights of least squares, some large and some small."""
    generator = torch.Generator().manual_seed(0)
    design = torch.linalg.qr(torch.randn(20, num_weights, dtype=torch.float64, generator=generator)).Q
    least_squares = torch.tensor([2.0, -1.5, 0.7, 0.3, -0.25, 0.1, -0.05, 0.0], dtype=torch.float64)[:num_weights]
    return design, design @ least_squares, least_squares


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_proximal_l1_finds_the_lasso_with_the_same_lambda_for_every_optimizer(name: str) -> None:
    """With orthonormal columns the lasso is the soft threshold of least squares (Tibshirani 1996, section 2.3)."""
    design, observed, least_squares = orthonormal(8)
    found = descend(lambda w: 0.5 * (design @ w - observed).square().sum(), 8, OPTIMIZERS[name], l1=0.28)
    expected = least_squares.sign() * (least_squares.abs() - 0.28).clamp_min(0)
    assert torch.equal(found == 0, expected == 0), f"exact zeros: {found}"
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_l2_in_the_loss_finds_ridge(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    design = torch.randn(30, 5, dtype=torch.float64, generator=generator) / 30**0.5
    observed = torch.randn(30, dtype=torch.float64, generator=generator)
    found = descend(lambda w: 0.5 * (design @ w - observed).square().sum() + 0.3 * l2([w]), 5, OPTIMIZERS[name])
    expected = torch.linalg.solve(design.T @ design + 0.3 * torch.eye(5), design.T @ observed)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_a_soft_threshold_moves_towards_zero_and_no_further() -> None:
    weights = torch.tensor([1.0, -1.0, 0.2, -0.2, 0.0])
    soft_threshold_(weights, 0.3)
    torch.testing.assert_close(weights, torch.tensor([0.7, -0.7, 0.0, 0.0, 0.0]))
    soft_threshold_(weights, torch.tensor([0.0, 0.5, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(weights, torch.tensor([0.7, -0.2, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_threshold_is_lambda_times_what_a_lasting_gradient_of_one_moves(name: str) -> None:
    weights = nn.Parameter(torch.zeros(3))
    optimizer = build_optimizer([weights], *OPTIMIZERS[name])
    for _ in range(400):
        weights.grad = torch.ones(3)
        before = weights.detach().clone()
        optimizer.step()
    expected = before - weights.detach()
    torch.testing.assert_close(torch.ones(3) * threshold(optimizer, weights, 0.01) / 0.01, expected, rtol=1e-3, atol=0)


def test_a_weight_that_has_not_felt_the_loss_is_not_moved_further_than_by_the_learning_rate() -> None:
    weights = nn.Parameter(torch.ones(3))
    optimizer = build_optimizer([weights], *OPTIMIZERS["adamw"])
    weights.grad = torch.tensor([0.0, 1e-6, 1.0])
    optimizer.step()
    moved = threshold(optimizer, weights, 0.1)
    torch.testing.assert_close(torch.as_tensor(moved), torch.tensor([0.01, 0.01, 0.001]), rtol=1e-3, atol=0)


SCHEDULERS = {"constant": WarmupScheduler, "one_cycle": WarmupScheduler, "cosine": Cosine}


def rates(num_steps: int = 100, **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = build_scheduler(optimizer, num_steps, SCHEDULERS[settings["name"]](**settings))
    seen = []
    for _ in range(num_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(seen) < num_steps:
            scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("settings", "first", "peak_at", "last"),
    [
        ({"name": "constant", "warmup_fraction": 0.0}, 1.0, 0, 1.0),
        ({"name": "one_cycle", "warmup_fraction": 0.25}, 1 / 25, 25, 1e-5),
        ({"name": "cosine", "warmup_fraction": 0.0, "final_fraction": 0.01}, 1.0, 0, 0.01),
        ({"name": "constant", "warmup_fraction": 0.2}, 1 / 21, 20, 1.0),
        ({"name": "cosine", "warmup_fraction": 0.2, "final_fraction": 0.01}, 1 / 21, 20, 0.01),
    ],
)
def test_schedules_go_where_their_names_say(settings: dict[str, Any], first: float, peak_at: int, last: float) -> None:
    seen = rates(**settings)
    assert seen[0] == pytest.approx(first) and max(seen) == pytest.approx(1.0, abs=1e-3)
    assert seen.index(max(seen)) == peak_at and seen[-1] == pytest.approx(last, abs=2e-3)


@pytest.mark.parametrize("settings", [{"name": "constant"}, {"name": "cosine", "final_fraction": 0.01}])
def test_a_warm_up_rises_in_a_line(settings: dict[str, Any]) -> None:
    rising = rates(**settings, warmup_fraction=0.2)[:21]
    steps = [after - before for before, after in pairwise(rising)]
    assert min(steps) > 0 and max(steps) - min(steps) < 0.01


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_schedules_take_trainings_of_a_few_steps(num_steps: int) -> None:
    for settings in ({"name": "constant"}, {"name": "one_cycle"}, {"name": "cosine", "final_fraction": 0.0}):
        assert all(0 <= rate <= 1 for rate in rates(num_steps, **settings, warmup_fraction=0.5))
