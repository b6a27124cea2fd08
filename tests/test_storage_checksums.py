import json
import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.artefacts.diagnosis import ReferenceRecord
from pipeline.artefacts.job import JobRecord
from pipeline.artefacts.run import RunOrigin
from pipeline.errors import DamagedError, DataError
from pipeline.storage import checksums, mending, places
from pipeline.storage.arrays import read_array
from pipeline.storage.tables import read_csv, read_parquet_column
from pipeline.sweep import records
from tests.records import flip_byte, rewrite_record, run_origin


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "PROJECT", tmp_path / "project")
    monkeypatch.setattr(places, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    (folder / "val").mkdir(parents=True)
    (folder / "a.txt").write_text("some text")
    (folder / "val" / "b c.txt").write_text("ü")
    checksums.seal(folder)
    return folder


def test_coreutils_check_the_same_file(folder: Path) -> None:
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=folder, capture_output=True, text=True).stdout == "a.txt: OK\nval/b c.txt: OK\n"
    flip_byte(folder / "a.txt")
    assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 1


@pytest.mark.parametrize("name", ["a.txt", "val/b c.txt"])
def test_a_changed_file_and_a_lost_one_are_refused(folder: Path, name: str) -> None:
    assert checksums.read_bytes(folder / name) and checksums.is_whole(folder)
    flip_byte(folder / name)
    match = rf"out/{name} must be as it was written \(SHA-256 \w{{12}}…\); got \w{{12}}…\. Remove .*out"
    with pytest.raises(DamagedError, match=match):
        checksums.read_bytes(folder / name)
    assert not checksums.is_whole(folder)
    (folder / name).unlink()
    with pytest.raises(DamagedError, match=rf"out/{name} must be whole and readable; got no such file\. Remove"):
        checksums.read_bytes(folder / name)


def test_every_byte_of_the_checksums_counts(folder: Path) -> None:
    sums = folder / "SHA256SUMS"
    content = sums.read_bytes()
    for index in range(len(content)):
        sums.write_bytes(content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :])
        with pytest.raises(DamagedError, match="SHA256SUMS must be whole and readable; got "):
            checksums.check(folder / "a.txt")
    for length in range(len(content)):
        sums.write_bytes(content[:length])
        with pytest.raises(DamagedError, match="SHA256SUMS must be whole"):
            checksums.check(folder / "a.txt")


def test_a_file_is_hashed_once_for_each_size_and_time(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    sha256 = checksums.sha256
    monkeypatch.setattr(checksums, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    for _ in range(3):
        checksums.check(folder / "a.txt")
        checksums._found.clear()  # as in another process
    assert hashed == ["a.txt"]
    os.utime(folder / "a.txt", ns=(1, 1))
    checksums.check(folder / "a.txt")
    assert hashed == ["a.txt"] * 2
    [memory] = (cache / "checked").iterdir()
    for content in ("[1]", "{", json.dumps({"a.txt": [9, 1, "0" * 64]})):
        memory.write_text(content)
        checksums._found.clear()
        checksums.check(folder / "a.txt")
    assert hashed == ["a.txt"] * 5, "what was remembered wrongly is looked up again"


def test_without_a_place_for_notes_files_are_read_all_the_same(folder: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    checksums.check(folder / "a.txt")


def damage_to_array(path: Path, how: str) -> None:
    if how == "pickle":
        np.save(path, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    else:
        np.save(path, np.zeros((30, 4)))
        path.write_bytes(path.read_bytes()[:-50] if how == "cut" else np.random.default_rng(0).bytes(500))


@pytest.mark.parametrize("how", ["cut", "pickle", "noise"])
@pytest.mark.parametrize("mapped", [True, False])
def test_damaged_arrays_without_checksums_are_one_sentence(tmp_path: Path, how: str, mapped: bool) -> None:
    damage_to_array(tmp_path / "images.npy", how)
    with pytest.raises(
        DamagedError, match=r"images\.npy must be whole and readable; got \w+ \(.+\)\. Remove .*images\.npy, and run"
    ):
        read_array(tmp_path / "images.npy", mapped=mapped)


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (read_csv, "rows.csv"),
        (lambda path: read_parquet_column(path, "id"), "ids.parquet"),
        (checksums.read_text, "a.txt"),
    ],
)
def test_noise_in_tables_and_texts_is_one_sentence(tmp_path: Path, read: Callable[[Path], object], name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(500))
    with pytest.raises(DamagedError, match=rf"{name} must be whole and readable; got \w+ \(.+\)\. Remove"):
        read(tmp_path / name)


def test_a_record_tells_that_it_was_changed_and_older_ones_are_read(tmp_path: Path) -> None:
    JobRecord(overrides=("seed=1",), status="finished", error=None, seconds=1.5).write(tmp_path)
    path = tmp_path / "job.json"
    path.write_text(path.read_text().replace("seed=1", "seed=2"))
    with pytest.raises(
        DataError, match=r"it has changed since it was written, as its own digest tells\. Remove it, and `--resume`"
    ):
        JobRecord.read(tmp_path)
    rewrite_record(path, seconds=2.5)  # without a digest
    assert JobRecord.read(tmp_path).seconds == 2.5
    path.write_bytes(np.random.default_rng(0).bytes(200))
    with pytest.raises(DataError, match=r"job\.json must tell how the job ended; it cannot be read: .*Remove it, and"):
        JobRecord.read(tmp_path)


def test_a_cut_record_of_an_interrupted_training_is_removed_by_the_command_that_is_named(cache: Path) -> None:
    working = cache / "train-1"
    run_origin().write(working)
    path = working / "run.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(
        DamagedError, match=r"run\.json must be whole and readable; got it is no JSON .*`rm -r .*train-1/run\.json`"
    ):
        RunOrigin.read(working)


def test_a_changed_reference_is_refused(cache: Path) -> None:
    ReferenceRecord(accuracy=0.5, num_images=100).write(cache / "reference-1")
    path = cache / "reference-1" / "reference.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    with pytest.raises(
        DamagedError, match=r"reference\.json must be whole .* digest tells\. `rm -r .*reference-1/reference\.json`"
    ):
        ReferenceRecord.read(cache / "reference-1")


def test_outside_of_dvc_the_folder_is_made_again_by_hand(folder: Path) -> None:
    assert mending.remedy(folder / "a.txt", folder) == f"Remove {folder}, and run again the command that made it."


def test_a_damaged_list_of_jobs_and_request_of_a_sweep_are_one_sentence(tmp_path: Path) -> None:
    records.write_request(tmp_path / ".source", "train", ["seed=1"])
    records.write_jobs(tmp_path, [["seed=1"]])
    assert records.read_jobs(tmp_path) == [("seed=1",)] and records.read_request(tmp_path, "train") == ["seed=1"]
    for name, read, message in (
        ("jobs.json", records.read_jobs, r"jobs\.json must be whole and readable; got TypeError"),
        (
            "sweep.json",
            partial(records.read_request, stage="train"),
            "--resume must name the folder of a sweep of train",
        ),
    ):
        (tmp_path / ".source" / name).write_text("[1]")
        with pytest.raises(DataError, match=message):
            read(tmp_path)
