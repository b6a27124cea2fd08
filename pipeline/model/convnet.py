"""A plain convolutional network whose capacity goes both ways with `width` and `depth`."""

from torch import nn

from pipeline.config.errors import ConfigError, ShapeError
from pipeline.model.arithmetic import output_formula, output_size
from pipeline.model.classifier import Classifier, Normalize

MAX_CHANNELS = 8192
"""Of the last block: with 3×3 filters its weights, their gradient and Adam's two moments take 5 GB."""


def build(
    normalize: Normalize,
    *,
    num_classes: int,
    channels: int,
    size: int,
    width: int,
    depth: int,
    kernel_size: int,
    stride: int,
    padding: int | None,
    pool_size: int,
    normalization: str,
    hidden: int,
    conv_dropout: float,
    dropout: float,
) -> Classifier:
    """Blocks of convolution, normalisation, pooling, ReLU and dropout; then the mean of each channel, and the classes.

    Raises:
        ShapeError: A block would be left without a pixel.
        ConfigError: `width` and `depth` ask for more channels than a machine can hold.
    """
    if padding is None:
        padding = kernel_size // 2
    _check_shapes(size, depth=depth, kernel_size=kernel_size, stride=stride, padding=padding, pool_size=pool_size)
    _check_channels(width, depth)

    features: dict[str, nn.Module] = {}
    num_in = channels
    for index in range(depth):
        num_out = width * 2**index
        block = f"block_{index + 1}"
        features[f"{block}_convolution"] = nn.Conv2d(
            num_in,
            num_out,
            kernel_size,
            stride,
            padding,
            bias=normalization == "none",  # a normalisation has its own
        )
        if normalization != "none":
            features[f"{block}_normalization"] = _normalization(normalization, num_out)
        if pool_size > 1:  # before ReLU: the same values at a fraction of the elements
            features[f"{block}_pooling"] = nn.MaxPool2d(pool_size)
        features[f"{block}_relu"] = nn.ReLU()
        if conv_dropout:
            features[f"{block}_dropout"] = nn.Dropout2d(conv_dropout)
        num_in = num_out

    # The mean over the map (Lin et al. 2014) rather than flattening it: the number of parameters then depends on width
    # and depth alone, not on the size of the images, so that a change of size is no change of capacity.
    head: dict[str, nn.Module] = {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if hidden:
        head |= {"hidden": nn.Linear(num_in, hidden), "hidden_relu": nn.ReLU()}
    if dropout:
        head["dropout"] = nn.Dropout(dropout)
    head["classes"] = nn.Linear(hidden or num_in, num_classes)
    return Classifier(normalize, features, head)


def _normalization(kind: str, num_channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(num_channels)
    # At least four channels share a group: on a 1×1 map a group of one channel would always be normalised to 0.
    num_groups = next(groups for groups in (8, 4, 2, 1) if groups == 1 or num_channels % (4 * groups) == 0)
    return nn.GroupNorm(num_groups, num_channels)


def _check_shapes(size: int, *, depth: int, kernel_size: int, stride: int, padding: int, pool_size: int) -> None:
    """Walk through the blocks on paper, so that an impossible network is refused before anything is allocated."""
    for block in range(1, depth + 1):
        convolved = output_size(size, kernel_size, stride, padding)
        if convolved < 1:
            formula = output_formula(size, kernel_size, stride, padding)
            raise ShapeError(
                f"block {block} convolution cannot take {size}×{size}: {formula}; "
                "lower model.kernel_size, model.depth or model.stride, or raise model.padding or prepare.size"
            )
        size = output_size(convolved, pool_size, pool_size, 0)
        if size < 1:
            formula = output_formula(convolved, pool_size, pool_size, 0)
            raise ShapeError(
                f"block {block} pooling cannot take {convolved}×{convolved}: {formula}; "
                "lower model.depth or model.pool_size, or raise prepare.size"
            )


def _check_channels(width: int, depth: int) -> None:
    num_channels = width * 2 ** (depth - 1)
    if num_channels > MAX_CHANNELS:
        raise ConfigError(
            f"model.width · 2^(model.depth − 1) must be <= {MAX_CHANNELS} channels; "
            f"got {width} · 2^{depth - 1} = {num_channels}. Lower model.width or model.depth"
        )
