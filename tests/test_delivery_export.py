"""A network's ONNX model computes what torch does, whichever exporter had to make it."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pipeline.delivery.export import export
from pipeline.errors import DataError

SHAPE = (8, 8, 1)


class Waves(nn.Module):
    """A network with a Fourier transform, which the quick exporter does not know."""

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.fft.rfft(images.float().flatten(1) / 255).abs()
        return features[:, :3], features


class Counting(nn.Module):
    """A network whose answer depends on the number of images, which the quick exporter takes for a constant."""

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = images.float().flatten(1) / 255 * images.shape[0]
        return features[:, :3], features


class Frozen(nn.Module):
    """A network whose answer depends on the number of images, which both exporters take for a constant."""

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = images.float().flatten(1) / 255 * float(images.shape[0])
        return features[:, :3], features


class Undecided(nn.Module):
    """A network that goes another way for other images, which no exporter can write down."""

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = images.float().flatten(1)
        while bool(features.sum() > 1):
            features = features / 2
        return features[:, :3], features


@pytest.mark.parametrize("network", [Waves(), Counting()])
def test_what_the_quick_exporter_cannot_do_is_exported_too(network: nn.Module, tmp_path: Path) -> None:
    export(network, SHAPE, tmp_path)  # type: ignore[arg-type]
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": images})
    expected = network.logits_and_features(torch.from_numpy(images))  # type: ignore[operator]
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, its.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [Frozen(), Undecided()])
def test_a_network_that_cannot_be_exported_is_refused_with_a_sentence(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="^the network must be one that torch exports to ONNX; got "):
        export(network, SHAPE, tmp_path)  # type: ignore[arg-type]
