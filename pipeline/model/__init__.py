"""Builds networks, saves and loads them, and describes their layers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ConfigError
from pipeline.model import checkpoint, convnet, efficientnet, lenet, resnet, timm_network
from pipeline.model.arithmetic import Layer, layer_table, output_formula, output_size
from pipeline.model.checkpoint import save
from pipeline.model.feature_maps import activations, filters
from pipeline.model.inference import Outputs, outputs, outputs_of_features, probabilities
from pipeline.model.network import Network, Normalize, evaluating
from pipeline.model.penalties import decay_, l1, l2, penalized, soft_threshold_

__all__ = [
    "Layer", "Network", "Normalize", "Outputs", "activations", "build", "decay_", "evaluating", "filters", "l1", "l2",
    "layer_table", "load", "output_formula", "output_size", "outputs", "outputs_of_features", "penalized",
    "probabilities", "save", "soft_threshold_",
]  # fmt: skip

NETWORKS: dict[str, Callable[..., Network]] = {
    "lenet": lenet.build, "convnet": convnet.build, "resnet": resnet.build, "efficientnet": efficientnet.build,
    "timm": timm_network.build,
}  # fmt: skip


def build(
    name: str, *, num_classes: int, channels: int, size: int, mean: Sequence[float], std: Sequence[float],
    channels_last: bool = True, **options: Any,
) -> Network:  # fmt: skip
    """A network with fresh weights from torch's global generator.

    Args:
        name: One of `NETWORKS`.
        num_classes: Number of outputs.
        channels: Number of channels of the images.
        size: Height and width of the images in pixels.
        mean: Mean of each channel over the training images, for pixels in [0, 1].
        std: Standard deviation of each channel, likewise.
        channels_last: Whether it computes in torch's memory layout of that name; changes speed and rounding only.
        options: Keys of the network's configuration group but `name` and those of how it starts.

    Raises:
        ConfigError: There is no such network, or it would not fit into memory.
        ShapeError: The layers do not fit the size of the images.
    """
    if name not in NETWORKS:
        raise ConfigError(f"model must be one of {', '.join(NETWORKS)}; got {name!r}. Set model=lenet, for example")
    normalize = Normalize(mean, std, channels_last=channels_last)
    network = NETWORKS[name](normalize, num_classes=num_classes, channels=channels, size=size, **options)
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # unknown to torch's annotations
    return network


def load(path: Path) -> tuple[Network, list[str]]:
    """The network of a `model.ckpt` in evaluation mode, and the names of its classes.

    Raises:
        DataError: There is no such file, or it is truncated, or is not such a checkpoint. A file that would run code
            when it is read is refused, unread.
    """
    return checkpoint.read(path, rebuild)


def rebuild(**description: Any) -> Network:
    """The network that the description in a checkpoint builds; one of an earlier version may name what is a key no more."""
    return build(**{key: value for key, value in description.items() if key != "pretrained"})
