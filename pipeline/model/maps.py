"""What the convolutions look for and what they find, as arrays to draw."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.model.classifier import Classifier, evaluating


def activations(classifier: Classifier, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The feature maps `(channels, height, width)` of one image `(height, width, channels)`, by convolution.

    Each is taken after the normalisation that follows the convolution and after ReLU, but before pooling, so that it
    has the convolution's own size.
    """
    maps = {}
    with evaluating(classifier):
        signal = classifier.normalize(torch.from_numpy(image[None]).to(classifier.normalize.mean.device))
        convolution = ""
        for name, layer in classifier.features.named_children():
            signal = layer(signal)
            if isinstance(layer, nn.Conv2d):
                convolution = name
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
                maps[convolution] = torch.relu(signal[0]).cpu().numpy()
    return maps


def filters(classifier: Classifier) -> NDArray[np.float32]:
    """The weights of the first convolution, `(filters, channels, height, width)`."""
    first = next(layer for layer in classifier.features if isinstance(layer, nn.Conv2d))
    weights: NDArray[Any] = first.weight.detach().cpu().numpy().copy()
    return weights
