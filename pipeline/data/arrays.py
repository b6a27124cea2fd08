"""Arrays on disk, written piece by piece, and read by memory map."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.storage.atomic import room_for


def write_array(path: Path, dtype: str, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
    """Write a `.npy` file whose first axis comes in pieces, so that memory holds one piece at a time.

    Unlike a file that is written through a memory map, this one tells when the disk is full instead of crashing.

    Args:
        path: The file.
        dtype: Of the array and of each piece.
        shape: Of the whole array.
        pieces: Together of shape `shape`.

    Raises:
        DataError: The disk is full.
    """
    num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with room_for(path, num_bytes), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype=dtype).data)


class Joined:
    """Images that lie in several mapped files, read by their place among all of them; what is not asked for stays on disk.

    >>> images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    >>> Joined([images[:2], images[2:]])[np.array([4, 0, 2])].ravel().tolist()
    [4, 0, 2]
    """

    def __init__(self, blocks: Sequence[NDArray[np.uint8]]) -> None:
        self._blocks = blocks
        self._ends = np.cumsum([len(block) for block in blocks])
        self.shape = (int(self._ends[-1]), *blocks[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at `indices`, in that order: uint8 of shape (n, height, width, channels)."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"indices must be in 0..{len(self) - 1}; got {indices.min()}..{indices.max()}")
        images = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        numbers = np.searchsorted(self._ends, indices, side="right")
        for number, block in enumerate(self._blocks):
            wanted = numbers == number
            images[wanted] = block[indices[wanted] - (self._ends[number] - len(block))]
        return images
