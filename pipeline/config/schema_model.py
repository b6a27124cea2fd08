"""The sections of the schema that describe the network: `model`."""

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from pipeline.config.section import Count, Fraction, Natural, Positive, Section
from pipeline.errors import ConfigError

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)

Pooling = Literal["max", "average"]


class Start(Section):
    """What all networks have in common: how they start, and the size of the images that they are made for."""

    START: ClassVar = ("input_size", "weights", "train_layers", "head_epochs", "normalization_statistics")

    input_size: int = Field(ge=4)
    weights: str | None
    train_layers: Literal["head", "gradual", "all"]
    head_epochs: Count
    normalization_statistics: Literal["tuned", "kept"]

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.weights is None and self.train_layers != "all":
            raise ConfigError(
                f"model.train_layers must be all with model.weights=null, as a network of random weights must learn in all its "
                f"layers; got {self.train_layers!r}. Set model.weights, or model.train_layers=all."
            )
        return self


class LeNet(Start):
    name: Literal["lenet"]
    width: Positive
    depth: Natural
    activation: Activation
    pooling: Pooling
    conv_dropout: Fraction
    dropout: Fraction


class ConvNet(Start):
    name: Literal["convnet"]
    width: Count
    depth: Count
    kernel_size: Count
    stride: Count
    padding: Natural | None
    dilation: Count
    pooling: Pooling
    pool_size: Count
    normalization: Literal["batch", "group", "none"]
    activation: Activation
    head: Literal["average", "flatten"]
    hidden: Natural
    conv_dropout: Fraction
    dropout: Fraction


class ResNet(Start):
    name: Literal["resnet"]
    width: Count
    depth: Count
    stages: Count
    normalization: Literal["batch", "group"]
    activation: Activation
    conv_dropout: Fraction
    dropout: Fraction


class EfficientNet(Start):
    name: Literal["efficientnet"]
    conv_dropout: Fraction
    dropout: Fraction


class Timm(Start):
    name: Literal["timm"]
    architecture: str
    conv_dropout: Fraction
    dropout: Fraction


Model = Annotated[LeNet | ConvNet | ResNet | EfficientNet | Timm, Field(discriminator="name")]
