"""Foresees how long a training computes, from the time that its network takes for one batch on this machine."""

import json
import time
from functools import cache
from typing import NamedTuple

import torch

from pipeline import model
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.schema import Config
from pipeline.model import inference, start

TIMED = 16
"""Number of images in the batch that is timed."""

TIMES = 4
"""Number of times that it is timed, after one that is not."""

LEARNING = 3
"""Time of learning from an image over that of looking at it: the gradients of inputs and weights cost as much each."""


class Seconds(NamedTuple):
    """The computing time of a training in seconds, with all cores or the accelerator; starting and preparing are left out.

    Attributes:
        each: Time of the epochs, which every training of the configuration needs.
        once: Time of the features of all images and copies, which are computed once for all seeds and folds.
    """

    each: float
    once: float


def foreseen(config: Config, dataset: DatasetRecord) -> Seconds:
    """Foresee the computing time of a training.

    Args:
        config: Its configuration.
        dataset: Record of its images, which may have been prepared at another size.

    Raises:
        UserError: The network does not fit images of this size, or a package for it is missing.
    """
    dataset = dataset.model_copy(update={"size": config.prepare.size})
    options = config.model.model_dump(exclude=set(config.model.START))
    described = start.description(options, None, dataset, channels_last=config.train.channels_last)
    per_image = _seconds_per_image(json.dumps(described, sort_keys=True))
    num_train, num_val = (sum(dataset.counts[split]) for split in ("train", "val"))
    if config.model.train_layers == "head" and config.augment.mode != "online":
        return Seconds(0.0, (num_train + num_val) * (1 + config.augment.copies) * per_image)
    looks = config.train.max_epochs * (LEARNING * num_train + 2 * num_val)  # the probe is as large as validation
    return Seconds(looks * per_image, 0.0)


@cache
@torch.inference_mode()
def _seconds_per_image(description: str) -> float:
    """The best of some times of a network, whose arguments of `pipeline.model.build` are given as JSON; measured once."""
    described = json.loads(description)
    with torch.random.fork_rng():
        network = model.build(**described)
    device = inference.ready(network)
    size, channels = described["size"], described["channels"]
    images = torch.zeros(TIMED, size, size, channels, dtype=torch.uint8, device=device)
    times = []
    for _ in range(TIMES + 1):
        begin = time.perf_counter()
        network(images).sum().item()  # waits for the accelerator
        times.append(time.perf_counter() - begin)
    return min(times[1:]) / TIMED
