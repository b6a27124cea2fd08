"""Builds EfficientNet-Lite0, a network of 4.7 million parameters for photographs, whose ImageNet weights a package ships.

After Tan and Le 2019, "EfficientNet: rethinking model scaling", without its squeeze-and-excitation and with ReLU6 in place of
Swish; the blocks are those of Sandler et al. 2018, "MobileNetV2".
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from pipeline.model.network import Network, Normalize

PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255
"""What its ImageNet weights expect: (x − 127)/128 for pixels from 0 to 255, in each channel."""

EPSILON = 1e-3
"""Of its batch normalisation."""

NUM_FEATURES = 1280


class Stage(NamedTuple):
    """`depth` blocks with the same output; the first one has the stride.

    Attributes:
        expansion: Factor on the input's channels within a block.
        width: Channels of the output.
        depth: Number of blocks.
        kernel: Side of the depthwise filters in pixels.
        stride: Of the first block.
    """

    expansion: int
    width: int
    depth: int
    kernel: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 3, 1), Stage(6, 24, 2, 3, 2), Stage(6, 40, 2, 5, 2), Stage(6, 80, 3, 3, 2),
    Stage(6, 112, 3, 5, 1), Stage(6, 192, 4, 5, 2), Stage(6, 320, 1, 3, 1),
)  # fmt: skip
STEM_WIDTH = 32


class InvertedResidual(nn.Module):
    """A 1×1 convolution to more channels, a depthwise convolution, and a 1×1 convolution back without activation.

    Where neither the size nor the channels change, the input is added. `dropout` drops whole channels before that sum.
    """

    def __init__(self, num_in: int, stage: Stage, stride: int, dropout: float) -> None:
        super().__init__()
        num_hidden = num_in * stage.expansion
        self.expand = convolution(num_in, num_hidden, 1) if stage.expansion > 1 else None
        self.depthwise = convolution(num_hidden, num_hidden, stage.kernel, stride, groups=num_hidden)
        self.project = convolution(num_hidden, stage.width, 1, activated=False)
        self.has_shortcut = stride == 1 and num_in == stage.width
        self.dropout = nn.Dropout2d(dropout) if dropout else None

    def forward(self, signal: Tensor) -> Tensor:
        """From `(batch, num_in, height, width)` to `(batch, stage.width, ⌈height/stride⌉, ⌈width/stride⌉)`."""
        expanded = signal if self.expand is None else self.expand(signal)
        change: Tensor = self.project(self.depthwise(expanded))
        if self.dropout is not None:
            change = self.dropout(change)
        return signal + change if self.has_shortcut else change


def convolution(
    num_in: int, num_out: int, kernel: int, stride: int = 1, *, groups: int = 1, activated: bool = True
) -> nn.Sequential:
    """A convolution without bias, padded by half its kernel, then batch normalisation and ReLU6."""
    parts = {
        "convolution": nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        "normalization": nn.BatchNorm2d(num_out, eps=EPSILON),
    }
    layers = nn.Sequential()
    for name, layer in (parts | ({"activation": nn.ReLU6()} if activated else {})).items():
        layers.add_module(name, layer)
    return layers


def build(
    normalize: Normalize, *, num_classes: int, channels: int, size: int, conv_dropout: float, dropout: float
) -> Network:
    """A stem of stride 2, sixteen blocks, 1,280 channels, their means, and the classes.

    Grey images are seen in all three channels, so that one set of weights serves both.
    """
    normalize.mean, normalize.std = (values.expand(3).clone() for values in (normalize.mean, normalize.std))
    features: dict[str, nn.Module] = {"stem": convolution(3, STEM_WIDTH, 3, 2)}
    num_in = STEM_WIDTH
    for stage in STAGES:
        for block in range(stage.depth):
            stride = 1 if block else stage.stride
            features[f"block_{len(features)}"] = InvertedResidual(num_in, stage, stride, conv_dropout)
            num_in = stage.width
    features["last"] = convolution(num_in, NUM_FEATURES, 1)
    head: dict[str, nn.Module] = {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if dropout:
        head["dropout"] = nn.Dropout(dropout)
    head["classes"] = nn.Linear(NUM_FEATURES, num_classes)
    return Network(normalize, features, head)


_PLACES = (
    (r"_conv_stem\.", "features.stem.convolution."),
    (r"_bn0\.", "features.stem.normalization."),
    (r"_conv_head\.", "features.last.convolution."),
    (r"_bn1\.", "features.last.normalization."),
    (r"_fc\.", "head.classes."),
)
_PARTS = {
    "_expand_conv": "expand.convolution", "_bn0": "expand.normalization", "_depthwise_conv": "depthwise.convolution",
    "_bn1": "depthwise.normalization", "_project_conv": "project.convolution", "_bn2": "project.normalization",
}  # fmt: skip


def renamed(names: Iterable[str]) -> dict[str, str]:
    """The names that this network gives to the tensors of the package's file; names of no tensor of it are left out.

    >>> renamed(["_blocks.0._bn1.weight", "_fc.bias", "other"])
    {'_blocks.0._bn1.weight': 'features.block_1.depthwise.normalization.weight', '_fc.bias': 'head.classes.bias'}
    """
    found = {}
    for name in names:
        block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
        if block and block[2] in _PARTS:
            found[name] = f"features.block_{int(block[1]) + 1}.{_PARTS[block[2]]}.{block[3]}"
        for pattern, place in _PLACES:
            if re.match(pattern, name):
                found[name] = re.sub(pattern, place, name, count=1)
    return found
