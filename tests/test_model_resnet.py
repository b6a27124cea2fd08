import pytest
import torch
from torch import nn

from pipeline.errors import ShapeError
from pipeline.model import activations, layer_table
from pipeline.model.resnet import ResidualBlock
from tests.networks import network


def test_the_size_that_fits_a_laptop_has_77562_parameters() -> None:
    assert sum(parameter.numel() for parameter in network("resnet", width=16).parameters()) == 77_562


def test_stages_halve_the_map_and_double_the_channels() -> None:
    table = {layer.name: layer.output_shape for layer in layer_table(network("resnet", width=4), (28, 28, 1))}
    shapes = [table[f"stage_{stage}_block_1_convolution_2"] for stage in (1, 2, 3)]
    assert shapes == [(4, 28, 28), (8, 14, 14), (16, 7, 7)]


@pytest.mark.parametrize("size", [5, 7, 28, 33])
def test_every_size_of_image_fits(size: int) -> None:
    logits = network("resnet", size=size)(torch.zeros(2, size, size, 1, dtype=torch.uint8))
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_fresh_block_is_the_identity(activation: str) -> None:
    network_ = network("resnet", depth=2, activation=activation)
    block = network_.features.get_submodule("stage_1_block_2")
    signal = torch.randn(3, 8, 9, 9)
    assert isinstance(block, ResidualBlock) and torch.equal(block(signal), signal)


def test_a_block_is_the_sum_of_its_two_ways() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, 8, 2, normalization="batch", activation="relu", conv_dropout=0.0).eval()
    signal = torch.randn(2, 4, 8, 8)
    activated = torch.relu(block.normalization_1(signal))
    change = block.convolution_2(torch.relu(block.normalization_2(block.convolution_1(activated))))
    assert block.shortcut is not None
    kept = nn.functional.conv2d(nn.functional.avg_pool2d(activated, 3, 2, 1), block.shortcut[1].weight)
    torch.testing.assert_close(block(signal), change + kept)


def test_the_table_follows_both_ways_through_a_block() -> None:
    model = network("resnet", width=4, size=33)
    table = {layer.name: layer for layer in layer_table(model, (33, 33, 1))}
    fields = [table[f"stage_{stage}_block_1_convolution_2"].receptive_field for stage in (1, 2, 3)]
    assert fields == [
        7,
        13,
        25,
    ]  # 3, then 2·(3 − 1) a block at the distance of neighbouring outputs: 1, 1 and 2, 2 and 4
    shortcut = table["stage_2_block_1_shortcut_0"]
    assert (shortcut.kind, shortcut.formula, shortcut.receptive_field) == ("AvgPool2d", "(33 + 2·1 − 3)/2 + 1 = 17", 9)
    assert table["stage_2_block_1_shortcut_1"].multiply_adds == 4 * 8 * 17 * 17


def test_a_receptive_field_is_what_moves_the_sum_of_a_block() -> None:
    model = network("resnet", width=4, size=33, activation="elu").eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    signal = torch.rand(1, 1, 33, 33, requires_grad=True)
    result = signal
    for layer in list(model.features.children())[:3]:  # up to the first block of stage 2
        result = layer(result)
    middle = result.shape[2] // 2
    result[0, 0, middle, middle].backward()
    assert signal.grad is not None
    assert (signal.grad[0, 0].abs().sum(dim=0) > 0).sum().item() == 13


def test_too_many_stages_are_refused() -> None:
    message = r"stage 5 cannot halve a map of 1×1; lower model.stages \(it is 6\) or raise prepare.size"
    with pytest.raises(ShapeError, match=message):
        network("resnet", size=8, stages=6, width=2)


def test_maps_are_shown_by_block() -> None:
    maps = activations(network("resnet", width=4), torch.zeros(28, 28, 1, dtype=torch.uint8).numpy())
    shapes = {name: values.shape for name, values in maps.items()}
    assert shapes == {
        "convolution": (4, 28, 28), "stage_1_block_1": (4, 28, 28), "stage_2_block_1": (8, 14, 14),
        "stage_3_block_1": (16, 7, 7),
    }  # fmt: skip
