import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pipeline.model
from pipeline.config.schema import OPTIONS
from pipeline.config.schema_model import Start
from pipeline.errors import ConfigError
from pipeline.model import Network, Normalize, evaluating
from tests.networks import OPTIONS_OF, OWN, network


def images(num_images: int, channels: int = 1, size: int = 32) -> Tensor:
    shape = (num_images, size, size, channels)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_standardizes_each_channel_and_puts_channels_first(channels: int, channels_last: bool) -> None:
    mean, std = [0.1, 0.2, 0.3][:channels], [0.5, 0.25, 2.0][:channels]
    batch = images(2, channels)
    expected = (batch.numpy() / 255 - np.array(mean)) / np.array(std)
    result = Normalize(mean, std, channels_last=channels_last)(batch)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("channels_last", "strides"), [(True, [1, 28 * 8, 8]), (False, [28 * 28, 28, 1])])
def test_convolutions_run_in_the_layout_that_was_asked_for(
    channels: int, channels_last: bool, strides: list[int]
) -> None:
    model = network("lenet", channels=channels, channels_last=channels_last)
    convolved = model.features[0](model.normalize(images(2, channels)))
    assert list(convolved.stride()[1:]) == strides


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("channels", [1, 3])
def test_layout_changes_no_result(name: str, channels: int) -> None:
    first, second = (network(name, channels=channels, channels_last=layout).eval() for layout in (True, False))
    second.load_state_dict(first.state_dict())
    batch = images(3, channels)
    torch.testing.assert_close(first(batch), second(batch), atol=1e-5, rtol=1e-4)


def test_a_channel_that_never_changes_stays_finite() -> None:
    result = Normalize([0.0], [0.0], channels_last=True)(torch.zeros((1, 2, 2, 1), dtype=torch.uint8))
    assert torch.equal(result, torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lenet", {}),
        ("convnet", {"normalization": "batch"}),
        ("convnet", {"normalization": "group"}),
        ("convnet", {"normalization": "none", "depth": 5, "hidden": 32}),
        ("convnet", {"head": "flatten", "activation": "tanh", "pooling": "average"}),
        ("lenet", {"width": 0.15, "depth": 3, "activation": "silu"}),
        ("resnet", {}),
        ("resnet", {"depth": 3, "normalization": "group", "activation": "gelu"}),
    ],
)
def test_the_first_loss_is_near_that_of_even_guesses(name: str, options: dict[str, object], num_classes: int) -> None:
    torch.manual_seed(0)
    model = network(name, channels=3, num_classes=num_classes, **options)
    labels = torch.arange(200) % num_classes
    loss = nn.functional.cross_entropy(model(images(200, 3)), labels).item()
    assert loss == pytest.approx(math.log(num_classes), rel=0.1)


@pytest.mark.parametrize("name", OWN)
def test_a_network_learns_a_few_images_by_heart(name: str) -> None:
    torch.manual_seed(0)
    model, labels = network(name), torch.arange(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images(10)), labels).backward()
        optimizer.step()
    assert torch.equal(model(images(10)).argmax(dim=1), labels)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", OWN)
def test_an_exported_network_takes_batches_of_any_size(name: str, channels_last: bool) -> None:
    model = network(name, channels_last=channels_last).eval()
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(model, (images(2),), dynamic_shapes=(batch,)).module()
    for num_images in (1, 2, 7):
        torch.testing.assert_close(exported(images(num_images)), model(images(num_images)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", OWN)
def test_every_network_of_the_configuration_can_be_built_with_its_keys(name: str) -> None:
    options = set(OPTIONS["model"][name].model_fields) - {"name", *Start.START}
    assert options == set(OPTIONS_OF[name])
    assert isinstance(network(name), Network)


def test_only_timm_needs_a_package_of_its_own() -> None:
    assert set(OPTIONS["model"]) - set(OWN) == {"timm"}


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"model must be one of lenet, convnet, resnet, efficientnet, timm; got 'alexnet'. Set"
    ):
        pipeline.model.build("alexnet", num_classes=2, channels=1, size=32, mean=[0.0], std=[1.0])


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_restores_the_mode_even_after_an_error(training: bool) -> None:
    model = network("lenet").train(training)
    with pytest.raises(KeyError), evaluating(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        raise KeyError
    assert model.training is training
    assert torch.is_grad_enabled()
