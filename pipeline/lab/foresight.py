"""Foresees how long a training computes, from the time that its network takes for one batch on this machine."""

import time
from typing import NamedTuple

import torch

from pipeline import model
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.schema import Config
from pipeline.model import start

TIMED = 16
"""Number of images in the batch that is timed."""

LEARNING = 3
"""Time of learning from an image over that of looking at it: the gradients of inputs and weights cost as much each."""


class Seconds(NamedTuple):
    """What a training takes with all cores, or the accelerator, without what it takes to start.

    Attributes:
        each: Of every training of this configuration.
        once: Of the features of all images and copies, which other seeds and folds find.
    """

    each: float
    once: float


def foreseen(config: Config, dataset: DatasetRecord) -> Seconds:
    """What a training takes.

    Args:
        config: Its configuration.
        dataset: Record of its images, which may have been prepared at another size.

    Raises:
        UserError: The network does not fit images of this size, or a package for it is missing.
    """
    dataset = dataset.model_copy(update={"size": config.prepare.size})
    with torch.random.fork_rng():
        options = config.model.model_dump(exclude=set(config.model.START))
        network = model.build(**start.description(options, None, dataset, channels_last=config.train.channels_last))
    num_train, num_val = (sum(dataset.counts[split]) for split in ("train", "val"))
    per_image = _seconds_per_image(network, dataset)
    if config.model.train_layers == "head" and config.augment.mode != "online":
        return Seconds(0.0, (num_train + num_val) * (1 + config.augment.copies) * per_image)
    looks = config.train.max_epochs * (LEARNING * num_train + 2 * num_val)  # the probe is as large as validation
    return Seconds(looks * per_image, 0.0)


@torch.inference_mode()
def _seconds_per_image(network: model.Network, dataset: DatasetRecord) -> float:
    """The better of two times, after one batch that is not timed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).eval()
    images = torch.zeros(TIMED, dataset.size, dataset.size, dataset.channels, dtype=torch.uint8, device=device)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        network(images).sum().item()  # waits for the accelerator
        times.append(time.perf_counter() - begin)
    return min(times[1:]) / TIMED
