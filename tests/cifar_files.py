"""A small dataset in the binary layout of CIFAR-10, and the archive that its authors would publish of it."""

import gzip
import io
import tarfile

import numpy as np
from numpy.typing import NDArray

from pipeline.data.pixel_files import CIFAR_PARTS

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NUM_IN_BATCH = 40
FOLDER = "cifar-10-batches-bin"


def images_and_labels(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One batch: the classes in turn, each with a colour of its own under noise; images as (n, 3, 32, 32)."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(NUM_IN_BATCH) % len(CLASSES)).astype(np.uint8)
    colours = np.random.default_rng(99).integers(0, 200, (len(CLASSES), 3, 1, 1), np.uint8)
    return colours[labels] + generator.integers(0, 56, (NUM_IN_BATCH, 3, 32, 32), np.uint8), labels


def cifar_files() -> dict[str, bytes]:
    """The five training batches and the test batch, by name."""
    content = {}
    for seed, name in enumerate(name for part in CIFAR_PARTS for name in part.images):
        images, labels = images_and_labels(seed)
        content[name] = np.hstack([labels[:, None], images.reshape(NUM_IN_BATCH, -1)]).tobytes()
    return content


def tarred(content: dict[str, bytes], folder: str = FOLDER) -> bytes:
    """A tar file of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def published() -> bytes:
    """The archive with all that the real one holds, gzipped."""
    about = {"batches.meta.txt": "\n".join([*CLASSES, "", ""]).encode(), "readme.html": b"<html></html>"}
    return gzip.compress(tarred(about | cifar_files()), mtime=0)
