"""Arrays written piece by piece."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.storage.arrays import write_array


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_pieces_read_back_as_one_mapped_array(tmp_path: Path, dtype: str) -> None:
    whole = np.arange(60).reshape(5, 4, 3).astype(dtype)
    write_array(tmp_path / "a.npy", dtype, whole.shape, [whole[:2], whole[2:4, ::-1][:, ::-1], whole[4:]])
    read = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert read.dtype == dtype and np.array_equal(read, whole)
    np.save(tmp_path / "b.npy", whole)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_array_without_items_reads_back(tmp_path: Path) -> None:
    write_array(tmp_path / "a.npy", "uint8", (0, 4, 4, 1), [])
    assert np.load(tmp_path / "a.npy").shape == (0, 4, 4, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_is_named_with_the_bytes_needed(tmp_path: Path) -> None:
    (tmp_path / "a.npy").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"a\.npy must have room for 80,000 bytes; the disk is full"):
        write_array(tmp_path / "a.npy", "int64", (10_000,), [np.zeros(10_000, np.int64)])
