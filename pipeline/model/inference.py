"""What a network says of images, from one look at each or from several (test-time augmentation)."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.model.network import Network

_USUAL_PIXELS = 64 * 64


def _shifted(rows: int, columns: int) -> Callable[[Tensor], Tensor]:
    """Moves images down and right by so many pixels; what comes in at the edge is black, as the frame of `prepare` is."""

    def shift(images: Tensor) -> Tensor:
        size = images.shape[1:3]
        padded = F.pad(images, (0, 0, *(max(part, 0) for part in (columns, -columns, rows, -rows))))
        top, left = max(-rows, 0), max(-columns, 0)
        return padded[:, top : top + size[0], left : left + size[1]]

    return shift


def _mirrored(images: Tensor) -> Tensor:
    return images.flip(2)


def _same(images: Tensor) -> Tensor:
    return images


_SHIFTS = [_shifted(rows, columns) for rows, columns in ((-1, -1), (1, 1))]
VIEWS: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "none": [_same],
    "flip": [_same, _mirrored],
    "flip_shift": [
        *(_same, _mirrored),
        *_SHIFTS,
        *(lambda images, shift=shift: shift(_mirrored(images)) for shift in _SHIFTS),
    ],
}
"""How often and how each image is looked at: as it is; with its mirror image; and both also moved by a pixel up and left,
and by a pixel down and right."""


def measuring_batch_size(most: int, height: int, width: int) -> int:
    """Images at a time: as many as asked for, but in inverse proportion to their area fewer where that exceeds 64×64 pixels, so
    that memory stays flat; an eighth of them at least.

    >>> [measuring_batch_size(512, size, size) for size in (32, 64, 96, 224)]
    [512, 512, 227, 64]
    """
    return max(1, most // 8, min(most, most * _USUAL_PIXELS // (height * width)))


def probabilities(
    classifier: Network, images: NDArray[np.uint8], *, tta: str = "none", batch_size: int
) -> NDArray[np.float32]:
    """The probability of each class, the mean over the views of each image.

    Args:
        classifier: Is moved to the accelerator where there is one, and left in evaluation mode.
        images: Shape (n, height, width, channels), as they lie on disk.
        tta: One of `VIEWS`.
        batch_size: Images at a time, of large ones fewer; changes speed and memory, not the result.

    Returns:
        Shape (n, num_classes), each row summing to 1.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = classifier.to(device).eval()
    batches, batch_size = [], measuring_batch_size(batch_size, *images.shape[1:3])
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
            looks = [classifier(view(batch)).float().softmax(dim=1) for view in VIEWS[tta]]
            batches.append((sum(looks[1:], looks[0]) / len(looks)).cpu().numpy())
    return np.concatenate(batches)
