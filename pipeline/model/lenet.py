"""Builds the network of the document that this project grew from, after LeNet-5 (LeCun et al. 1998)."""

from torch import nn

from pipeline.errors import ShapeError
from pipeline.model import layers
from pipeline.model.arithmetic import output_formula
from pipeline.model.network import Network, Normalize

SIZE = 32
CHANNELS, UNITS = (8, 16, 120), 84
"""Numbers of channels and units at width 1, those of the document."""


def build(
    normalize: Normalize, *, num_classes: int, channels: int, size: int, width: float, depth: int, activation: str,
    pooling: str, conv_dropout: float, dropout: float,
) -> Network:  # fmt: skip
    """32×32 → 28×28×8 → 14×14×8 → 10×10×16 → 5×5×16 → 120 → 84 → classes, for width 1 and one hidden layer.

    Raises:
        ShapeError: The images are not 32×32.
        ConfigError: `width` asks for more channels than a machine can hold.
    """
    if size != SIZE:
        raise ShapeError(
            f"prepare.size must be {SIZE} for model=lenet, whose convolution 1 gives {output_formula(SIZE, 5, 1, 0)}; "
            f"got {size}, which gives {output_formula(size, 5, 1, 0)}. "
            f"Set prepare.size={SIZE} or choose model=convnet"
        )
    num_channels = [max(1, round(width * number)) for number in CHANNELS]
    num_units = max(1, round(width * UNITS))
    layers.check_channels(num_channels[-1], f"model.width · {CHANNELS[-1]}", f"{width:g} · {CHANNELS[-1]}")

    features: dict[str, nn.Module] = {}
    num_in = channels
    for number, num_out in enumerate(num_channels, start=1):
        features[f"convolution_{number}"] = nn.Conv2d(num_in, num_out, kernel_size=5)  # 28×28, 10×10, 1×1
        pool_size = 2 if number < len(num_channels) else 1  # 14×14, 5×5
        features |= layers.activation_and_pooling("", activation, pooling, pool_size, f"_{number}")
        if conv_dropout:
            features[f"conv_dropout_{number}"] = nn.Dropout2d(conv_dropout)
        num_in = num_out
    return Network(normalize, features, _head(num_in, num_units, num_classes, depth, activation, dropout))


def _head(
    num_in: int, num_units: int, num_classes: int, depth: int, activation: str, dropout: float
) -> dict[str, nn.Module]:
    head: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    if dropout:
        head["dropout_1"] = nn.Dropout(dropout)
    for number in range(1, depth + 1):
        suffix = "" if depth == 1 else f"_{number}"
        head[f"hidden{suffix}"] = nn.Linear(num_in, num_units)
        head[f"hidden_{activation}{suffix}"] = layers.activation(activation)
        if dropout:
            head[f"dropout_{number + 1}"] = nn.Dropout(dropout)
        num_in = num_units
    head["classes"] = nn.Linear(num_in, num_classes)
    return head
