"""Gives the filters and feature maps of the convolutions as arrays to draw."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.model.layers import is_activation
from pipeline.model.network import Network, evaluating


def activations(network: Network, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The feature maps `(channels, height, width)` of one image `(height, width, channels)`, by convolution or block.

    A convolution's is taken after the normalisation that follows it and after the network's activation, but before
    pooling, so that it has the convolution's own size; a residual block's is its sum, after the activation.
    """
    activate = next((layer for layer in network.features.modules() if is_activation(layer)), nn.ReLU())
    maps = {}
    with evaluating(network):
        signal = network.normalize(torch.from_numpy(image[None]).to(network.normalize.mean.device))
        source = ""
        for name, layer in network.features.named_children():
            signal = layer(signal)
            if isinstance(layer, nn.Conv2d) or any(layer.children()):
                source = name
            if source == name or isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
                maps[source] = activate(signal[0]).cpu().numpy()
    return {name: values for name, values in maps.items() if values.ndim == 3}


def filters(network: Network) -> NDArray[np.float32]:
    """The weights of the first convolution, `(filters, channels, height, width)`."""
    first = next(layer for layer in network.features.modules() if isinstance(layer, nn.Conv2d))
    weights: NDArray[Any] = first.weight.detach().cpu().numpy().copy()
    return weights
