"""Predicts class probabilities of images, from one view of each or from several (test-time augmentation)."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.model.network import Network
from pipeline.views import VIEWS

_USUAL_PIXELS = 64 * 64


def measuring_batch_size(most: int, height: int, width: int) -> int:
    """Number of images in a batch: `most`, or less in inverse proportion to an area above 64×64 pixels, so that memory stays
    flat; at least an eighth of `most`.

    >>> [measuring_batch_size(512, size, size) for size in (32, 64, 96, 224)]
    [512, 512, 227, 64]
    """
    return max(1, most // 8, min(most, most * _USUAL_PIXELS // (height * width)))


class Outputs(NamedTuple):
    """The outputs of a network for n images, float32.

    Attributes:
        logits: Outputs before softmax, of shape (n, num_classes).
        features: Inputs of the last layer, of shape (n, num_features).
        log_probabilities: Logarithm of the mean probability over the views of each image, of shape (n, num_classes).
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    log_probabilities: NDArray[np.float32]


@torch.inference_mode()
def probabilities(
    network: Network, images: NDArray[np.uint8], *, tta: str = "none", batch_size: int
) -> NDArray[np.float32]:
    """The probability of each class, the mean over the views of each image.

    Args:
        network: Network; it is moved to the accelerator where there is one, and left in evaluation mode.
        images: uint8 of shape (n, height, width, channels).
        tta: One of `pipeline.views.VIEWS`.
        batch_size: Number of images in a batch, smaller for large images; changes speed and memory, not the result.

    Returns:
        Shape (n, num_classes), each row summing to 1.
    """
    batches = []
    for views in _batches(network, images, VIEWS[tta], batch_size):
        means = [network(view).float().softmax(dim=1) for view in views]
        batches.append((sum(means[1:], means[0]) / len(means)).cpu().numpy())
    return np.concatenate(batches)


def ready(network: nn.Module) -> torch.device:
    """Put the network on the GPU, if there is one, in evaluation mode; gives the device that its images must be on."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).eval()
    return device


@torch.inference_mode()
def outputs(network: Network, images: NDArray[np.uint8], *, tta: str = "none", batch_size: int) -> Outputs:
    """Logits and last features of the images themselves, and log-probabilities over their views; see `probabilities`."""
    batches = []
    for views in _batches(network, images, VIEWS[tta], batch_size):
        logits, features = network.logits_and_features(next(views))
        log_probabilities = [logits.float().log_softmax(dim=1)]
        log_probabilities += [network(view).float().log_softmax(dim=1) for view in views]
        mean = torch.stack(log_probabilities).logsumexp(dim=0) - np.log(len(log_probabilities))
        batches.append([values.float().cpu().numpy() for values in (logits, features, mean)])
    return Outputs(*map(np.concatenate, zip(*batches, strict=True)))


@torch.inference_mode()
def outputs_of_features(network: Network, features: NDArray[np.float32]) -> Outputs:
    """The outputs for images whose last features (n, num_features) are known; see `outputs`."""
    device = ready(network)
    logits = network.head[-1](torch.from_numpy(features).to(device)).float()
    return Outputs(logits.cpu().numpy(), features, logits.log_softmax(dim=1).cpu().numpy())


def _batches(
    network: Network, images: NDArray[np.uint8], views: list[Callable[[NDArray[np.uint8]], NDArray[np.uint8]]],
    batch_size: int,
) -> Iterator[Iterator[Tensor]]:  # fmt: skip
    """The views of each batch of images as tensors on the network's device."""
    device = ready(network)
    batch_size = measuring_batch_size(batch_size, *images.shape[1:3])
    for start in range(0, len(images), batch_size):
        batch = np.array(images[start : start + batch_size])
        yield (torch.from_numpy(np.ascontiguousarray(view(batch))).to(device) for view in views)
