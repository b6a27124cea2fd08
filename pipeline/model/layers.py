"""Builds the parts of networks by their names in the configuration."""

from torch import nn

from pipeline.errors import ConfigError

MAX_CHANNELS = 8192
"""Limit for the last block: with 3×3 filters its weights, their gradient and Adam's two moments take 5 GB."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh,
}  # fmt: skip

# Activations that never fall, so that the maximum may be taken before them.
_MONOTONE = {"relu", "leaky_relu", "elu", "tanh"}


def activation(name: str) -> nn.Module:
    """A new module for each use, so that a hook can watch it."""
    return _ACTIVATIONS[name]()


def is_activation(layer: nn.Module) -> bool:
    """Whether `layer` is one of those that `activation` makes."""
    return isinstance(layer, tuple(_ACTIVATIONS.values()))


def activation_and_pooling(prefix: str, name: str, pooling: str, size: int, number: str = "") -> dict[str, nn.Module]:
    """An activation with a pooling of window and stride `size` (1: none) after it, by name in the order of computation.

    The maximum of a rising function is the function of the maximum, so a max-pooling goes first where it can: the
    activation then has a fraction of the elements to compute.
    """
    activated = {f"{prefix}{name}{number}": activation(name)}
    if size == 1:
        return activated
    pooled = {f"{prefix}pooling{number}": nn.MaxPool2d(size) if pooling == "max" else nn.AvgPool2d(size)}
    return pooled | activated if pooling == "max" and name in _MONOTONE else activated | pooled


def normalization(kind: str, num_channels: int) -> nn.Module:
    """Batch normalisation, or group normalisation with groups of at least four channels: on a 1×1 map a group of one
    channel would always be normalised to 0."""
    if kind == "batch":
        return nn.BatchNorm2d(num_channels)
    num_groups = next(groups for groups in (8, 4, 2, 1) if groups == 1 or num_channels % (4 * groups) == 0)
    return nn.GroupNorm(num_groups, num_channels)


def check_channels(num_channels: int, formula: str, numbers: str) -> None:
    """Refuse a last block that no machine can hold.

    Args:
        num_channels: Number of channels of the last block.
        formula: Formula of that number, in configuration keys.
        numbers: Formula with its numbers filled in.

    Raises:
        ConfigError: There are more than `MAX_CHANNELS`.
    """
    if num_channels > MAX_CHANNELS:
        raise ConfigError(
            f"{formula} must be <= {MAX_CHANNELS} channels; got {numbers} = {num_channels}. "
            "Lower model.width or model.depth"
        )
