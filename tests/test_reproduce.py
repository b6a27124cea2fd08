"""Trainings rebuilt from their commit, their data's hash and their configuration, in a project with a real history."""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from pipeline.storage.digests import sha256
from tests.conftest import command_runner
from tests.records import rewrite_record
from tests.test_train import all_runs, started

SHORT = ("train.max_epochs=1", "prepare.limit=300", "tracking.enabled=false")
SAME = "The weights are the same, bit for bit"


@pytest.fixture(scope="module")
def history(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose files are committed, with a training of a clean checkout; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("history") / "project"
    shutil.copytree(finished_project, folder, symlinks=True)
    for path in folder.glob("mlflow.db*"):  # its runs name the folder that was copied
        path.unlink()
    run = command_runner(folder)
    run("git", "add", "-A")
    run("git", "commit", "-qm", "Reproduce")
    run("pipeline.train", *SHORT)
    return folder


@pytest.fixture
def own(history: Path, tmp_path: Path) -> Path:
    """A copy of `history` for one test."""
    folder = tmp_path / "project"
    shutil.copytree(history, folder, symlinks=True)
    return folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of what the test starts, which each test finds empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def trained(project: Path) -> Path:
    """The folder of the last training by hand."""
    return max(project.glob("outputs/train/*/*"), key=lambda path: path.stat().st_mtime_ns).parent


def content(project: Path) -> dict[str, str]:
    """Every file of a project with its SHA-256, those of git and DVC included, less the bytecode of Python."""
    files = (path for path in project.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(project).as_posix(): sha256(path) for path in files}


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_clean_training_is_rebuilt_bit_for_bit_and_nothing_of_the_project_is_touched(
    history: Path, temporary: Path, tmp_path: Path
) -> None:
    training = trained(history)
    record = json.loads((training / "run.json").read_text())
    assert not record["git_dirty"] and record["changes_sha256"] is None and not (training / "changes.patch").exists()
    (history / "notes.txt").write_text("an untracked file")
    before = content(history)
    done = command_runner(history)("pipeline.reproduce", str(training), "--out", str(tmp_path / "rebuilt"))
    assert SAME in done.stdout and "although" not in done.stdout and "changes.patch" not in done.stdout
    assert content(history) == before and not list(temporary.iterdir())
    assert sha256(tmp_path / "rebuilt" / "model.ckpt") == record["weights_sha256"]


@pytest.mark.long
def test_a_training_of_changed_files_is_rebuilt_from_the_patch_that_was_kept_with_it(own: Path) -> None:
    run = command_runner(own)
    (own / "pipeline" / "model" / "extra.py").write_text('"""A module that git does not know."""\n\nSLOPE = 0.5\n')
    lenet = own / "pipeline" / "model" / "lenet.py"
    lenet.write_text(lenet.read_text() + "\n\nfrom pipeline.model.extra import SLOPE\n\nassert SLOPE == 0.5\n")
    edit(own / "params.yaml", "l2: 0.0", "l2: 0.01")
    run("git", "add", "params.yaml")
    edit(own / "conf" / "augment" / "light.yaml", "p: 0.5", "p: 0.4")
    run("pipeline.train", *SHORT)
    training = trained(own)
    assert (training / "changes.patch").exists()
    run("git", "reset", "-q", "--hard")
    run("git", "clean", "-fdq")
    (own / "params.yaml").write_text("seed: 7\n")
    before = content(own)
    done = command_runner(own)("pipeline.reproduce", str(training))
    assert "changes.patch applied" in done.stdout and SAME in done.stdout
    assert content(own) == before


@pytest.mark.slow
def test_a_missing_patch_is_named_and_what_can_be_rebuilt_is(own: Path) -> None:
    run = command_runner(own)
    with (own / "pipeline" / "training" / "batches.py").open("a") as file:
        file.write("# no other weights follow from this\n")
    run("pipeline.train", *SHORT)
    (trained(own) / "changes.patch").unlink()
    done = run("pipeline.reproduce", str(trained(own)))
    missing = "code: changes.patch, what differed from the commit, is missing from"
    assert f"reproduce: known to differ: {missing}" in done.stdout
    assert re.search(rf"{SAME}.*\nThey are, although this differs:\n  {missing}.*\n  code: the recipe", done.stdout)


@pytest.mark.slow
def test_a_child_of_a_sweep_is_rebuilt_though_other_data_are_pinned(own: Path) -> None:
    run = command_runner(own)
    edit(own / "params.yaml", "name: digits", "name: fashion_mnist")
    run("git", "commit", "-qam", "Turn to other data")
    run("pipeline.train", "-m", "data=digits", "seed=1,2", *SHORT)
    done = run("pipeline.reproduce", str(next(own.glob("multirun/train/*/1"))))
    assert SAME in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--temp",)])
def test_a_dvc_experiment_is_rebuilt_from_its_run_in_mlflow(own: Path, arguments: tuple[str, ...]) -> None:
    run = command_runner(own)
    run("dvc", "exp", "run", *arguments, "--name", "tried", "-S", "seed=5", "-S", "train.max_epochs=1")
    (tried,) = [each for each in all_runs(own) if each.data.tags.get("dvc_experiment") == "tried"]
    run("git", "checkout", "-q", "--", ".")
    done = run("pipeline.reproduce", tried.info.run_id)
    assert SAME in done.stdout


@pytest.mark.slow
def test_a_training_that_was_killed_and_went_on_is_rebuilt(own: Path) -> None:
    command = ("pipeline.train", "train.max_epochs=60", "train.early_stopping.patience=null", *SHORT[1:])
    with started(own, sys.executable, "-m", *command) as process:
        while not any(len(path.read_text().splitlines()) > 3 for path in own.glob("build/cache/train-*/history.csv")):
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    run = command_runner(own)
    assert "going on after epoch" in run(*command).stdout
    assert SAME in run("pipeline.reproduce", str(trained(own))).stdout


@pytest.mark.slow
def test_data_come_from_a_remote_and_else_from_their_source(own: Path, tmp_path: Path) -> None:
    run = command_runner(own)
    run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    run("dvc", "push", "data.dvc")
    shutil.rmtree(own / ".dvc" / "cache")
    before = content(own)
    done = run("pipeline.reproduce", str(trained(own)))
    assert "asking its remote" in done.stdout and "data/ is the one that data.dvc pinned" in done.stdout
    assert SAME in done.stdout and content(own) == before
    shutil.rmtree(tmp_path / "store")
    done = run("pipeline.reproduce", str(trained(own)))
    assert "the remote has no such data" in done.stdout and "reproduce: fetch" in done.stdout and SAME in done.stdout


@pytest.mark.slow
def test_other_data_are_named(own: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    images, run = tmp_path / "photos", command_runner(own)
    for number in range(60):
        (images / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32), dtype=np.uint8)
        cv2.imwrite(str(images / "ab"[number % 2] / f"{number}.png"), pixels)
    run("pipeline.train", "data=folder", f"data.source={images}", *SHORT)
    training = trained(own)
    assert SAME in run("pipeline.reproduce", str(training)).stdout
    for number in range(0, 60, 2):  # of class a: some of them are in the training split
        cv2.imwrite(str(images / "a" / f"{number}.png"), np.full((32, 32), number, np.uint8))
    done = run("pipeline.reproduce", str(training), check=False)
    assert done.returncode == 3 and "The weights are not the same" in done.stdout
    assert re.search(r"  data: the prepared images were \w{16}, now \w{16}", done.stdout)
    assert re.search(
        r"  \d+ of \d+ tensors differ, by [\d.e-]+ at most\n  validation accuracy was 0\.\d+, now", done.stdout
    )
    shutil.rmtree(images)
    done = run("pipeline.reproduce", str(training), check=False)
    assert done.returncode == 1 and "error: the data of this training must be somewhere; " in done.stderr
    assert f"data.source={images} gives none" in done.stderr


def test_another_library_version_is_named_before_training_and_after(own: Path, temporary: Path) -> None:
    """The stage that fails here keeps the test short: what is known to differ is said before it."""
    training = trained(own)
    record = json.loads((training / "run.json").read_text())
    rewrite_record(
        training / "run.json", versions={**record["versions"], "torch": "1.0"}, data_hash=None,
        config={**record["config"], "data": {"name": "nothing"}},
    )  # fmt: skip
    (training / "SHA256SUMS").unlink()
    before = content(own)
    done = command_runner(own)("pipeline.reproduce", str(training), check=False)
    assert "reproduce: known to differ: library version: torch was 1.0, now 2." in done.stdout
    assert done.returncode == 1 and "no hash of data/ is recorded, and data=nothing gives none" in done.stderr
    assert content(own) == before and not list(temporary.iterdir()), "the worktree must go after an error"


@pytest.mark.slow
def test_a_signal_ends_the_stage_and_removes_the_worktree(own: Path, temporary: Path) -> None:
    before = content(own)
    with started(own, sys.executable, "-m", "pipeline.reproduce", str(trained(own))) as process:
        while not list(temporary.glob("*/goodfit-*/build/prepare")):
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        output, _ = process.communicate()
        assert process.returncode == 143 and "stopped" in output
    assert content(own) == before and not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"git_commit": None}, "must be a training in a git checkout with a commit, which tells its code"),
        ({"git_commit": "f" * 40}, f"must have the commit of the training, {'f' * 40}; it has not"),
        ({"changes_sha256": "0" * 64}, "changes.patch must be as the training left it; it has changed"),
    ],
)
def test_what_cannot_be_rebuilt_is_one_sentence(
    history: Path, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    training = tmp_path / "training"
    shutil.copytree(trained(history), training)
    (training / "changes.patch").write_text("no patch")
    rewrite_record(training / "run.json", **changed)
    done = command_runner(history)("pipeline.reproduce", str(training), check=False)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_a_patch_that_does_not_apply_is_one_sentence(history: Path, tmp_path: Path, temporary: Path) -> None:
    training = tmp_path / "training"
    shutil.copytree(trained(history), training)
    (training / "changes.patch").write_text(
        "diff --git a/none.py b/none.py\n--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-a\n+b\n"
    )
    rewrite_record(training / "run.json", changes_sha256=sha256(training / "changes.patch"))
    done = command_runner(history)("pipeline.reproduce", str(training), check=False)
    assert done.returncode == 1 and "must apply to the commit of the training; it does not (none.py" in done.stderr
    assert not list(temporary.iterdir())


def test_a_folder_without_a_training_and_a_folder_that_exists_are_refused(history: Path, tmp_path: Path) -> None:
    run = command_runner(history)
    done = run("pipeline.reproduce", "conf", check=False)
    assert done.returncode == 1 and "conf must be the folder of a finished training; it has no run.json" in done.stderr
    done = run("pipeline.reproduce", "build/train", "--out", str(tmp_path), check=False)
    assert done.returncode == 1 and "--out must be a folder that does not exist yet" in done.stderr
