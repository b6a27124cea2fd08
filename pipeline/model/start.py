"""Reads weights to start a training from: without code, and only those that fit the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import model
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.weights import TENSORS, WeightsRecord
from pipeline.errors import ConfigError, DataError
from pipeline.model import checkpoint, efficientnet, timm_network
from pipeline.model.network import Network
from pipeline.storage import checksums

LAST_LAYER = "head.classes."
"""Beginning of the names of the last layer's tensors, in all our networks."""

SHOWN = 3
"""Number of tensors that a message names."""


@dataclass(frozen=True)
class Start:
    """Weights by their names in our network.

    Attributes:
        tensors: Weights and statistics of normalisation, float32, and the counts that batch normalisation keeps.
        channels: Number of channels of the images that the first layer takes.
        mean, std: What the weights expect of each channel, for pixels in [0, 1]; empty where nobody tells.
        classes: Names of the classes of the last layer; empty where nobody tells.
        left_out: Names of tensors that the network has no place for.
    """

    tensors: dict[str, Tensor]
    channels: int
    mean: list[float]
    std: list[float]
    classes: list[str]
    left_out: list[str]

    @property
    def num_parameters(self) -> int:
        """Number of weights without those of the last layer."""
        return sum(tensor.numel() for name, tensor in self.tensors.items() if not name.startswith(LAST_LAYER))


def read(path: Path, shown: str, description: Mapping[str, Any], classes: Sequence[str] = ()) -> Start:
    """Read the weights of a file, and check that each layer of the network but the last finds its own.

    Args:
        path: A file of safetensors or of torch, such as `model.ckpt`.
        shown: What a message calls it.
        description: Arguments of `pipeline.model.build` for the network that starts from them, without those that depend
            on the images; with the mean and the standard deviation that the weights expect, where something beside the file
            tells them.
        classes: Names of the classes of the last layer, where something beside the file tells them.

    Raises:
        DataError: It holds no weights, or something that would run code, or weights of another network.
        ConfigError: The network needs a package that is not here.
    """
    try:
        found = _read(path)
        if classes:
            found = replace(found, mean=description["mean"], std=description["std"], classes=list(classes))
        if description["name"] == "timm":
            found = _of_timm(found, description)
        elif description["name"] == "efficientnet" and any(name.startswith("_blocks.") for name in found.tensors):
            found = _of_package(found)
        return _fitted(found, description)
    except ValueError as error:
        raise DataError(
            f"model.weights must be weights that {description['name']} can start from; {shown}: {error}."
        ) from None


def _read(path: Path) -> Start:
    """The content of a file.

    Raises:
        ValueError: It holds no weights; the message is a clause.
    """
    if path.suffix == ".safetensors":
        return _plain(_load_safetensors(path))
    content = checkpoint.load_content(path, older=True)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__} and no tensors by name")
    if isinstance(content.get("network"), dict) and isinstance(content.get("state_dict"), dict):  # a model.ckpt of ours
        network = content["network"]
        found = _plain(content["state_dict"])
        return replace(found, mean=list(network["mean"]), std=list(network["std"]), classes=list(content["classes"]))
    inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)), content)
    return _plain(inner)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError:
        raise ValueError("it is cut short, or no file of safetensors") from None


def _plain(content: Mapping[str, Any]) -> Start:
    """Tensors by name, as float32; a `module.` before each name, which a training in several processes leaves, is taken off."""
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError("it holds no tensors by name")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    first = next((tensor for tensor in tensors.values() if tensor.ndim == 4), None)
    return Start(tensors, 3 if first is None else first.shape[1], [], [], [], [])


def _of_package(found: Start) -> Start:
    """The ImageNet weights of the package for EfficientNet-Lite0 under our names."""
    names = efficientnet.renamed(found.tensors)
    return replace(
        found,
        tensors={names[name]: value for name, value in found.tensors.items() if name in names},
        left_out=sorted(found.tensors.keys() - names),
        mean=[efficientnet.PIXEL_MEAN] * 3,
        std=[efficientnet.PIXEL_STD] * 3,
    )


