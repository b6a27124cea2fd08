"""Builds a small residual network for images of 28 to 64 pixels.

After He et al. 2016, "Identity mappings in deep residual networks".
"""

from functools import partial

from torch import Tensor, nn

from pipeline.errors import ShapeError
from pipeline.model import layers
from pipeline.model.arithmetic import output_size
from pipeline.model.network import Network, Normalize


class ResidualBlock(nn.Module):
    """x + f(x), where f is twice normalisation, activation and a 3×3 convolution.

    Where the block halves the map or changes the channels, the x of the sum is averaged and projected by a 1×1 convolution
    (after He, T. et al. 2019, "Bag of tricks", figure 2c). The average is over 3×3 pixels, as the convolution sees them,
    and not over 2×2: it fits maps of an odd size too.
    """

    def __init__(
        self, num_in: int, num_out: int, stride: int, *, normalization: str, activation: str, conv_dropout: float
    ) -> None:
        super().__init__()
        self.normalization_1 = layers.normalization(normalization, num_in)
        self.activation_1 = layers.activation(activation)
        self.convolution_1 = nn.Conv2d(num_in, num_out, 3, stride, 1, bias=False)
        self.normalization_2 = layers.normalization(normalization, num_out)
        self.activation_2 = layers.activation(activation)
        self.dropout = nn.Dropout2d(conv_dropout) if conv_dropout else None
        self.convolution_2 = nn.Conv2d(num_out, num_out, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride > 1 or num_in != num_out:
            pooling = [nn.AvgPool2d(3, stride, 1)] if stride > 1 else []
            self.shortcut = nn.Sequential(*pooling, nn.Conv2d(num_in, num_out, 1, bias=False))

    def forward(self, signal: Tensor) -> Tensor:
        """From `(batch, num_in, height, width)` to `(batch, num_out, ⌈height/stride⌉, ⌈width/stride⌉)`."""
        activated = self.activation_1(self.normalization_1(signal))
        kept = signal if self.shortcut is None else self.shortcut(activated)
        change = self.activation_2(self.normalization_2(self.convolution_1(activated)))
        if self.dropout is not None:
            change = self.dropout(change)
        result: Tensor = kept + self.convolution_2(change)
        return result


def build(
    normalize: Normalize, *, num_classes: int, channels: int, size: int, width: int, depth: int, stages: int,
    normalization: str, activation: str, conv_dropout: float, dropout: float,
) -> Network:  # fmt: skip
    """A 3×3 convolution, `stages` of `depth` residual blocks, the mean of each channel, and the classes.

    Raises:
        ShapeError: A stage would have to halve a map of a single pixel.
        ConfigError: `width` and `stages` ask for more channels than a machine can hold.
    """
    for stage in range(2, stages + 1):
        if size == 1:
            raise ShapeError(
                f"stage {stage} cannot halve a map of 1×1; lower model.stages (it is {stages}) or raise prepare.size"
            )
        size = output_size(size, 3, 2, 1)
    num_last = width * 2 ** (stages - 1)
    layers.check_channels(num_last, "model.width · 2^(model.stages − 1)", f"{width} · 2^{stages - 1}")

    residual_block = partial(
        ResidualBlock, normalization=normalization, activation=activation, conv_dropout=conv_dropout
    )
    features: dict[str, nn.Module] = {"convolution": nn.Conv2d(channels, width, 3, 1, 1, bias=False)}
    num_in = width
    for stage in range(stages):
        num_out = width * 2**stage
        for block in range(depth):
            stride = 2 if stage and not block else 1
            features[f"stage_{stage + 1}_block_{block + 1}"] = residual_block(num_in, num_out, stride)
            num_in = num_out
    features |= {
        "normalization": layers.normalization(normalization, num_in),
        activation: layers.activation(activation),
    }

    head: dict[str, nn.Module] = {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if dropout:
        head["dropout"] = nn.Dropout(dropout)
    head["classes"] = nn.Linear(num_in, num_classes)
    network = Network(normalize, features, head)
    for module in network.features:
        if isinstance(module, ResidualBlock):  # each block starts as the identity (Goyal et al. 2017, section 5.1)
            nn.init.zeros_(module.convolution_2.weight)
    return network
