import numpy as np
import torch
from torch import nn

from pipeline.model import activations, filters
from tests.networks import network

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8)


def test_each_convolution_of_lenet_gives_a_map_of_its_own_size() -> None:
    maps = activations(network("lenet"), IMAGE)
    shapes = {"convolution_1": (8, 28, 28), "convolution_2": (16, 10, 10), "convolution_3": (120, 1, 1)}
    assert {name: feature_map.shape for name, feature_map in maps.items()} == shapes


def test_a_map_is_what_follows_normalization_and_relu() -> None:
    model = network("convnet", normalization="group").eval()
    nn.init.constant_(model.features.get_submodule("block_1_normalization").bias, 0.5)
    signal = model.features[:2](model.normalize(torch.from_numpy(IMAGE[None])))
    maps = activations(model, IMAGE)
    assert list(maps) == ["block_1_convolution", "block_2_convolution", "block_3_convolution"]
    np.testing.assert_array_equal(maps["block_1_convolution"], signal[0].relu().detach().numpy())


def test_drawing_maps_leaves_a_training_network_as_it_was() -> None:
    model = network("convnet", conv_dropout=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    np.testing.assert_array_equal(*(activations(model, IMAGE)["block_3_convolution"] for _ in range(2)))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_filters_are_a_copy_of_the_first_weights() -> None:
    model = network("lenet", channels=3)
    weights = filters(model)
    assert weights.shape == (8, 3, 5, 5)
    np.testing.assert_array_equal(weights, model.features[0].weight.detach().numpy())
    weights[:] = 0
    assert model.features[0].weight.abs().sum() > 0
