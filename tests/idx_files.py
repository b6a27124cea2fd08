"""Small datasets in the IDX layout, made on the spot."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.source import SourceRecord

CLASSES = ["left", "right", "both"]
NUM_TRAIN, NUM_TEST, SIZE = 60, 15, 6


def idx(array: NDArray[np.uint8]) -> bytes:
    """`array` as an IDX file."""
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def idx_files() -> dict[str, bytes]:
    """The four files of a dataset with three classes of equal size, by name."""
    generator = np.random.default_rng(0)
    content = {}
    for name, number in (("train", NUM_TRAIN), ("t10k", NUM_TEST)):
        content[f"{name}-images-idx3-ubyte"] = idx(generator.integers(0, 256, (number, SIZE, SIZE), np.uint8))
        content[f"{name}-labels-idx1-ubyte"] = idx((np.arange(number) % len(CLASSES)).astype(np.uint8))
    return content


def sha256s(content: dict[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}


def gzipped(content: dict[str, bytes]) -> dict[str, bytes]:
    """The files as a mirror serves them."""
    return {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in content.items()}


def write_files(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def write_raw(folder: Path, content: dict[str, bytes]) -> Path:
    """Write these files as `fetch` does, with `source.json`."""
    write_files(folder, content)
    SourceRecord(
        name="sides", layout="idx", found=None, asked=None, parts=None, columns=None, classes=CLASSES, licence="none",
        source="made on the spot", files=sha256s(content),
    ).write(folder)  # fmt: skip
    return folder


def change_record(folder: Path, **values: Any) -> None:
    """Write `source.json` with other values."""
    SourceRecord.read(folder).model_copy(update=values).write(folder)
