"""Computes the inputs of a network's last layer once, for all images and copies, so that this layer is trained in seconds.

They are kept below `build/cache/` for the next training on the same images with the same weights.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.model.inference import measuring_batch_size
from pipeline.model.network import Network
from pipeline.stage import lineage
from pipeline.storage import atomic, checksums, lock
from pipeline.storage.arrays import read_array, write_array
from pipeline.storage.digests import digest
from pipeline.storage.places import PROJECT
from pipeline.terminal import progress

BATCH_SIZE = 256


class LastLayer(nn.Module):
    """The last layer of a network, with the dropout before it, as a network from features (batch, features) to logits.

    Its weights are those of `network`, under the same names.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.head = nn.Sequential()
        for name, layer in list(network.head.named_children())[-network.num_last_layers :]:
            self.head.add_module(name, layer)

    def forward(self, features: Tensor) -> Tensor:
        """The logits (batch, classes)."""
        logits: Tensor = self.head(features)
        return logits


def feature_folder(network: Network, description: Mapping[str, Any], folders: Mapping[str, Path], cache: Path) -> Path:
    """The folder with `train.npy` (n, features), `val.npy` and `copies.npy` (copies, n, features), float32; made if missing.

    Args:
        network: Network with the weights that the training starts from.
        description: Arguments of `pipeline.model.build` that made it.
        folders: Output of the stages weights, prepare and augment, by stage; what they hold decides whether the cache fits.
        cache: The project's `build/cache`.
    """
    key = digest({
        "network": {key: value for key, value in description.items() if "dropout" not in key and key != "num_classes"},
        "inputs": {stage: lineage.content(stage, folder) for stage, folder in folders.items()},
        "code": [lineage.hash_file(PROJECT / "pipeline" / "model"), lineage.hash_file(Path(__file__))],
        "torch": torch.__version__,
    })  # fmt: skip
    folder = cache / f"features-{key}"
    with lock.held(folder, wait=True):
        if not (folder / checksums.SUMS).exists():
            with atomic.folder(folder) as scratch:
                _write(network, folders, scratch)
                checksums.seal(scratch)
    return folder


def _write(network: Network, folders: Mapping[str, Path], out: Path) -> None:
    prepared = folders["prepare"]
    copies = read_array(folders["augment"] / "images.npy")
    sources = {
        "train": read_array(prepared / "train" / "images.npy"), "val": read_array(prepared / "val" / "images.npy"),
        "copies": copies.reshape(-1, *copies.shape[2:]),
    }  # fmt: skip
    total, done = sum(map(len, sources.values())), 0
    with progress("features of all images, once", total) as show:
        for name, images in sources.items():
            shape = images.shape[:1] if name != "copies" else copies.shape[:2]
            pieces = _features(network, images)

            def counted(pieces: Iterator[NDArray[np.float32]] = pieces) -> Iterator[NDArray[np.float32]]:
                nonlocal done
                for piece in pieces:
                    yield piece
                    done += len(piece)
                    show(done)

            write_array(out / f"{name}.npy", "<f4", (*shape, network.num_features), counted())
    print(f"features of {total:,} images and copies are kept, so that the next training on them takes seconds")


@torch.inference_mode()
def _features(network: Network, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """The inputs of the last layer in evaluation mode, batch by batch."""
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
