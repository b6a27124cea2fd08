import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.composition import compose
from pipeline.errors import BusyError
from pipeline.stage import drafts, lineage
from pipeline.storage import atomic, lock, places


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic.folder(target) as scratch:
        (scratch / "a").write_text("new")
        assert not target.exists()
    assert (target / "a").read_text() == "new" and os.listdir(tmp_path) == ["out"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "a").write_text("old")
    with pytest.raises(RuntimeError, match="broken"), atomic.folder(target) as scratch:
        (scratch / "a").write_text("half")
        raise RuntimeError("broken")
    assert (target / "a").read_text() == "old" and os.listdir(tmp_path) == ["out"]


def test_a_folder_takes_the_place_of_the_old_one_and_of_a_killed_attempt(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for folder in (target, tmp_path / ".out.partial", tmp_path / ".out.replaced.partial"):
        folder.mkdir()
        (folder / "left over").touch()
    with atomic.folder(target) as scratch:
        (scratch / "a").touch()
    assert os.listdir(target) == ["a"] and os.listdir(tmp_path) == ["out"]


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic.write_text(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: '.*file'"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


HOLD = """
import sys, time
from pathlib import Path
from pipeline.storage import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "train"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        expected = rf"train must be free; got a lock on it held by process {holder.pid} \(-c .*kill {holder.pid}"
        with pytest.raises(BusyError, match=expected), lock.held(path):
            pass
        holder.send_signal(signal.SIGKILL)
    with lock.held(path):
        pass
    assert not (tmp_path / ".train.holder").exists()


DRAFTS = """
import os, sys, time
from pathlib import Path
from pipeline.storage import atomic, lock
folder = Path(sys.argv[1])
replace = os.replace
os.replace = lambda *names: (print("held", flush=True), time.sleep(60))
with lock.held(folder / "out"), atomic.folder(folder / "out") as scratch:
    (scratch / "half").touch()
    atomic.write_text(folder / "record.json", "{}")
"""


def test_drafts_of_a_killed_process_are_swept_and_those_of_a_running_one_stay(tmp_path: Path) -> None:
    def names() -> set[str]:
        return {
            path.name.replace(path.name[13:-8], "…") if "record" in path.name else path.name
            for path in tmp_path.iterdir()
        }

    left = {".out.partial", ".out.holder", ".record.json.….partial"}
    with subprocess.Popen([sys.executable, "-c", DRAFTS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        for sweep in (atomic.sweep, lock.sweep):
            sweep(tmp_path)
        assert names() == {*left, ".out.lock"}
        process.send_signal(signal.SIGKILL)
    assert names() == {*left, ".out.lock"}
    for sweep in (atomic.sweep, lock.sweep):
        sweep(tmp_path)
    assert names() == {".out.lock"}


def test_a_start_sweeps_the_folders_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ROOT", tmp_path)
    kept, left = tmp_path / "build" / "cache" / "fetch" / "abc.partial", []
    for name in (
        ".downloads",
        "build/.train",
        "build/cache/train-1/.last.ckpt.x",
        "outputs/train/.1",
        "multirun/train/1/.0",
    ):
        left.append(tmp_path / f"{name}.partial")
    for path in (kept, *left):
        path.mkdir(parents=True)
    drafts.sweep()
    assert kept.exists() and not [path for path in left if path.exists()]


def test_the_hash_of_a_folder_depends_on_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = lineage.hash_folder(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    renamed = lineage.hash_folder(tmp_path / "a")
    (tmp_path / "a" / "y").write_text("2")
    assert len({first, renamed, lineage.hash_folder(tmp_path / "a")}) == 3


def test_how_many_processes_make_copies_and_where_changes_no_fingerprint() -> None:
    config = compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", ["augment=light"])
    elsewhere, other = (
        config.model_copy(update={"augment": config.augment.model_copy(update=changes)})
        for changes in ({"workers": 8, "backend": "ray"}, {"copies": 8})
    )
    first = lineage.fingerprint("augment", config, {"prepare": "0123456789abcdef"})
    assert lineage.fingerprint("augment", elsewhere, {"prepare": "0123456789abcdef"}) == first
    assert lineage.fingerprint("augment", other, {"prepare": "0123456789abcdef"}) != first
