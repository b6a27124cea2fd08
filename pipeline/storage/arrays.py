"""Writes arrays to disk piece by piece, and reads them."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.storage import checksums
from pipeline.storage.atomic import NO_ROOM, room_for


def read_array(path: Path, *, mapped: bool = True) -> NDArray[Any]:
    """Read a `.npy` file, as a memory map or into memory.

    Raises:
        DamagedError: The file has changed since its folder was sealed, is cut short, or holds pickled objects.
    """
    with checksums.reading(path):
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        return array


def write_array(path: Path, dtype: str, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
    """Write a `.npy` file whose first axis comes in pieces, so that memory holds one piece at a time.

    A full disk raises an error here; under a memory map it would kill the process.

    Raises:
        DataError: The disk is full.
    """
    num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with room_for(path, num_bytes), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype=dtype).data)


@contextmanager
def reserved(path: Path, shape: tuple[int, ...], no_room: Callable[[str], DataError]) -> Iterator[int]:
    """Reserve a `.npy` file of uint8, which the block fills; gives the byte where its values begin.

    Args:
        path: File to write. If it exists, a stopped run has reserved it, and its values stay.
        shape: Shape of the array.
        no_room: Makes the error for a full disk from a clause about its free space.

    Raises:
        DataError: The disk is full.
    """
    num_bytes = int(np.prod(shape, dtype=np.int64))
    free_bytes = shutil.disk_usage(path.parent).free
    if not path.exists() and num_bytes > free_bytes:
        raise no_room(f"{free_bytes:,} are free")
    try:
        with path.open("r+b" if path.exists() else "w+b") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            begin = file.tell()
            file.truncate(begin + num_bytes)
        yield begin
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise no_room("the disk is full") from None
