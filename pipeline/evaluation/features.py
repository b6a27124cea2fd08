"""Computes the inputs of a network's last layer for many images once, and keeps them below `build/cache/`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.model.inference import measuring_batch_size
from pipeline.model.network import Network
from pipeline.stage import lineage
from pipeline.storage import atomic, checksums, lock
from pipeline.storage.arrays import write_array
from pipeline.storage.digests import digest
from pipeline.storage.places import PROJECT
from pipeline.terminal import progress

BATCH_SIZE = 256
FEATURES = "features.npy"


def feature_file(
    network: Network, description: Mapping[str, Any], inputs: Mapping[str, Path], name: str, images: NDArray[np.uint8],
    cache: Path,
) -> Path:  # fmt: skip
    """The `.npy` file with the features of `images`, float32 of shape (…, features); made if it is missing.

    Args:
        network: Network whose features they are; it is left as it was.
        description: Arguments of `pipeline.model.build` that made it.
        inputs: Output folders of the stages that made the weights and the images, by stage. What they hold decides whether the
            cache fits.
        name: Name of the images in those folders, such as that of their split.
        images: Array of shape (…, height, width, channels).
        cache: The project's `build/cache`.
    """
    key = digest({
        "network": {key: value for key, value in description.items() if "dropout" not in key and key != "num_classes"},
        "inputs": {stage: lineage.content(stage, folder) for stage, folder in inputs.items()},
        "images": name,
        "code": [lineage.hash_file(PROJECT / "pipeline" / "model"), lineage.hash_file(Path(__file__))],
        "torch": torch.__version__,
    })  # fmt: skip
    folder = cache / f"features-{key}"
    with lock.held(folder, wait=True):
        if not (folder / checksums.SUMS).exists():
            with atomic.folder(folder) as scratch:
                _write(network, name, images, scratch / FEATURES)
                checksums.seal(scratch)
    return folder / FEATURES


def _write(network: Network, name: str, images: NDArray[np.uint8], path: Path) -> None:
    flat = images.reshape(-1, *images.shape[-3:])
    with progress(f"features of {name}, once", len(flat)) as show:

        def counted() -> Iterator[NDArray[np.float32]]:
            done = 0
            for piece in features(network, flat):
                yield piece
                done += len(piece)
                show(done)

        write_array(path, "<f4", (*images.shape[:-3], network.num_features), counted())
    if len(flat):
        print(f"features of {len(flat):,} images ({name}) are kept, so that what uses them again takes seconds")


@torch.inference_mode()
def features(network: Network, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """The inputs of the last layer in evaluation mode, of shape (batch, features), batch by batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    was_training, was_on = network.training, network.normalize.mean.device
    network.to(device).eval()
    try:
        size = measuring_batch_size(BATCH_SIZE, *images.shape[1:3])
        for start in range(0, len(images), size):
            batch = torch.from_numpy(np.array(images[start : start + size])).to(device)
            yield network.last_features(batch).float().cpu().numpy()
    finally:
        network.train(was_training).to(was_on)
