"""Builds a plain convolutional network whose capacity follows from `width` and `depth`."""

from functools import partial

from torch import nn

from pipeline.errors import ShapeError
from pipeline.model import layers
from pipeline.model.arithmetic import output_formula, output_size
from pipeline.model.network import Network, Normalize


def build(
    normalize: Normalize, *, num_classes: int, channels: int, size: int, width: int, depth: int, kernel_size: int,
    stride: int, padding: int | None, dilation: int, pooling: str, pool_size: int, normalization: str, activation: str,
    head: str, hidden: int, conv_dropout: float, dropout: float,
) -> Network:  # fmt: skip
    """Blocks of convolution, normalisation, activation, pooling and dropout; then the head, and the classes.

    Raises:
        ShapeError: A block would be left without a pixel.
        ConfigError: `width` and `depth` ask for more channels than a machine can hold.
    """
    if padding is None:
        padding = dilation * (kernel_size // 2)
    has_bias = normalization == "none"  # a normalisation has its own
    convolution = partial(nn.Conv2d, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    size = _last_size(size, depth, kernel_size, stride, padding, dilation, pool_size)
    layers.check_channels(width * 2 ** (depth - 1), "model.width · 2^(model.depth − 1)", f"{width} · 2^{depth - 1}")

    features: dict[str, nn.Module] = {}
    num_in = channels
    for index in range(depth):
        num_out = width * 2**index
        block = f"block_{index + 1}_"
        features[f"{block}convolution"] = convolution(num_in, num_out, bias=has_bias)
        if normalization != "none":
            features[f"{block}normalization"] = layers.normalization(normalization, num_out)
        features |= layers.activation_and_pooling(block, activation, pooling, pool_size)
        if conv_dropout:
            features[f"{block}dropout"] = nn.Dropout2d(conv_dropout)
        num_in = num_out

    # The mean over the map (Lin et al. 2014) rather than flattening it: the number of parameters then depends on width
    # and depth alone, not on the size of the images, so that a change of size is no change of capacity.
    tail: dict[str, nn.Module] = {"average": nn.AdaptiveAvgPool2d(1)} if head == "average" else {}
    tail["flatten"] = nn.Flatten()
    num_in *= 1 if head == "average" else size**2
    if hidden:
        tail |= {"hidden": nn.Linear(num_in, hidden), f"hidden_{activation}": layers.activation(activation)}
    if dropout:
        tail["dropout"] = nn.Dropout(dropout)
    tail["classes"] = nn.Linear(hidden or num_in, num_classes)
    return Network(normalize, features, tail)


def _last_size(
    size: int, depth: int, kernel_size: int, stride: int, padding: int, dilation: int, pool_size: int
) -> int:
    """Size of the last feature map; refuses an impossible network before anything is allocated."""
    for block in range(1, depth + 1):
        convolved = output_size(size, kernel_size, stride, padding, dilation)
        if convolved < 1:
            formula = output_formula(size, kernel_size, stride, padding, dilation)
            smaller = "dilation or model.depth" if dilation > 1 else "kernel_size, model.depth or model.stride"
            raise ShapeError(
                f"block {block} convolution cannot take {size}×{size}: {formula}; "
                f"lower model.{smaller}, or raise model.padding or prepare.size"
            )
        size = output_size(convolved, pool_size, pool_size, 0)
        if size < 1:
            formula = output_formula(convolved, pool_size, pool_size, 0)
            raise ShapeError(
                f"block {block} pooling cannot take {convolved}×{convolved}: {formula}; "
                "lower model.depth or model.pool_size, or raise prepare.size"
            )
    return size
