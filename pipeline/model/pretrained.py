"""Builds any network of timm by its name; the package is an extra."""

from pipeline.config.section import nearest
from pipeline.errors import ConfigError
from pipeline.model.network import Network, Normalize


def build(
    normalize: Normalize, *, num_classes: int, channels: int, size: int, architecture: str, pretrained: bool,
    conv_dropout: float, dropout: float,
) -> Network:  # fmt: skip
    """timm's network as the only layer, `backbone`, with its own head, initialisation and, if asked for, weights.

    Raises:
        ConfigError: timm is not installed, or knows no such architecture.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(
            "model=timm needs the package timm; got none that can be imported. Run: pip install -e '.[timm]'"
        ) from None
    known = timm.list_models()
    if architecture not in known:
        raise ConfigError(
            f"model.architecture must be a network of timm; got {architecture!r}.{nearest(architecture, known)} "
            "timm.list_models() lists them all."
        )
    backbone = timm.create_model(
        architecture, pretrained=pretrained, in_chans=channels, num_classes=num_classes, drop_rate=dropout,
        drop_path_rate=conv_dropout,
    )  # fmt: skip
    return Network(normalize, {"backbone": backbone}, {}, initialized=True)
