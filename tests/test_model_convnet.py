import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import ConfigError, ShapeError, UserError
from pipeline.model import Network
from tests.networks import network


def layers(model: Network, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


def num_parameters(model: Network) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_channels_double_from_block_to_block() -> None:
    convolutions = layers(network("convnet", width=6, depth=4), nn.Conv2d)
    assert [convolution.out_channels for convolution in convolutions] == [6, 12, 24, 48]


@pytest.mark.parametrize(("normalization", "has_bias"), [("batch", False), ("group", False), ("none", True)])
def test_convolutions_have_a_bias_only_without_normalization(normalization: str, has_bias: bool) -> None:
    convolutions = layers(network("convnet", normalization=normalization), nn.Conv2d)
    assert [convolution.bias is not None for convolution in convolutions] == [has_bias] * 3


@pytest.mark.parametrize("width", [1, 3, 5, 7, 8, 12, 32, 100])
def test_group_normalization_divides_any_width_into_groups_of_several_channels(width: int) -> None:
    groups = layers(network("convnet", width=width, normalization="group"), nn.GroupNorm)
    for layer in groups:
        assert layer.num_channels % layer.num_groups == 0
        assert layer.num_groups == 1 or layer.num_channels // layer.num_groups >= 4


def test_every_option_has_its_layers() -> None:
    model = network("convnet", depth=2, hidden=20, conv_dropout=0.1, dropout=0.2)
    block = ["convolution", "normalization", "pooling", "relu", "dropout"]
    expected = [f"block_{number}_{layer}" for number in (1, 2) for layer in block]
    assert [name for name, _ in model.features.named_children()] == expected
    head = ["average", "flatten", "hidden", "hidden_relu", "dropout", "classes"]
    assert [name for name, _ in model.head.named_children()] == head
    assert [layer.p for layer in layers(model, nn.Dropout2d)] == [0.1, 0.1]
    assert [layer.p for layer in layers(model, nn.Dropout)] == [0.2]


def test_options_that_are_off_have_no_layers() -> None:
    model = network("convnet", depth=1, pool_size=1, normalization="none")
    assert [name for name, _ in model.features.named_children()] == ["block_1_convolution", "block_1_relu"]
    assert [name for name, _ in model.head.named_children()] == ["average", "flatten", "classes"]


def test_the_number_of_parameters_does_not_depend_on_the_size_of_the_images() -> None:
    assert num_parameters(network("convnet", size=16)) == num_parameters(network("convnet", size=64))


def test_width_and_depth_both_add_parameters() -> None:
    base = num_parameters(network("convnet"))
    assert num_parameters(network("convnet", width=16)) > 2 * base
    assert num_parameters(network("convnet", depth=4)) > 2 * base


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": 8, "depth": 4},
            r"block 4 pooling cannot take 1×1: ⌊\(1 \+ 2·0 − 2\)/2⌋ \+ 1 = 0; "
            r"lower model.depth or model.pool_size, or raise prepare.size",
        ),
        (
            {"size": 8, "kernel_size": 5, "padding": 0},
            r"block 2 convolution cannot take 2×2: \(2 \+ 2·0 − 5\)/1 \+ 1 = -2; "
            r"lower model.kernel_size, model.depth or model.stride, or raise model.padding or prepare.size",
        ),
    ],
)
def test_a_block_that_does_not_fit_is_refused_with_the_formula(options: dict[str, int], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        network("convnet", **options)


def test_an_impossible_shape_is_refused_before_anything_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a layer was allocated")

    monkeypatch.setattr(nn, "Conv2d", refuse)
    with pytest.raises(ShapeError, match="block 6 pooling"):
        network("convnet", depth=6)


def test_more_channels_than_a_machine_can_hold_are_refused() -> None:
    message = (
        r"model.width · 2\^\(model.depth − 1\) must be <= 8192 channels; got 32 · 2\^19 = 16777216. "
        r"Lower model.width or model.depth"
    )
    with pytest.raises(ConfigError, match=message):
        network("convnet", width=32, depth=20, pool_size=1)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(4, 24),
    depth=st.integers(1, 4),
    kernel_size=st.integers(1, 6),
    stride=st.integers(1, 3),
    padding=st.none() | st.integers(0, 3),
    pool_size=st.integers(1, 3),
    normalization=st.sampled_from(["batch", "group", "none"]),
)
def test_what_is_not_refused_runs(size: int, **options: object) -> None:
    try:
        model = network("convnet", size=size, width=2, **options)
    except UserError:
        return
    logits = model.eval()(torch.zeros((2, size, size, 1), dtype=torch.uint8))
    assert logits.shape == (2, 10)
