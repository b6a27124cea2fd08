"""The process that runs the stages which another one needs."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.stage import lineage, maker
from tests.conftest import command_runner

FOLDS = """
import json, os, signal, time
from pathlib import Path
from pipeline.config.composition import compose
from pipeline.errors import UserError
from pipeline.stage import lineage, maker

def fold(number, *overrides):
    folds = ["prepare.folds=3", f"prepare.fold={number}", *overrides]
    return compose(Path("conf"), Path("params.yaml"), ["data=digits", "augment=light", *folds])

def process():
    return maker._maker and maker._maker._process.pid

found = []
"""


def run_script(project: Path, script: str) -> tuple[list[Any], str]:
    """What a script in the project has found, and what it printed."""
    (project / "script.py").write_text(FOLDS + script + "\nPath('found.json').write_text(json.dumps(found))\n")
    done = command_runner(project)("python", "script.py", PYTHONPATH=str(project))
    found: list[Any] = json.loads((project / "found.json").read_text())
    return found, done.stdout + done.stderr


@pytest.mark.long
def test_one_process_makes_what_several_folds_need(project: Path) -> None:
    script = """
for number in range(3):
    folder = lineage.locate("augment", fold(number))
    found.append([process(), (folder / "augment.json").exists()])
    os.environ["NUMBER"] = str(number)  # as libraries set variables of theirs
"""
    found, printed = run_script(project, script)
    (pid,) = {pid for pid, _ in found}
    assert pid and all(whole for _, whole in found)
    assert printed.count("augment: ") == 3, "what stages print is shown"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.long
def test_a_stage_that_fails_or_is_killed_stops_what_needs_it_and_nothing_else(project: Path) -> None:
    script = """
def attempt(config):
    try:
        return str(lineage.locate("prepare", config))
    except UserError as error:
        return str(error)

found.append(attempt(fold(0, "prepare.on_issue.near_duplicate=fail")))
found.append(process())
found.append(attempt(fold(0)))
os.kill(process(), signal.SIGKILL)
time.sleep(0.5)
found.append(attempt(fold(1)))
"""
    found, printed = run_script(project, script)
    refused, process, *folders = found
    assert refused == "prepare must succeed before what builds on it; it failed, see above." and process is None
    assert "near_duplicate" in printed, "why it failed"
    assert all((Path(str(folder)) / "dataset.json").exists() for folder in folders) and len(folders) == 2


def test_a_process_that_nobody_asks_ends(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    code = "from pipeline.stage import maker; maker.IDLE_SECONDS = 0.1; maker.serve()"
    with ours, theirs:
        assert subprocess.run([sys.executable, "-c", code], stdin=theirs.fileno(), timeout=60).returncode == 0


def test_a_process_that_has_ended_meanwhile_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Ended:
        def run(self, stage: str, config: Path, folder: Path) -> None:
            asked.append(f"{stage} of one that has ended")

    class Fresh:
        def run(self, stage: str, config: Path, folder: Path) -> tuple[int, bool]:
            asked.append(stage)
            return 0, False

    monkeypatch.setattr(maker, "_maker", Ended())
    monkeypatch.setattr(maker, "_Maker", Fresh)
    assert maker.make("prepare", Path("config.yaml"), Path("out"))
    assert asked == ["prepare of one that has ended", "prepare"] and maker._maker is None


def test_the_cache_is_cleared_of_what_is_unused_longest_and_not_of_what_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, days in {"prepare-1": 3, "prepare-2": 2, "train-3": 0, ".prepare-4.partial": 9}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "images.npy").write_bytes(bytes(1000))
        moment = time.time() - days * 86_400
        os.utime(tmp_path / name, (moment, moment))
    gone = tmp_path / "prepare-5"  # as if another process removed it between the list and a look at it
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [*glob(path, pattern), gone])
    monkeypatch.setattr(Path, "is_dir", lambda path: path == gone or os.path.isdir(path))
    monkeypatch.setattr(lineage, "CACHE", tmp_path)
    monkeypatch.setattr(lineage, "CACHE_GIGABYTES", 2500e-9)
    lineage._prune()
    assert {path.name for path in tmp_path.iterdir()} == {"prepare-2", "train-3", ".prepare-4.partial"}
    monkeypatch.setattr(lineage, "CACHE_GIGABYTES", 0)
    lineage._prune()
    assert {path.name for path in tmp_path.iterdir()} == {"train-3", ".prepare-4.partial"}
