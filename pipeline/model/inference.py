"""Predicts class probabilities of images, from one view of each or from several (test-time augmentation)."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.model.network import Network

_USUAL_PIXELS = 64 * 64


def _shifted(pixels: int) -> Callable[[Tensor], Tensor]:
    """Moves images down and right by so many pixels; the edge that this uncovers repeats the border."""

    def shift(images: Tensor) -> Tensor:
        rows, columns = (
            (torch.arange(length, device=images.device) - pixels).clamp(0, length - 1) for length in images.shape[1:3]
        )
        return images[:, rows][:, :, columns]

    return shift


def _mirrored(images: Tensor) -> Tensor:
    return images.flip(2)


def _same(images: Tensor) -> Tensor:
    return images


_SHIFTS = [_shifted(pixels) for pixels in (-1, 1)]
VIEWS: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "none": [_same],
    "flip": [_same, _mirrored],
    "flip_shift": [
        *(_same, _mirrored),
        *_SHIFTS,
        *(lambda images, shift=shift: shift(_mirrored(images)) for shift in _SHIFTS),
    ],
}
"""Views of each image: itself; also its mirror image; and both also moved by a pixel up and left, and down and right."""


def measuring_batch_size(most: int, height: int, width: int) -> int:
    """Number of images in a batch: `most`, or less in inverse proportion to an area above 64×64 pixels, so that memory stays
    flat; at least an eighth of `most`.

    >>> [measuring_batch_size(512, size, size) for size in (32, 64, 96, 224)]
    [512, 512, 227, 64]
    """
    return max(1, most // 8, min(most, most * _USUAL_PIXELS // (height * width)))


def probabilities(
    network: Network, images: NDArray[np.uint8], *, tta: str = "none", batch_size: int
) -> NDArray[np.float32]:
    """The probability of each class, the mean over the views of each image.

    Args:
        network: Network; it is moved to the accelerator where there is one, and left in evaluation mode.
        images: uint8 of shape (n, height, width, channels).
        tta: One of `VIEWS`.
        batch_size: Number of images in a batch, smaller for large images; changes speed and memory, not the result.

    Returns:
        Shape (n, num_classes), each row summing to 1.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).eval()
    batches, batch_size = [], measuring_batch_size(batch_size, *images.shape[1:3])
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
            outputs = [network(view(batch)).float().softmax(dim=1) for view in VIEWS[tta]]
            batches.append((sum(outputs[1:], outputs[0]) / len(outputs)).cpu().numpy())
    return np.concatenate(batches)
