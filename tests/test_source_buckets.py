"""Files of a bucket: outages, wrong options, and several requests at once."""

import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.source.user_source import opened
from tests.test_source_hostile import IMAGES, as_folder, content, fetched


def in_memory(files: Mapping[str, bytes]) -> str:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, data in files.items():
        memory.pipe_file(f"/lab/photos/{name}", data)
    return "memory://lab/photos"


def test_outage_of_a_bucket_does_not_pass_for_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    address, cat_file = in_memory(IMAGES), MemoryFileSystem.cat_file
    assert len(fetched(tmp_path, address, "before").ids) == 8

    def cut(self: MemoryFileSystem, path: str, **options: Any) -> Any:
        if path.endswith("ant/3.png"):
            raise FileNotFoundError("gone")
        if path.endswith("bee/2.png"):
            raise TimeoutError("the network is away")
        return cat_file(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cut)
    with pytest.raises(
        DataError, match=r"must stay at hand; bee/2\.png of memory://.* cannot be read: the network is away"
    ):
        fetched(tmp_path, address)
    monkeypatch.setattr(
        MemoryFileSystem, "cat_file", lambda self, path, **options: cut(self, path.replace("bee/2", "bee/1"))
    )
    assert [row["path"] for row in fetched(tmp_path, address, "two").skipped] == ["ant/3.png"], (
        "one that is gone is a row"
    )


def test_wrong_options_for_a_bucket_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(self: object, *arguments: Any, **options: Any) -> None:
        raise ValueError("Invalid endpoint: nowhere")

    monkeypatch.setattr(MemoryFileSystem, "find", refuse)
    with (
        pytest.raises(
            DataError, match=r"memory://lab cannot: Invalid endpoint: nowhere\. Correct the address, or give"
        ),
        opened("memory://lab", {}, 10**9),
    ):
        pass


def test_an_error_that_quotes_an_option_or_an_address_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(self: object, *arguments: Any, **options: Any) -> None:
        raise ValueError("no account for s3cret at https://me:s3cret2@h?sig=s3cret3")

    monkeypatch.setattr(MemoryFileSystem, "find", refuse)
    shown = r"memory://\*\*\*@lab cannot: no account for \*\*\* at https://\*\*\*@h\?sig=\*\*\*\. Correct"
    with pytest.raises(DataError, match=shown), opened("memory://me:s3cret4@lab", {"secret": "s3cret"}, 10**9):
        pass


def test_files_of_a_bucket_are_read_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    address, cat_file = (
        in_memory({f"{place % 2}/{place:03}.png": bytes([place]) for place in range(100)}),
        MemoryFileSystem.cat_file,
    )
    lock, now, most = threading.Lock(), 0, 0

    def slow(self: MemoryFileSystem, path: str, **options: Any) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1
        return cat_file(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", slow)
    dataset = fetched(tmp_path, address)
    assert {name: data for name, (data, *_) in content(dataset).items()} == {
        f"{place % 2}/{place:03}.png": bytes([place]) for place in range(100)
    }
    assert dataset.ids == sorted(dataset.ids) and 4 < most <= 16


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz"])
def test_an_archive_in_a_bucket_is_opened(name: str, tmp_path: Path) -> None:
    import fsspec

    photos = as_folder(tmp_path / "photos", IMAGES)
    kind = {"photos.zip": "zip", "photos.tar.gz": "gztar"}[name]
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), kind, photos)).read_bytes()
    fsspec.filesystem("memory").pipe_file(f"/lab/{name}", packed)
    assert content(fetched(tmp_path, f"memory://lab/{name}")) == content(fetched(tmp_path, photos, "folder"))
    with pytest.raises(
        DataError, match=r"data\.source must be at most 1e-07 GB \(data\.max_gigabytes\); memory://lab/photos"
    ):
        fetched(tmp_path, f"memory://lab/{name}", "large", max_gigabytes=1e-7)


def test_a_folder_in_a_bucket_may_be_named_like_an_archive(tmp_path: Path) -> None:
    import fsspec

    for path, data in IMAGES.items():
        fsspec.filesystem("memory").pipe_file(f"/lab/old.zip/{path}", data)
    assert len(fetched(tmp_path, "memory://lab/old.zip").ids) == 8
