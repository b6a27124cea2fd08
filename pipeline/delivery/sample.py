"""The sample of known images that a package holds, so that new ones can be compared with them.

It is of the images that set the package's thresholds, which trained nothing: the features of training images are further apart
than those of any new ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.outputs import NetworkOutputs
from pipeline.seeds import derive_seed
from pipeline.storage import atomic
from pipeline.storage.arrays import read_array
from pipeline.storage.tables import read_parquet_column

Pixels = NDArray[np.uint8]

SAMPLE = 500
"""Number of images of each side, at most, whose features and looks are compared."""

LOOKS = ("brightness", "contrast", "sharpness", "width", "height")
"""What is measured of an image: mean, standard deviation and mean absolute Laplacian of its grey pixels as the network sees
them, in grey levels, and the width and height of the file in pixels."""


def looks(images: Pixels, shapes: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """The measurements `LOOKS` of n prepared images and the height and width of their files, float32 of shape (n, 5)."""
    import cv2

    rows = []
    for image, (height, width) in zip(images, shapes, strict=True):
        grey = image[:, :, 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        edges = cv2.Laplacian(grey.astype(np.float32), cv2.CV_32F)
        rows.append((grey.mean(), grey.std(), np.abs(edges).mean(), width, height))
    return np.array(rows, np.float32).reshape(len(rows), len(LOOKS))


def write_sample(path: Path, found: NetworkOutputs, named: NDArray[np.int64], splits: Sequence[Path]) -> None:
    """Write features and looks of a sample, and how often each class was named.

    Args:
        path: File to write.
        found: Outputs for the images of `splits`, one after the other.
        named: Class that is named for each of these.
        splits: Folders of prepared images.
    """
    generator = np.random.default_rng(derive_seed(0, "images that stand for a split"))
    rows = np.sort(generator.permutation(len(found))[:SAMPLE])
    measured, begin = [], 0
    for split in splits:
        images = read_array(split / "images.npy")
        chosen = rows[(rows >= begin) & (rows < begin + len(images))] - begin
        heights, widths = (read_parquet_column(split / "ids.parquet", name) for name in ("height", "width"))
        measured.append(looks(images[chosen], [(heights[row], widths[row]) for row in chosen]))
        begin += len(images)
    content = BytesIO()
    counts = np.bincount(named, minlength=found.logits.shape[1])
    np.savez(content, features=found.features[rows], looks=np.concatenate(measured), counts=counts)
    atomic.write_bytes(path, content.getvalue())


@dataclass(frozen=True)
class Sample:
    """Images of one kind, as they are compared with others.

    Attributes:
        features: Last features of a sample, float32 of shape (n, features).
        looks: Measurements `LOOKS` of the same sample, float32 of shape (n, 5).
        counts: How often each class was named, over all images, of shape (classes,).
    """

    features: NDArray[np.float32]
    looks: NDArray[np.float32]
    counts: NDArray[np.int64]

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what `write_sample` wrote; of noise, NumPy raises nearly anything."""
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in ("features", "looks", "counts")})
