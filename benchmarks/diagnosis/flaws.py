"""Builds faults into networks that no configuration can cause."""

from torch import nn


def dead(network: nn.Module) -> None:
    """Make all ReLUs dead by biases far below 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.constant_(layer.bias, -100.0)


def stale(network: nn.Module) -> None:
    """Nearly freeze the running statistics, so that evaluation normalises with those of the start."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1e-3


def inverted(network: nn.Module) -> None:
    """Invert the images in evaluation mode."""
    network.register_forward_pre_hook(lambda layer, images: None if layer.training else (255 - images[0],))


FLAWS = {flaw.__name__: flaw for flaw in (dead, stale, inverted)}
