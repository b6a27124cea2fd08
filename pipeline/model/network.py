"""Base of all networks: takes images as uint8, standardises them, and gives one logit for each class."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Standardises images, and puts their channels where convolutions expect them.

    Args:
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel, for pixels in [0, 1]; 0 (a constant channel) is taken as 1.
        channels_last: Whether the result lies in memory as batch height width channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, channels_last: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor([value or 1.0 for value in std]), persistent=False)
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        """From uint8 `(batch, height, width, channels)` to float `(batch, channels, height, width)`."""
        scaled = (images - 255 * self.mean) / (255 * self.std)  # = (images / 255 - mean) / std in two passes, not three
        # The arithmetic keeps the order of the bytes on disk, so this view is channels_last already, and with one
        # channel its strides still say so (torch's own conversion leaves the strides of one channel alone).
        standardized = scaled.permute(0, 3, 1, 2)
        # clone, because contiguous() does nothing with one channel, and convolutions would still run channels_last.
        return standardized if self.channels_last else standardized.clone(memory_format=torch.contiguous_format)


class Network(nn.Module):
    """A network from uint8 images `(batch, height, width, channels)` to logits `(batch, classes)`.

    Attributes:
        normalize: Layer that standardises pixels; part of the network, so that no caller can leave it out.
        features: Convolutions and the layers between them, by name, in the order of the computation.
        head: Layers from the last feature map to the logits, by name.

    Args:
        initialized: Whether the layers have their initial weights already.
    """

    def __init__(
        self, normalize: Normalize, features: Mapping[str, nn.Module], head: Mapping[str, nn.Module], *,
        initialized: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalize = normalize
        self.features = nn.Sequential(OrderedDict(features))
        self.head = nn.Sequential(OrderedDict(head))
        if not initialized:
            _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """The logits, not normalised, of uint8 images `(batch, height, width, channels)`."""
        logits: Tensor = self.head(self.features(self.normalize(images)))
        return logits

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and the inputs of the last layer `(batch, features)`; of a network without a head, the logits again."""
        signal = self.features(self.normalize(images))
        *body, last = self.head if len(self.head) else [nn.Identity()]
        for layer in body:
            signal = layer(signal)
        return last(signal), signal

    @property
    def num_last_layers(self) -> int:
        """Number of layers at the end of the head that make the last layer: the linear one, and the dropout before it."""
        layers = list(self.head)
        return 2 if len(layers) > 1 and isinstance(layers[-2], nn.Dropout) else 1

    @property
    def num_features(self) -> int:
        """Number of inputs of the last layer."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        return last.in_features

    def last_features(self, images: Tensor) -> Tensor:
        """The inputs of the last layer `(batch, features)`, before its dropout."""
        signal: Tensor = self.features(self.normalize(images))
        for layer in list(self.head)[: -self.num_last_layers]:
            signal = layer(signal)
        return signal

    def body(self) -> list[nn.Module]:
        """All layers but the last, from the image on."""
        return [*self.features, *list(self.head)[: -self.num_last_layers]]


@torch.no_grad()
def _initialize(network: Network) -> None:
    """Initial weights that keep the size of the signal in every layer, and make the first predictions even.

    Hidden layers as in He et al. 2015 (equation 10: variance 2/fan-in). The last layer's deviation of 0.1/√fan-in keeps
    the logits near 0, so that the first loss is near ln C, against which a training checks itself: with 0.2 it was up to
    20 % off for two classes.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers[:-1]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    last = layers[-1]
    nn.init.normal_(last.weight, std=0.1 / last.weight.shape[1] ** 0.5)
    for layer in layers:
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Evaluation mode without gradients for the block; afterwards the mode is what it was."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)
