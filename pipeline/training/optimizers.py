"""Builds optimisers and learning rate schedules, and gives the threshold of a proximal step."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.schema import SGD, AdamW, Cosine, WarmupScheduler
from pipeline.model.network import Network

ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1e-5
"""Factors of the learning rate before the warm-up and after the last step."""


def build_optimizer(parameters: Any, settings: SGD | AdamW, lr: float, *, fused: bool = True) -> torch.optim.Optimizer:
    """The optimiser of `settings`; its own weight decay stays off, as decay is applied apart, alike for all optimisers.

    `fused` lets AdamW update all weights in one pass, which is faster.
    """
    if isinstance(settings, SGD):
        return torch.optim.SGD(parameters, lr, settings.momentum, nesterov=settings.nesterov)
    return torch.optim.AdamW(parameters, lr, (settings.beta1, settings.beta2), weight_decay=0.0, fused=fused)


def layer_groups(network: nn.Module, lr: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups whose learning rate falls by `decay` from each layer to the one before it, the last layer's first.

    After Howard and Ruder 2018, "Universal language model fine-tuning", section 3.2.
    """
    if not isinstance(network, Network):  # a last layer alone
        return [{"params": list(network.parameters()), "lr": lr}]
    body = network.body()
    below = {parameter for layer in body for parameter in layer.parameters()}
    layers = [[weight for weight in network.parameters() if weight not in below]]
    layers += [list(layer.parameters()) for layer in reversed(body)]
    with_weights = [weights for weights in layers if weights]
    return [{"params": weights, "lr": lr * decay**depth} for depth, weights in enumerate(with_weights)]


def build_scheduler(
    optimizer: torch.optim.Optimizer, total_steps: int, settings: WarmupScheduler | Cosine
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate as a function of progress; unlike torch's OneCycleLR it also takes trainings of a few steps."""

    def factor(step: int) -> float:
        progress = min(1.0, step / max(1, total_steps - 1))
        warmup = settings.warmup_fraction
        if progress < warmup:
            if settings.name == "one_cycle":
                return _cosine(ONE_CYCLE_START, 1.0, progress / warmup)
            return (step + 1) / (math.ceil(warmup * max(1, total_steps - 1)) + 1)
        rest = (progress - warmup) / (1 - warmup)
        if settings.name == "one_cycle":
            return _cosine(1.0, ONE_CYCLE_END, rest)
        return _cosine(1.0, settings.final_fraction, rest) if isinstance(settings, Cosine) else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def threshold(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, l1: float) -> float | Tensor:
    """Distance by which the proximal step of λ·Σ|w| moves each weight of `parameter` towards 0, by the optimiser's state.

    It is λ times the distance that a lasting gradient of 1 moves a weight in one step. So a weight stays at 0 exactly where
    the loss's gradient is no larger than λ, and one λ means the same for all optimisers: with momentum m the buffer settles
    at g/(1 − m), and Adam divides by √v̂ + ε (the proximal step in Adam's own metric: Yun, Lozano and Yang 2021, "Adaptive
    proximal gradient methods for structured neural networks"). As a gradient moves a weight by no more than about the
    learning rate under Adam, neither does the threshold: a weight without a gradient so far would vanish at once.

    Returns:
        A number, or a tensor of the shape of `parameter` where it differs from weight to weight.
    """
    group = next(group for group in optimizer.param_groups if any(parameter is other for other in group["params"]))
    if isinstance(optimizer, torch.optim.SGD):
        return float(group["lr"] * l1 / (1 - group["momentum"]))
    state = optimizer.state[parameter]
    correction = 1 - group["betas"][1] ** state["step"]
    share: Tensor = l1 / ((state["exp_avg_sq"] / correction).sqrt() + group["eps"])
    return group["lr"] * share.clamp_max(1)


def _cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`, for a progress in [0, 1]."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
