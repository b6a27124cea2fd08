"""The layouts of `data/`, each read into the same form without loading the images."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.errors import DataError
from pipeline.data.arrays import Joined

MEND = "Run `dvc repro` (or `python -m pipeline.fetch`) to get the files again."

IDX_UNSIGNED_BYTE = 0x08
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

CIFAR_FILES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
CIFAR_RECORD = np.dtype([("label", np.uint8), ("planes", np.uint8, (3, 32, 32))])
"""An image's label and its red, green and blue, each row by row (https://www.cs.toronto.edu/~kriz/cifar.html)."""


@dataclass(frozen=True)
class Part:
    """Images that the source keeps together.

    Attributes:
        name: `train` or `test`; begins the images' ids.
        paths: For each image, the file in `data/` that holds it.
        images: uint8 of shape (n, height, width, channels), mapped, not loaded.
        labels: int64 of shape (n,), in [0, number of classes).
    """

    name: str
    paths: list[str]
    images: NDArray[np.uint8] | Joined
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class RawDataset:
    """What `data/` holds.

    Attributes:
        name: Of the dataset.
        classes: Names, in the order of the labels.
        licence: Of the images.
        source: Where the dataset comes from, for people.
        train: The images to train on and to split.
        test: The source's own test images; None where it has none.
    """

    name: str
    classes: list[str]
    licence: str
    source: str
    train: Part
    test: Part | None


def read(folder: Path) -> RawDataset:
    """The dataset in `folder`, whichever of `LAYOUTS` its `source.json` names.

    Raises:
        DataError: `source.json` or a file is missing or damaged, or names a layout that is not known.
    """
    about = _read_about(folder / "source.json")
    layout = about["layout"]
    if layout not in LAYOUTS:
        known = ", ".join(sorted(LAYOUTS))
        raise DataError(f"layout in {folder / 'source.json'} must be one of {known}; got {layout!r}. {MEND}")
    train, test = LAYOUTS[layout](folder)
    for part in (train, test):
        if part is not None:
            _check_labels(folder, part, len(about["classes"]))
    return RawDataset(about["name"], about["classes"], about["licence"], about["source"], train, test)


def _read_about(path: Path) -> dict[str, Any]:
    keys = ("name", "layout", "classes", "licence", "source")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} must tell what the data are; there is no such file. {MEND}") from None
    except ValueError as error:
        raise DataError(f"{path} must be JSON; got something else ({error}). {MEND}") from None
    missing = [key for key in keys if not isinstance(about, dict) or key not in about]
    if missing:
        raise DataError(f"{path} must hold {', '.join(keys)}; it lacks {', '.join(missing)}. {MEND}")
    return about


def _read_idx(folder: Path) -> tuple[Part, Part | None]:
    train, test = (_idx_part(folder, name, *files) for name, files in IDX_FILES.items())
    return train, test


def _idx_part(folder: Path, name: str, images_file: str, labels_file: str) -> Part:
    images, labels = _idx(folder / images_file, 3)[..., None], _idx(folder / labels_file, 1).astype(np.int64)
    return Part(name, [images_file] * len(images), images, labels)


def _idx(path: Path, num_axes: int) -> NDArray[np.uint8]:
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


def _read_cifar(folder: Path) -> tuple[Part, Part | None]:
    train, test = (_cifar_part(folder, name, files) for name, files in CIFAR_FILES.items())
    return train, test


def _cifar_part(folder: Path, name: str, files: list[str]) -> Part:
    batches = [_cifar_batch(folder / file) for file in files]
    paths = np.repeat(files, [len(batch) for batch in batches]).tolist()
    images = Joined([batch["planes"].transpose(0, 2, 3, 1) for batch in batches])
    return Part(name, paths, images, np.concatenate([batch["label"] for batch in batches]).astype(np.int64))


def _cifar_batch(path: Path) -> NDArray[np.void]:
    """Map a file of `CIFAR_RECORD`s."""
    _opened(path).close()
    num_bytes = path.stat().st_size
    if num_bytes == 0 or num_bytes % CIFAR_RECORD.itemsize:
        raise DataError(
            f"{path} must be whole records of {CIFAR_RECORD.itemsize:,} bytes (a label and 3×32×32 pixels), at least one; "
            f"got {num_bytes:,} bytes. {MEND}"
        )
    return np.memmap(path, dtype=CIFAR_RECORD, mode="r")


def _read_arrays(folder: Path) -> tuple[Part, Part | None]:
    images = _array(folder / "images.npy", "uint8", "(n, height, width, channels)", 4)
    labels = _array(folder / "labels.npy", "int64", "(n,)", 1)
    return Part("train", ["images.npy"] * len(images), images, labels), None


def _array(path: Path, dtype: str, shape: str, num_axes: int) -> NDArray[Any]:
    _opened(path).close()
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} must be a whole .npy file; got a damaged one ({error}). {MEND}") from None
    if array.dtype != dtype or array.ndim != num_axes:
        raise DataError(f"{path} must be {dtype} of shape {shape}; got {array.dtype} of shape {array.shape}. {MEND}")
    return array


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} must be there, as source.json says; there is no such file. {MEND}") from None


def _check_labels(folder: Path, part: Part, num_classes: int) -> None:
    if len(part.images) != len(part.labels) or not len(part.labels):
        raise DataError(
            f"the {part.name} images of {folder} must be at least one, and one for each label; got "
            f"{len(part.images):,} images and {len(part.labels):,} labels. {MEND}"
        )
    wrong = np.flatnonzero((part.labels < 0) | (part.labels >= num_classes))
    if len(wrong):
        raise DataError(
            f"the labels of {folder / part.paths[wrong[0]]} must be in 0..{num_classes - 1}, as source.json names "
            f"{num_classes} classes; got {part.labels[wrong[0]]}. {MEND}"
        )


LAYOUTS: dict[str, Callable[[Path], tuple[Part, Part | None]]] = {
    "idx": _read_idx, "cifar": _read_cifar, "arrays": _read_arrays,
}  # fmt: skip
