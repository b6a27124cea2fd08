"""Arrays written piece by piece."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.errors import DataError
from pipeline.data.arrays import Joined, write_array


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


def test_joined_images_read_as_one_array_from_maps(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (9, 3, 2, 4), np.uint8)
    blocks = []
    for begin, end in ((0, 4), (4, 5), (5, 9)):
        np.save(tmp_path / f"{begin}.npy", whole[begin:end])
        blocks.append(np.load(tmp_path / f"{begin}.npy", mmap_mode="r").transpose(0, 2, 3, 1))
    joined, expected = Joined(blocks), whole.transpose(0, 2, 3, 1)
    assert joined.shape == expected.shape and len(joined) == 9
    for indices in (np.arange(9), np.array([8, 0, 4, 4, 3, 5]), np.array([], dtype=np.int64)):
        assert np.array_equal(joined[indices], expected[indices])
    for outside in (-1, 9):
        with pytest.raises(IndexError, match=rf"indices must be in 0\.\.8; got .*{outside}"):
            joined[np.array([2, outside])]
