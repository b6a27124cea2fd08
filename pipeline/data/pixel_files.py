"""Maps files of plain pixels without loading them: IDX, CIFAR-10's binary batches, and NumPy arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.source import SourcePart
from pipeline.errors import DataError

MEND = "Run `dvc repro` (or `python -m pipeline.fetch`) to get the files again."

IDX_UNSIGNED_BYTE = 0x08
IDX_PARTS = [
    SourcePart(split="train", images=["train-images-idx3-ubyte"], labels="train-labels-idx1-ubyte"),
    SourcePart(split="test", images=["t10k-images-idx3-ubyte"], labels="t10k-labels-idx1-ubyte"),
]

CIFAR_PARTS = [
    SourcePart(split="train", images=[f"data_batch_{number}.bin" for number in range(1, 6)]),
    SourcePart(split="test", images=["test_batch.bin"]),
]
CIFAR_RECORD = np.dtype([("label", np.uint8), ("planes", np.uint8, (3, 32, 32))])
"""An image's label and its red, green and blue, each row by row (https://www.cs.toronto.edu/~kriz/cifar.html)."""

ARRAY_PARTS = [SourcePart(split="train", images=["images.npy"], labels="labels.npy")]


@dataclass(frozen=True)
class LabelledArrays:
    """Arrays of images of one split, with the labels of all, int64 of shape (n,)."""

    split: str
    arrays: Sequence[tuple[Path, Callable[[Path], NDArray[np.uint8]], int]]
    """Files, each with the function that maps its images, and their number."""
    labels: NDArray[np.int64]


def read_idx(folder: Path, part: SourcePart) -> LabelledArrays:
    path = folder / part.images[0]
    images, labels = _map_idx(path, 3), _map_idx(_labels(folder, part), 1)
    return LabelledArrays(part.split, [(path, idx_images, len(images))], labels.astype(np.int64))


def idx_images(path: Path) -> NDArray[np.uint8]:
    """Map the images of an IDX file, of shape (n, height, width, 1)."""
    return _map_idx(path, 3)[..., None]


def _map_idx(path: Path, num_axes: int) -> NDArray[np.uint8]:
    """Map an IDX file of unsigned bytes: two zeros, the type, the number of axes, each length as 4 bytes, the values.

    The format is described in http://yann.lecun.com/exdb/mnist (section "The IDX file format").
    """
    num_header_bytes = 4 + 4 * num_axes
    with _opened(path) as file:
        header = file.read(num_header_bytes)
    magic = bytes([0, 0, IDX_UNSIGNED_BYTE, num_axes])
    if header[:4] != magic:
        raise DataError(
            f"{path} must begin with the IDX header {magic.hex()}; got {header[:4].hex() or 'nothing'}. {MEND}"
        )
    shape = tuple(int.from_bytes(header[start : start + 4], "big") for start in range(4, num_header_bytes, 4))
    expected, actual = num_header_bytes + int(np.prod(shape, dtype=object)), path.stat().st_size
    if len(header) < num_header_bytes or actual != expected:
        sizes = "×".join(str(length) for length in shape)
        raise DataError(f"{path} must be {expected:,} bytes long, as its header says ({sizes}); got {actual:,}. {MEND}")
    if 0 in shape:
        return np.zeros(shape, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r", offset=num_header_bytes, shape=shape)


def read_cifar(folder: Path, part: SourcePart) -> LabelledArrays:
    paths = [folder / name for name in part.images]
    batches = [_map_cifar(path) for path in paths]
    arrays = [(path, cifar_images, len(batch)) for path, batch in zip(paths, batches, strict=True)]
    return LabelledArrays(part.split, arrays, np.concatenate([batch["label"] for batch in batches]).astype(np.int64))


def cifar_images(path: Path) -> NDArray[np.uint8]:
    """Map the images of a binary batch, of shape (n, 32, 32, 3)."""
    return _map_cifar(path)["planes"].transpose(0, 2, 3, 1)


def _map_cifar(path: Path) -> NDArray[np.void]:
    """Map a file with records of the type `CIFAR_RECORD`."""
    _opened(path).close()
    num_bytes = path.stat().st_size
    if num_bytes == 0 or num_bytes % CIFAR_RECORD.itemsize:
        raise DataError(
            f"{path} must be whole records of {CIFAR_RECORD.itemsize:,} bytes (a label and 3×32×32 pixels), at least one; "
            f"got {num_bytes:,} bytes. {MEND}"
        )
    return np.memmap(path, dtype=CIFAR_RECORD, mode="r")


def read_arrays(folder: Path, part: SourcePart) -> LabelledArrays:
    path, labels_path = folder / part.images[0], _labels(folder, part)
    images, labels = map_array(path), map_array(labels_path)
    if images.dtype != "uint8" or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise DataError(
            f"{path} must be uint8 of shape (n, height, width), or with 1 or 3 channels behind; got {images.dtype} of shape "
            f"{images.shape}. {MEND}"
        )
    if labels.dtype.kind not in "iu" or labels.size != len(labels):
        raise DataError(
            f"{labels_path} must be whole numbers of shape (n,); got {labels.dtype} of shape {labels.shape}. {MEND}"
        )
    return LabelledArrays(part.split, [(path, array_images, len(images))], labels.reshape(-1).astype(np.int64))


def array_images(path: Path) -> NDArray[np.uint8]:
    images = map_array(path)
    return images if images.ndim == 4 else images[..., None]


def map_array(path: Path) -> NDArray[Any]:
    """Map a .npy file."""
    _opened(path).close()
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} must be a whole .npy file; got a damaged one ({error}). {MEND}") from None


LAYOUTS: dict[str, tuple[Callable[[Path, SourcePart], LabelledArrays], list[SourcePart]]] = {
    "idx": (read_idx, IDX_PARTS), "cifar": (read_cifar, CIFAR_PARTS), "arrays": (read_arrays, ARRAY_PARTS),
}  # fmt: skip
"""Layouts of plain pixels: the function that reads a part, and the parts under their usual names."""


def _labels(folder: Path, part: SourcePart) -> Path:
    if part.labels is None:
        raise DataError(f"source.json must name the file with the labels of {part.images[0]}; it names none. {MEND}")
    return folder / part.labels


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} must be there, as source.json says; there is no such file. {MEND}") from None
