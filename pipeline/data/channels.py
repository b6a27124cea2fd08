"""Tells whether the images of a dataset are grey or in colour."""

import numpy as np

from pipeline.data.decoding import decode
from pipeline.data.image_headers import BadImageError
from pipeline.data.pixels import FULL_RANGE
from pipeline.data.raw_dataset import RawDataset
from pipeline.data.wide_samples import White

_SAMPLE = 1000
"""Number of images that are looked at."""


def num_channels(raw: RawDataset, max_pixels: int) -> int:
    """Number of channels: 1 where all images of a sample are grey, else 3."""
    chosen = raw.blocks[:: max(1, len(raw.blocks) // 20)]
    per_block = max(1, _SAMPLE // len(chosen))
    for block in chosen:
        images = block.read()
        if isinstance(images, np.ndarray):
            if images.shape[3] == 3:
                return 3
            continue
        for data in images[:: max(1, len(images) // per_block)]:
            try:
                if decode(data, max_pixels, White(FULL_RANGE, given=True)).pixels.shape[2] == 3:
                    return 3
            except BadImageError:
                continue
    return 1
