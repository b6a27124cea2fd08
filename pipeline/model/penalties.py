"""Computes L1, L2 and weight decay on the weights of convolutions and linear layers, never on biases or normalisation.

A bias needs little data, and shrinking it can cause underfitting without lessening variance (Goodfellow et al. 2016,
section 7.1); the scale and shift of a normalisation are as few, and are left out for the same reason.
"""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn


def penalized(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that penalties act on."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return [parameter for layer in layers for name, parameter in layer.named_parameters() if name == "weight"]


def l1(parameters: Sequence[Tensor]) -> Tensor:
    """Σ|w|, whose gradient is sign(w), and 0 at 0."""
    return torch.stack([parameter.abs().sum() for parameter in parameters]).sum()


def l2(parameters: Sequence[Tensor]) -> Tensor:
    """½Σw², whose gradient is w."""
    return 0.5 * torch.stack([parameter.square().sum() for parameter in parameters]).sum()


@torch.no_grad()
def soft_threshold_(parameter: Tensor, threshold: float | Tensor) -> None:
    """Move weights in place towards 0, and no further: w ← sign(w)·max(|w| − threshold, 0).

    The proximal operator of threshold·|w| (Parikh and Boyd 2014, section 6.5.2); a tensor gives each weight its own.
    """
    parameter.copy_(parameter.sign() * (parameter.abs() - threshold).clamp_min(0))


@torch.no_grad()
def decay_(parameters: Sequence[Tensor], factor: float, start: Sequence[Tensor | None] = ()) -> None:
    """Shrink weights in place, w ← (1 − factor)·w, apart from the gradient; or draw them towards where they started.

    With `factor` = lr·λ this is the decoupled decay of Loshchilov and Hutter 2019 (algorithm 2). `start` has a tensor for each
    parameter that moves towards it instead, w ← w + factor·(start − w), and None for the others.
    """
    for parameter, origin in zip_longest(parameters, start):
        parameter.mul_(1 - factor)
        if origin is not None:
            parameter.add_(origin.to(parameter.device), alpha=factor)
