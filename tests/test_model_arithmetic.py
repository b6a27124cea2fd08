from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.model import Layer, layer_table, output_formula, output_size
from tests.networks import network


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 20),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
def test_output_size_is_that_of_a_real_convolution(
    n: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    expected = output_size(n, kernel, stride, padding, dilation)
    assume(expected >= 1)
    convolution = nn.Conv2d(1, 1, kernel, stride, padding, dilation)
    assert convolution(torch.zeros(1, 1, n, n)).shape[2:] == (expected, expected)


def test_a_formula_shows_the_pixels_that_a_dilated_kernel_spans() -> None:
    assert output_formula(7, kernel=3, stride=1, padding=0, dilation=2) == "(7 + 2·0 − 5)/1 + 1 = 3"


def table_of(name: str, size: int = 32, **options: object) -> dict[str, Layer]:
    return {layer.name: layer for layer in layer_table(network(name, size=size, **options), (size, size, 1))}


def test_a_row_of_the_table_holds_what_paper_and_pencil_give() -> None:
    table = table_of("lenet")
    first, second, hidden = table["convolution_1"], table["convolution_2"], table["hidden"]
    assert (first.kind, first.formula) == ("Conv2d", "(32 + 2·0 − 5)/1 + 1 = 28")
    assert (first.num_parameters, first.multiply_adds) == (8 * 25 + 8, 28 * 28 * 8 * 25)
    assert second.multiply_adds == 10 * 10 * 16 * 8 * 25
    assert (hidden.formula, hidden.num_parameters, hidden.multiply_adds) == ("", 120 * 84 + 84, 120 * 84)
    assert table["pooling_1"].formula == "(28 + 2·0 − 2)/2 + 1 = 14"
    with pytest.raises(FrozenInstanceError):
        first.name = "other"  # type: ignore[misc]


def test_receptive_fields_of_lenet_grow_to_the_whole_image() -> None:
    fields = {name: layer.receptive_field for name, layer in table_of("lenet").items()}
    names = ["convolution_1", "pooling_1", "convolution_2", "pooling_2", "convolution_3", "classes"]
    assert [fields[name] for name in names] == [5, 6, 14, 16, 32, 32]


def test_a_receptive_field_is_what_moves_the_output() -> None:
    model = network("convnet", size=33, depth=2, kernel_size=3, stride=2, pool_size=2, normalization="none")
    field = next(layer for layer in layer_table(model, (33, 33, 1)) if layer.name == "block_2_convolution")
    signal = torch.rand((1, 1, 33, 33), dtype=torch.float32, requires_grad=True)
    result = signal
    for name, layer in model.features.named_children():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
        if isinstance(layer, nn.MaxPool2d):  # the mean sees the same pixels, and lets all of them through
            result = nn.functional.avg_pool2d(result, 2)
        elif isinstance(layer, nn.Conv2d):
            result = layer(result)
        if name == "block_2_convolution":
            break
    middle = result.shape[2] // 2
    result[0, 0, middle, middle].backward()
    assert signal.grad is not None
    touched = (signal.grad[0, 0].abs().sum(dim=0) > 0).sum().item()
    assert touched == field.receptive_field


def test_a_receptive_field_is_never_larger_than_the_image() -> None:
    table = table_of("convnet", size=16, depth=4)
    assert max(layer.receptive_field for layer in table.values()) == 16


def test_the_table_counts_every_parameter_once() -> None:
    model = network("convnet", hidden=16)
    counted = sum(layer.num_parameters for layer in layer_table(model, (32, 32, 1)))
    assert counted == sum(parameter.numel() for parameter in model.parameters())


def test_the_table_changes_neither_mode_nor_statistics_and_leaves_no_hook() -> None:
    model = network("convnet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_table(model, (32, 32, 1))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(layer._forward_hooks for layer in model.modules())


def test_a_layer_that_the_formula_does_not_describe_is_reported() -> None:
    model = network("lenet")
    model.features[1] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    with pytest.raises(ValueError, match=r"pooling_1 gives 14 pixels, which is not ⌊\(28 \+ 2·0 − 3\)/2⌋ \+ 1 = 13"):
        layer_table(model, (32, 32, 1))
