"""Computes the inputs of a network's last layer for many images once, and keeps them below `build/cache/`."""

import hashlib
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
from pipeline.storage.arrays import read_array, write_array
from pipeline.storage.digests import digest
from pipeline.storage.places import PROJECT
from pipeline.terminal import progress

FEATURES, IMAGES = "features.npy", "images.npy"
"""Files of a folder: the features, and a digest of each image that they are of."""

BATCH_SIZE = 256
"""Number of images that are shown to a network at once. Each batch is filled up to it, as only in batches of one size the
features of an image are the same to the last bit whichever images are beside it."""

STRETCH = 1024
"""Number of images whose features are held in memory."""

DIGEST_BYTES = 16


class KeptFeatures:
    """The features of images in the eyes of one network's body: all of its layers but the last.

    An image that has been shown to the body before, in whatever split, is not shown to it again.

    Args:
        network: Network whose features they are; it is left as it was.
        description: Arguments of `pipeline.model.build` that made it.
        cache: The project's `build/cache`.
    """

    def __init__(self, network: Network, description: Mapping[str, Any], cache: Path) -> None:
        self.network, self.cache = network, cache
        self.body = digest({
            "network": {key: value for key, value in description.items() if "dropout" not in key and key != "num_classes"},
            "weights": _digest_of_weights(network),
            "code": [lineage.hash_file(PROJECT / "pipeline" / "model"), lineage.hash_file(Path(__file__))],
            "torch": torch.__version__,
        })  # fmt: skip

    def exist(self) -> bool:
        """Whether any images have been shown to the body before."""
        return next(self._folders(), None) is not None

    def file(self, inputs: Mapping[str, Path], name: str, images: NDArray[np.uint8]) -> Path:
        """The `.npy` file with the features of `images`, float32 of shape (…, features); made if it is missing.

        Args:
            inputs: Output folders of the stages that made the images, by stage. What they hold decides whether the file fits.
            name: Name of the images in those folders, such as that of their split.
            images: Array of shape (…, height, width, channels).
        """
        key = digest([name, {stage: lineage.content(stage, folder) for stage, folder in inputs.items()}])
        folder = self.cache / f"features-{self.body}-{key}"
        with lock.held(folder, wait=True):
            if not (folder / checksums.SUMS).exists():
                with atomic.folder(folder) as scratch:
                    self._write(name, images, scratch)
                    checksums.seal(scratch)
        return folder / FEATURES

    def _folders(self) -> Iterator[Path]:
        return (folder for folder in self.cache.glob(f"features-{self.body}-*") if (folder / checksums.SUMS).exists())

    def _write(self, name: str, images: NDArray[np.uint8], folder: Path) -> None:
        flat = images.reshape(-1, *images.shape[-3:])
        digests = np.frombuffer(b"".join(map(_digest, flat)), np.uint8).reshape(len(flat), DIGEST_BYTES)
        write_array(folder / IMAGES, "|u1", digests.shape, [digests])
        shape = (*images.shape[:-3], self.network.num_features)
        write_array(folder / FEATURES, "<f4", shape, self._rows(name, flat, digests))

    def _rows(self, name: str, images: NDArray[np.uint8], digests: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """The features, stretch by stretch: what is kept already, and the others computed."""
        known = self._known(digests)
        num_new = len(images) - len(known)
        with progress(f"features of {name}, once", num_new) as show:
            done = 0
            for begin in range(0, len(images), STRETCH):
                numbers = range(begin, min(begin + STRETCH, len(images)))
                rows = np.empty((len(numbers), self.network.num_features), np.float32)
                for number in known.keys() & set(numbers):
                    array, row = known[number]
                    rows[number - begin] = array[row]
                new = [number for number in numbers if number not in known]
                at = 0
                for piece in features(self.network, images[new]):
                    rows[np.array(new[at : at + len(piece)]) - begin] = piece
                    at += len(piece)
                    show(done + at)
                done += at
                yield rows
        if num_new:
            print(f"features of {num_new:,} images ({name}) are kept, so that what uses them again takes seconds")

    def _known(self, digests: NDArray[np.uint8]) -> dict[int, tuple[NDArray[np.float32], int]]:
        """The array of features and the row in it, by the number of each image that is kept already."""
        wanted: dict[bytes, list[int]] = {}
        for number, value in enumerate(digests):
            wanted.setdefault(value.tobytes(), []).append(number)
        known = {}
        for folder in self._folders():
            if not wanted:
                break
            kept = read_array(folder / FEATURES)
            kept = kept.reshape(-1, kept.shape[-1])
            for row, value in enumerate(read_array(folder / IMAGES, mapped=False)):
                for number in wanted.pop(value.tobytes(), ()):
                    known[number] = (kept, row)
        return known


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=DIGEST_BYTES).digest()


def _digest_of_weights(network: Network) -> str:
    """A digest of the weights and the statistics of normalisation of all layers but the last."""
    found = hashlib.sha256()
    for layer in network.body():
        for tensor in layer.state_dict().values():
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@torch.inference_mode()
def features(network: Network, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """The inputs of the last layer in evaluation mode, of shape (batch, features), batch by batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    was_training, was_on = network.training, network.normalize.mean.device
    network.to(device).eval()
    try:
        size = measuring_batch_size(BATCH_SIZE, *images.shape[1:3])
        for start in range(0, len(images), size):
            batch = np.zeros((size, *images.shape[1:]), np.uint8)
            found = images[start : start + size]
            batch[: len(found)] = found
            yield network.last_features(torch.from_numpy(batch).to(device)).float().cpu().numpy()[: len(found)]
    finally:
        network.train(was_training).to(was_on)
