"""Looking at images several times."""

from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config.schema import Evaluate
from pipeline.model import Network, probabilities
from pipeline.views import VIEWS
from tests.networks import network

ROUNDING = 1e-4 if torch.cuda.is_available() else 1e-6
"""What probabilities may differ by; convolutions on a GPU round to TF32."""


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (21, 32, 32, 1), dtype=np.uint8)


@pytest.fixture
def convnet() -> Network:
    torch.manual_seed(0)
    model = network("convnet", num_classes=4)
    nn.init.normal_(model.head.get_submodule("classes").weight, std=0.1)  # type: ignore[arg-type]  # so that answers differ
    return model


def plain(convnet: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        answer: NDArray[np.float32] = convnet.cpu().eval()(torch.from_numpy(images.copy())).softmax(dim=1).numpy()
    return answer


def moved(images: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """By `step` pixels down and right, with the border repeated at the edge."""
    size, (before, after) = images.shape[1], ((step, 0) if step > 0 else (0, -step))
    padded = np.pad(images, ((0, 0), (before, after), (before, after), (0, 0)), mode="edge")
    return padded[:, :size, :size] if step > 0 else padded[:, -size:, -size:]


def test_the_kinds_are_those_of_the_configuration() -> None:
    assert get_args(Evaluate.model_fields["tta"].annotation) == tuple(VIEWS)


def test_one_look_is_the_networks_own_answer(convnet: Network, images: NDArray[np.uint8]) -> None:
    assert np.allclose(probabilities(convnet, images, batch_size=8), plain(convnet, images), atol=ROUNDING)


def test_several_looks_are_averaged(convnet: Network, images: NDArray[np.uint8]) -> None:
    pairs = [images, images[:, :, ::-1]]
    flip = np.mean([plain(convnet, view) for view in pairs], axis=0)
    assert np.allclose(probabilities(convnet, images, tta="flip", batch_size=100), flip, atol=ROUNDING)
    views = [*pairs, *(moved(pair, step) for step in (-1, 1) for pair in pairs)]
    expected = np.mean([plain(convnet, view) for view in views], axis=0)
    found = probabilities(convnet, images, tta="flip_shift", batch_size=4)
    assert np.allclose(found, expected, atol=ROUNDING) and not np.allclose(found, flip, atol=1e-3)
    assert np.allclose(found.sum(axis=1), 1, atol=ROUNDING)


def test_a_mirror_image_changes_nothing_for_symmetric_images(convnet: Network, images: NDArray[np.uint8]) -> None:
    symmetric = np.concatenate([images[:, :, :16], images[:, :, 15::-1]], axis=2)
    once, twice = (probabilities(convnet, symmetric, tta=tta, batch_size=8) for tta in ("none", "flip"))
    assert np.allclose(once, twice, atol=ROUNDING)


@pytest.mark.parametrize("tta", VIEWS)
def test_batch_size_changes_nothing(convnet: Network, images: NDArray[np.uint8], tta: str) -> None:
    first, second = (probabilities(convnet, images, tta=tta, batch_size=size) for size in (1, 64))
    assert np.allclose(first, second, atol=ROUNDING)
