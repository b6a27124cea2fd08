"""Writes arrays to disk piece by piece."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.storage.atomic import room_for


def write_array(path: Path, dtype: str, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
    """Write a `.npy` file whose first axis comes in pieces, so that memory holds one piece at a time.

    A full disk raises an error here; under a memory map it would kill the process.

    Args:
        path: File to write.
        dtype: Type of the array and of each piece.
        shape: Shape of the whole array.
        pieces: Arrays that together have the shape `shape`.

    Raises:
        DataError: The disk is full.
    """
    num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with room_for(path, num_bytes), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype=dtype).data)