def _of_timm(found: Start, description: Mapping[str, Any]) -> Start:
    """Weights in timm's names under ours; those that a training of ours wrote have them already."""
    if any(name.startswith("features.backbone.") for name in found.tensors):
        return found
    network = _empty(description)
    mean, std = timm_network.standardisation(network)
    tensors = {f"features.backbone.{name}": value for name, value in found.tensors.items()}
    return replace(found, tensors=tensors, mean=mean, std=std)


def _fitted(found: Start, description: Mapping[str, Any]) -> Start:
    """The tensors that the network has a place for.

    Raises:
        ValueError: A layer but the last finds no tensor, or one of another shape.
    """
    wanted = _empty({**description, "channels": found.channels}).state_dict()
    body = [name for name in wanted if not name.startswith(LAST_LAYER)]
    missing = [name for name in body if name not in found.tensors and not name.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"{len(missing)} of its {len(body)} tensors are not there, such as {_listed(missing)}; it has "
            f"{_listed(sorted(found.tensors))}"
        )
    other = [name for name in body if name in found.tensors and found.tensors[name].shape != wanted[name].shape]
    if other:
        there, here = (tuple(tensors[other[0]].shape) for tensors in (found.tensors, wanted))
        raise ValueError(f"{other[0]} has the shape {there} there and {here} in this network{_more(len(other) - 1)}")
    names = (
        wanted if found.classes else body
    )  # of a last layer without names of classes nobody knows what it tells apart
    taken = {name: found.tensors[name] for name in names if name in found.tensors}
    return replace(found, tensors=taken, left_out=[*found.left_out, *sorted(found.tensors.keys() - taken)])


def description(
    options: Mapping[str, Any], weights: WeightsRecord | None, dataset: DatasetRecord, *, channels_last: bool = True
) -> dict[str, Any]:
    """Arguments of `pipeline.model.build` for a network on these images, with the channels that its weights expect.

    Args:
        options: Keys of the network's configuration group, without those of how it starts.
        weights: Record of the weights that it starts from; None for random ones.
        dataset: Record of the images.
        channels_last: Whether it computes in torch's memory layout of that name.

    Raises:
        ConfigError: The weights are for grey images, and these are colour ones.
    """
    about = {
        **options, "num_classes": len(dataset.classes), "channels_last": channels_last, "channels": dataset.channels,
        "size": dataset.size, "mean": dataset.mean, "std": dataset.std,
    }  # fmt: skip
    if weights is None:
        return about
    if dataset.channels > weights.channels:
        raise ConfigError(
            f"prepare.channels must be 1 with model.weights={weights.source}, which are for grey images; got colour ones. Set "
            "prepare.channels=1, or take other weights."
        )
    repeats = weights.channels // dataset.channels  # a grey image is shown in each channel
    mean, std = weights.mean or dataset.mean * repeats, weights.std or dataset.std * repeats
    return {**about, "channels": weights.channels, "mean": mean, "std": std}


def load_into(network: Network, folder: Path, *, with_last_layer: bool) -> None:
    """Give the network the weights that the stage `weights` wrote; its last layer keeps its own unless `with_last_layer`.

    Raises:
        DamagedError: The file has changed since it was written.
    """
    with checksums.reading(folder / TENSORS):
        tensors = _load_safetensors(folder / TENSORS)
    network.load_state_dict(
        {name: value for name, value in tensors.items() if with_last_layer or not name.startswith(LAST_LAYER)},
        strict=False,
    )


def _empty(description: Mapping[str, Any]) -> Network:
    """The network without memory for its weights."""
    with torch.device("meta"):
        channels = description.get("channels", 3)
        return model.build(
            **{"num_classes": 2, **description, "channels": channels, "mean": [0.5] * channels, "std": [1] * channels}
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _more(number: int) -> str:
    return f", and {number} more differ" if number else ""
