"""The networks that the tests of the model room share, with every option given."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

import pipeline.model
from pipeline.model import Network

OPTIONS_OF: dict[str, dict[str, Any]] = {
    "lenet": {
        "width": 1.0, "depth": 1, "activation": "relu", "pooling": "max", "conv_dropout": 0.0, "dropout": 0.0,
    },
    "convnet": {
        "width": 8, "depth": 3, "kernel_size": 3, "stride": 1, "padding": None, "dilation": 1, "pooling": "max",
        "pool_size": 2, "normalization": "batch", "activation": "relu", "head": "average", "hidden": 0,
        "conv_dropout": 0.0, "dropout": 0.0,
    },
    "resnet": {
        "width": 8, "depth": 1, "stages": 3, "normalization": "batch", "activation": "relu", "conv_dropout": 0.0,
        "dropout": 0.0,
    },
    "efficientnet": {"conv_dropout": 0.0, "dropout": 0.0},
}  # fmt: skip
OWN = list(OPTIONS_OF)
"""The networks that need no further package."""


def description(
    name: str, *, num_classes: int = 10, channels: int = 1, size: int = 32, **options: Any
) -> dict[str, Any]:
    """Arguments of `pipeline.model.build`."""
    mean, std = [0.25] * channels, [0.5] * channels
    shape = {"num_classes": num_classes, "channels": channels, "size": size, "mean": mean, "std": std}
    return {"name": name, **shape, **OPTIONS_OF[name], **options}


def network(name: str, **options: Any) -> Network:
    """A network with `description(name, **options)`."""
    return pipeline.model.build(**description(name, **options))


def fit(network: Network, split: Path, *, steps: int, batch_size: int | None = None) -> None:
    """Train a network for so many steps, on all images of a prepared split at a time or on some."""
    images, labels = (torch.from_numpy(np.load(split / f"{name}.npy")) for name in ("images", "labels"))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    network.train()
    for _ in range(steps):
        chosen = torch.randperm(len(images), generator=generator)[:batch_size]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    network.eval()
