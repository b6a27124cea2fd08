"""Mixes the training images of each batch: mixup, cutmix and random erasing.

Everything is drawn from torch's global generator on the CPU, which is seeded at the start of each epoch: a training that
was killed repeats its draws, whatever the device.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ERASED_SHARE = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)
"""Ranges of the rectangle's share of the image's area, and of its height divided by its width (Zhong et al. 2020, section
3.2)."""


def mix(
    images: Tensor, labels: Tensor, num_classes: int, *, mixup: float, cutmix: float, erasing: float
) -> tuple[Tensor, Tensor]:
    """Mix each image of a batch with another one of it, and erase parts of some.

    With both `mixup` and `cutmix` above 0, each batch draws one of the two.

    Args:
        images: uint8 (batch, height, width, channels); stay as they are.
        labels: int64 (batch,).
        num_classes: Number of classes, which is that of the targets' columns.
        mixup: α of the Beta(α, α) by which two images and their labels are blended; 0: never.
        cutmix: α of the Beta(α, α) that draws the share of an image that stays; 0: never.
        erasing: Probability that a rectangle of an image is filled with noise.

    Returns:
        Images of the same shape in [0, 255], uint8, or float32 where they were blended; and targets float32
        (batch, num_classes), each row the shares of the classes, which sum to 1.
    """
    targets = F.one_hot(labels, num_classes).float()
    if mixup and (not cutmix or torch.rand(()) < 0.5):
        images, targets = _mixup(images, targets, mixup)
    elif cutmix:
        images, targets = _cutmix(images, targets, cutmix)
    return (_erase(images, erasing) if erasing else images), targets


def _mixup(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """λ·x + (1 − λ)·x', the labels likewise (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

    Each image has a λ of its own: the gradient of a batch then varies less than with one λ for all.
    """
    share = _beta(alpha, len(images)).to(images.device)
    partner = torch.randperm(len(images)).to(images.device)
    blended = torch.lerp(images[partner].float(), images.float(), share[:, None, None, None])
    return blended, torch.lerp(targets[partner], targets, share[:, None])


def _cutmix(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """A rectangle of another image in place of its own (Yun et al. 2019, https://arxiv.org/abs/1905.04899).

    A label's share is that of the pixels which are really left, as the border cuts rectangles off.
    """
    partner = torch.randperm(len(images)).to(images.device)
    sides = (1 - _beta(alpha, len(images))).sqrt()
    inside = _rectangles(images, sides, sides)
    share = 1 - inside.float().mean(dim=(1, 2, 3))[:, None]
    return torch.where(inside, images[partner], images), torch.lerp(targets[partner], targets, share)


def _erase(images: Tensor, probability: float) -> Tensor:
    """Noise in a rectangle of some images (Zhong et al. 2020, https://arxiv.org/abs/1708.04896)."""
    num_images = len(images)
    area = torch.empty(num_images).uniform_(*ERASED_SHARE)
    aspect = torch.empty(num_images).uniform_(*map(math.log, ERASED_ASPECT)).exp()
    height, width = (area * aspect).sqrt().clamp_max(1), (area / aspect).sqrt().clamp_max(1)
    chosen = (torch.rand(num_images) < probability).to(images.device)
    inside = _rectangles(images, height, width, whole=True) & chosen[:, None, None, None]
    noise = torch.randint(0, 256, images.shape, dtype=torch.uint8).to(images)
    return torch.where(inside, noise, images)


def _rectangles(images: Tensor, heights: Tensor, widths: Tensor, whole: bool = False) -> Tensor:
    """A mask (batch, height, width, 1), true in a rectangle of each image at a random place.

    `heights` and `widths` are shares of the image's, of shape (batch,). With `whole` the rectangles lie within the image,
    otherwise only their centres do.
    """
    spans = []
    for length, shares in ((images.shape[1], heights), (images.shape[2], widths)):
        span = (shares * length).round().clamp_max(length)
        first = torch.rand(len(images)) * (length - span + 1 if whole else length)
        first = first.floor() if whole else (first - span / 2).round()
        pixels = torch.arange(length)
        spans.append((pixels >= first[:, None]) & (pixels < (first + span)[:, None]))
    return (spans[0][:, :, None, None] & spans[1][:, None, :, None]).to(images.device)


def _beta(alpha: float, count: int) -> Tensor:
    """Draws from Beta(α, α), of shape (count,), by NumPy: torch gives ½ where α is so small that both gammas underflow."""
    generator = np.random.default_rng(int(torch.randint(2**62, ())))
    return torch.from_numpy(generator.beta(alpha, alpha, count)).float()
