"""The layers of a package's ONNX model, against those that torch computes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.delivery import package as packages
from pipeline.delivery.export import export
from pipeline.delivery.layers import Layer, Layers
from pipeline.model import activations, filters
from pipeline.model.arithmetic import layer_table
from tests.networks import OWN, network

SHAPE = (32, 32, 3)
IMAGE = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.mark.parametrize("name", OWN)
def test_filters_maps_and_formulas_are_those_of_the_network(name: str, package: Path, tmp_path: Path) -> None:
    made = network(name, channels=3).eval()
    export(made, SHAPE, tmp_path)
    layers = Layers(replace(packages.read(package), model=(tmp_path / "model.onnx").read_bytes()))
    np.testing.assert_allclose(by_largest(layers.filters()), by_largest(filters(made)), atol=1e-5)
    found = layers.of(IMAGE)
    told = [(layer.name, layer.formula) for layer in found if layer.kind == "convolution"]
    assert sorted(told) == sorted((row.name, row.formula) for row in layer_table(made, SHAPE) if row.kind == "Conv2d")
    pooled = [layer.formula for layer in found if layer.kind == "max-pooling"]
    assert pooled == [row.formula for row in layer_table(made, SHAPE) if row.kind == "MaxPool2d"]
    assert all(layer.formula.endswith(f"= {layer.maps.shape[1]}") for layer in found if layer.formula)
    if name not in ("resnet", "efficientnet"):  # whose maps are told by block
        for convolution, maps in activations(made, IMAGE).items():
            np.testing.assert_allclose(np.maximum(before_pooling(found, convolution), 0), maps, atol=1e-4)


def by_largest(weights: np.ndarray) -> np.ndarray:
    """Each filter divided by its largest weight, as it is drawn; an export joins a normalisation to its convolution."""
    return weights / np.abs(weights).max(axis=(1, 2, 3), keepdims=True)


def before_pooling(found: list[Layer], convolution: str) -> np.ndarray:
    """Output of a convolution, and of the normalisation that follows it."""
    begin = next(index for index, layer in enumerate(found) if layer.name == convolution)
    is_normalized = found[begin + 1].kind == "normalisation" if begin + 1 < len(found) else False
    return found[begin + is_normalized].maps
