"""Arrays on disk, written piece by piece, and read by memory map."""

from collections.abc import Iterable
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
