"""Tests the keys that networks share on all networks."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pipeline.model
from pipeline.config.schema_model import ACTIVATIONS
from pipeline.errors import ConfigError, ShapeError
from pipeline.model import Network, layer_table
from pipeline.model.layers import activation_and_pooling
from tests.networks import OWN, description, network

KEYS: dict[str, dict[str, list[Any]]] = {
    "lenet": {
        "width": [0.1, 2.0], "depth": [0, 3], "activation": [*ACTIVATIONS], "pooling": ["average"],
        "conv_dropout": [0.5], "dropout": [0.5],
    },
    "convnet": {
        "width": [3, 16], "depth": [1, 4], "kernel_size": [1, 5], "stride": [2], "padding": [0, 2], "dilation": [2],
        "pooling": ["average"], "pool_size": [1], "normalization": ["group", "none"], "activation": [*ACTIVATIONS],
        "head": ["flatten"], "hidden": [9], "conv_dropout": [0.5], "dropout": [0.5],
    },
    "resnet": {
        "width": [3, 16], "depth": [2], "stages": [1, 4], "normalization": ["group"], "activation": [*ACTIVATIONS],
        "conv_dropout": [0.5], "dropout": [0.5],
    },
    "efficientnet": {"conv_dropout": [0.5], "dropout": [0.5]},
}  # fmt: skip
CASES = [(name, key, value) for name, keys in KEYS.items() for key, values in keys.items() for value in values]


def changed(name: str, key: str, value: Any) -> Network:
    """A network with one key changed, and so few blocks that they fit."""
    return network(name, **{key: value}, **({"depth": 2} if key == "stride" else {}))


def images(num_images: int = 4, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_images, 32, 32, channels), dtype=torch.uint8, generator=generator)


def num_parameters(model: Network) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_key_of_every_network_is_tried() -> None:
    assert {name: set(keys) for name, keys in KEYS.items()} == {name: set(description(name)) - COMMON for name in OWN}


COMMON = {"name", "num_classes", "channels", "size", "mean", "std"}


@pytest.mark.parametrize(("name", "key", "value"), CASES)
def test_whatever_is_chosen_gives_logits_and_teaches_every_parameter(name: str, key: str, value: Any) -> None:
    torch.manual_seed(0)
    model = changed(name, key, value)
    for module in model.modules():  # a block that starts as the identity passes nothing back to its first layers
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    logits = model(images(8))
    assert logits.shape == (8, 10) and torch.isfinite(logits).all()
    nn.functional.cross_entropy(logits, torch.arange(8)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), f"{parameter_name} learns nothing"


@pytest.mark.parametrize(("name", "key", "value"), CASES)
def test_the_table_counts_every_parameter_of_every_choice_once(name: str, key: str, value: Any) -> None:
    model = changed(name, key, value)
    table = layer_table(model, (32, 32, 1))
    assert sum(layer.num_parameters for layer in table) == num_parameters(model)
    assert len({layer.name for layer in table}) == len(table)


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("lenet", {"width": 0.12}, {"width": 12.7}),
        ("lenet", {"width": 0.1, "depth": 0}, {"width": 10.0, "depth": 6}),
        ("convnet", {"width": 8, "depth": 2}, {"width": 40, "depth": 6, "pool_size": 1}),
        ("convnet", {"width": 3, "depth": 3}, {"width": 330, "depth": 3}),
        ("resnet", {"width": 2, "depth": 1}, {"width": 64, "depth": 8}),
    ],
)
def test_width_and_depth_span_a_thousand_to_ten_million_parameters(
    name: str, smallest: dict[str, Any], largest: dict[str, Any]
) -> None:
    assert 500 <= num_parameters(network(name, **smallest)) <= 2_000
    with torch.device("meta"):
        assert 8e6 <= num_parameters(network(name, **largest)) <= 1.7e7


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_pooling_acts_on_the_activated_map_in_whichever_order_it_is_computed(kind: str, pooling: str) -> None:
    layers = activation_and_pooling("", kind, pooling, 2)
    signal = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    activated = layers[kind](signal)
    pool = nn.functional.max_pool2d if pooling == "max" else nn.functional.avg_pool2d
    torch.testing.assert_close(nn.Sequential(*layers.values())(signal), pool(activated, 2))


@pytest.mark.parametrize("name", OWN)
def test_spatial_dropout_silences_whole_channels_and_keeps_the_mean(name: str) -> None:
    torch.manual_seed(0)
    dropout = next(layer for layer in network(name, conv_dropout=0.4).modules() if isinstance(layer, nn.Dropout2d))
    signal = torch.rand(1000, 16, 3, 3) + 0.5
    dropped = dropout(signal)
    silent = (dropped == 0).flatten(2)
    assert torch.equal(silent.any(2), silent.all(2)), "a channel is silent as a whole or not at all"
    assert silent.all(2).float().mean() == pytest.approx(0.4, abs=0.02)
    assert dropped.mean() == pytest.approx(signal.mean().item(), rel=0.02)
    assert torch.equal(dropout.eval()(signal), signal)


@pytest.mark.parametrize("name", OWN)
def test_dropout_of_the_head_keeps_the_mean(name: str) -> None:
    torch.manual_seed(0)
    dropout = next(layer for layer in network(name, dropout=0.3).head if isinstance(layer, nn.Dropout))
    dropped = dropout(torch.ones(200, 500))
    assert (dropped == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert dropped.mean() == pytest.approx(1, abs=0.01)


def test_a_flattened_head_sees_every_pixel_and_grows_with_the_size() -> None:
    sizes = [num_parameters(network("convnet", head="flatten", size=size)) for size in (16, 32)]
    assert sizes[1] - sizes[0] == 10 * 32 * (4**2 - 2**2)


def test_a_dilated_filter_is_one_with_holes() -> None:
    model = network("convnet", depth=1, dilation=3, normalization="none", channels=1)
    convolution = model.features[0]
    assert isinstance(convolution, nn.Conv2d)
    holed = torch.zeros(8, 1, 7, 7)
    holed[:, :, ::3, ::3] = convolution.weight.detach()
    signal = torch.rand(1, 1, 20, 20)
    torch.testing.assert_close(convolution(signal), nn.functional.conv2d(signal, holed, padding=3), atol=1e-5, rtol=0)


def test_a_dilation_that_does_not_fit_is_refused_with_the_formula() -> None:
    message = (
        r"block 1 convolution cannot take 8×8: \(8 \+ 2·0 − 9\)/1 \+ 1 = 0; "
        r"lower model.dilation or model.depth, or raise model.padding or prepare.size"
    )
    with pytest.raises(ShapeError, match=message):
        network("convnet", size=8, dilation=4, padding=0)


def test_a_width_that_no_machine_can_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.width · 120 must be <= 8192 channels; got 100 · 120 = 12000. Lower"):
        network("lenet", width=100.0)
    with pytest.raises(ConfigError, match=r"model.width · 2\^\(model.stages − 1\) must be <= 8192 channels; got 5000"):
        network("resnet", width=5000)


def test_timm_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ConfigError,
        match=r"model=timm needs the package timm; it .*Run pip install -c constraints.txt -e '\.\[timm\]'\.$",
    ):
        pipeline.model.build(**timm_description())


def test_timm_networks_come_by_name_with_the_options_that_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm itself needs torchvision, which is not here; this stands in for the two functions that are called."""
    calls: dict[str, Any] = {}

    def create_model(architecture: str, **options: Any) -> nn.Module:
        calls[architecture] = options
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        backbone.num_features = 4  # type: ignore[assignment]
        return backbone

    fake = SimpleNamespace(list_models=lambda: ["resnet18", "resnet34"], create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", fake)
    model = pipeline.model.build(**timm_description(dropout=0.2, conv_dropout=0.1))
    assert model(images(2, channels=3)).shape == (2, 10)
    options = {"pretrained": False, "in_chans": 3, "num_classes": 0, "drop_path_rate": 0.1}
    assert calls == {"resnet18": options}
    assert isinstance(model.head[0], nn.Dropout)
    assert model.head[0].p == 0.2
    with pytest.raises(
        ConfigError, match=r"model.architecture must be a network of timm; got 'resnet81'. Did you mean"
    ):
        pipeline.model.build(**timm_description(architecture="resnet81"))


def timm_description(**options: Any) -> dict[str, Any]:
    shape = {"num_classes": 10, "channels": 3, "size": 32, "mean": [0.5] * 3, "std": [0.2] * 3}
    timm = {"name": "timm", "architecture": "resnet18", "conv_dropout": 0.0, "dropout": 0.0}
    return {**timm, **shape, **options}
