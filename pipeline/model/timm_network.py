"""Builds any network of timm by its name; the package is an extra."""

from types import ModuleType
from typing import Any

import torch
from torch import nn

from pipeline.config.section import nearest
from pipeline.errors import ConfigError
from pipeline.model.network import Network, Normalize


def imported() -> ModuleType:
    """The package timm.

    Raises:
        ConfigError: It is not installed, or it or the torchvision that it needs cannot be imported with this torch.
    """
    try:
        import timm
    except (
        Exception
    ) as error:  # a torchvision that was built for another torch raises RuntimeError, and not ImportError
        reason = " ".join(str(error).split())
        mend = "Run pip install -c constraints.txt -e '.[timm]'"
        if not isinstance(error, ModuleNotFoundError):
            mend += f", or install the torchvision that was built for torch {torch.__version__}"
        raise ConfigError(f"model=timm needs the package timm; it cannot be imported ({reason}). {mend}.") from None
    return timm


def with_architecture(name: str) -> ModuleType:
    """The package timm, which has a network of this name.

    Raises:
        ConfigError: It cannot be imported, or knows no such architecture.
    """
    timm = imported()
    known = timm.list_models()
    if name not in known:
        raise ConfigError(
            f"model.architecture must be a network of timm; got {name!r}.{nearest(name, known)} "
            "timm.list_models() lists them all."
        )
    return timm


def build(
    normalize: Normalize, *, num_classes: int, channels: int, size: int, architecture: str, conv_dropout: float,
    dropout: float,
) -> Network:  # fmt: skip
    """timm's network without its last layer as the features, `backbone`; dropout and the classes are the head.

    Raises:
        ConfigError: timm cannot be imported, or knows no such architecture.
    """
    timm = with_architecture(architecture)
    backbone = timm.create_model(
        architecture, pretrained=False, in_chans=len(normalize.mean), num_classes=0, drop_path_rate=conv_dropout
    )
    head: dict[str, nn.Module] = {"dropout": nn.Dropout(dropout)} if dropout else {}
    head["classes"] = nn.Linear(getattr(backbone, "head_hidden_size", backbone.num_features), num_classes)
    return Network(normalize, {"backbone": backbone}, head, initialized=True)


def standardisation(network: Network) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for pixels in [0, 1], that timm's weights of this network expect."""
    backbone: Any = network.features.backbone
    expected = backbone.pretrained_cfg
    return list(expected["mean"]), list(expected["std"])
