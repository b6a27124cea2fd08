"""Files of plain pixels, mapped and not loaded: IDX, CIFAR-10's binary batches, and NumPy arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

MEND = "Run `dvc repro` (or `python -m pipeline.fetch`) to get the files again."

IDX_UNSIGNED_BYTE = 0x08
IDX_FILES = {
    "train": {"images": "train-images-idx3-ubyte", "labels": "train-labels-idx1-ubyte"},
    "test": {"images": "t10k-images-idx3-ubyte", "labels": "t10k-labels-idx1-ubyte"},
}

CIFAR_FILES = {
    "train": {"files": [f"data_batch_{number}.bin" for number in range(1, 6)]},
    "test": {"files": ["test_batch.bin"]},
}
CIFAR_RECORD = np.dtype([("label", np.uint8), ("planes", np.uint8, (3, 32, 32))])
"""An image's label and its red, green and blue, each row by row (https://www.cs.toronto.edu/~kriz/cifar.html)."""

ARRAY_FILES = {"train": {"images": "images.npy", "labels": "labels.npy"}}


@dataclass(frozen=True)
class Part:
    """Images that an array layout keeps together: the files, how each is mapped, its number of images; and all labels."""

    name: str
    arrays: Sequence[tuple[Path, Callable[[Path], NDArray[np.uint8]], int]]
    labels: NDArray[np.int64]


def read_idx(folder: Path, name: str, files: dict[str, str]) -> Part:
    path = folder / files["images"]
    images, labels = _map_idx(path, 3), _map_idx(folder / files["labels"], 1)
    return Part(name, [(path, _idx_images, len(images))], labels.astype(np.int64))


def _idx_images(path: Path) -> NDArray[np.uint8]:
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
    expected, found = num_header_bytes + int(np.prod(shape, dtype=object)), path.stat().st_size
    if len(header) < num_header_bytes or found != expected:
        sizes = "×".join(str(length) for length in shape)
        raise DataError(f"{path} must be {expected:,} bytes long, as its header says ({sizes}); got {found:,}. {MEND}")
    if 0 in shape:
        return np.zeros(shape, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r", offset=num_header_bytes, shape=shape)


def read_cifar(folder: Path, name: str, files: dict[str, list[str]]) -> Part:
    paths = [folder / file for file in files["files"]]
    batches = [_map_cifar(path) for path in paths]
    arrays = [(path, _cifar_images, len(batch)) for path, batch in zip(paths, batches, strict=True)]
    return Part(name, arrays, np.concatenate([batch["label"] for batch in batches]).astype(np.int64))


def _cifar_images(path: Path) -> NDArray[np.uint8]:
    return _map_cifar(path)["planes"].transpose(0, 2, 3, 1)


def _map_cifar(path: Path) -> NDArray[np.void]:
    """Map a file of `CIFAR_RECORD`s."""
    _opened(path).close()
    num_bytes = path.stat().st_size
    if num_bytes == 0 or num_bytes % CIFAR_RECORD.itemsize:
        raise DataError(
            f"{path} must be whole records of {CIFAR_RECORD.itemsize:,} bytes (a label and 3×32×32 pixels), at least one; "
            f"got {num_bytes:,} bytes. {MEND}"
        )
    return np.memmap(path, dtype=CIFAR_RECORD, mode="r")


def read_arrays(folder: Path, name: str, files: dict[str, str]) -> Part:
    path = folder / files["images"]
    images, labels = _map_array(path), _map_array(folder / files["labels"])
    if images.dtype != "uint8" or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise DataError(
            f"{path} must be uint8 of shape (n, height, width), or with 1 or 3 channels behind; got {images.dtype} of shape "
            f"{images.shape}. {MEND}"
        )
    if labels.dtype.kind not in "iu" or labels.size != len(labels):
        raise DataError(
            f"{folder / files['labels']} must be whole numbers of shape (n,); got {labels.dtype} of shape {labels.shape}. "
            f"{MEND}"
        )
    return Part(name, [(path, _array_images, len(images))], labels.reshape(-1).astype(np.int64))


def _array_images(path: Path) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] = _map_array(path)
    return images if images.ndim == 4 else images[..., None]


def _map_array(path: Path) -> NDArray[Any]:
    _opened(path).close()
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} must be a whole .npy file; got a damaged one ({error}). {MEND}") from None
    return array


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} must be there, as source.json says; there is no such file. {MEND}") from None
