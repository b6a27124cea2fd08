import pytest
import torch
from torch import nn

from pipeline.errors import ShapeError
from pipeline.model import layer_table
from tests.networks import network


@pytest.mark.parametrize("channels", [1, 3])
def test_lenet_has_the_shapes_of_the_document(channels: int) -> None:
    table = {layer.name: layer for layer in layer_table(network("lenet", channels=channels), (32, 32, channels))}
    assert table["convolution_1"].input_shape == (channels, 32, 32)
    shapes = {
        "convolution_1": (8, 28, 28),
        "pooling_1": (8, 14, 14),
        "convolution_2": (16, 10, 10),
        "pooling_2": (16, 5, 5),
        "convolution_3": (120, 1, 1),
        "hidden": (84,),
        "classes": (10,),
    }
    assert {name: table[name].output_shape for name in shapes} == shapes


def test_lenet_has_62558_parameters_with_one_channel_and_ten_classes() -> None:
    assert sum(parameter.numel() for parameter in network("lenet").parameters()) == 62_558


def test_lenet_drops_units_after_the_120_and_the_84() -> None:
    head = network("lenet", dropout=0.4).head
    names = [name for name, _ in head.named_children()]
    assert names == ["flatten", "dropout_1", "hidden", "hidden_relu", "dropout_2", "classes"]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.4, 0.4]


def test_lenet_without_dropout_is_deterministic_while_it_trains() -> None:
    model, batch = network("lenet"), torch.zeros((2, 32, 32, 1), dtype=torch.uint8)
    assert torch.equal(model(batch), model(batch))


@pytest.mark.parametrize(("size", "formula"), [(28, r"\(28 \+ 2·0 − 5\)/1 \+ 1 = 24"), (64, r"\(64 .* = 60")])
def test_lenet_refuses_other_sizes_with_the_formula(size: int, formula: str) -> None:
    message = (
        rf"prepare.size must be 32 for model=lenet, whose convolution 1 gives \(32 \+ 2·0 − 5\)/1 \+ 1 = 28; "
        rf"got {size}, which gives {formula}. Set prepare.size=32 or choose model=convnet"
    )
    with pytest.raises(ShapeError, match=message):
        network("lenet", size=size)
