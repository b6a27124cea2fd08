"""Training as a user runs it: by hand, in a sweep, killed, and taken up again."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.artefacts.run import RunOrigin
from pipeline.metrics import history
from pipeline.stage import lineage
from tests.conftest import command_runner, environment, programs
from tests.fork_server import Forked
from tests.sweep_probe import wait_until


def all_runs(project: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return list(client.search_runs([client.get_experiment_by_name("goodfit").experiment_id]))


def without_seconds(path: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.read_csv(path)]


@contextmanager
def started(project: Path, *command: str, **variables: str) -> Iterator[Any]:
    """A command that runs in a process group of its own, which is killed at the end of the block.

    `dvc` and `python` with -m or -c are forks with what `subprocess.Popen` has; any other command is a process of its own.
    """
    if command[0] in ("dvc", "python"):
        module = command if command[0] == "dvc" else command[1:] if command[1] == "-c" else command[2:]
        forked = Forked(programs(), module, cwd=project, env=environment() | variables)
        try:
            yield forked
        finally:
            with suppress(ProcessLookupError):
                os.killpg(forked.pid, signal.SIGKILL)
            forked.close()
        return
    with subprocess.Popen(
        command, cwd=project, env=environment() | variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for_epoch(project: Path, epoch: int) -> None:
    """Wait until an interrupted or running training has that many rows in its history."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for path in project.glob("build/cache/train-*/history.csv"):
            if len(path.read_text().splitlines()) > epoch:
                return
        time.sleep(0.02)
    raise AssertionError(f"no training reached epoch {epoch}")


def has_run(project: Path) -> bool:
    """Tell whether the training that is under way has got its run in the tracking store."""
    return any(RunOrigin.read(path.parent).mlflow_run_id for path in project.glob("build/cache/train-*/run.json"))


@pytest.mark.long
def test_a_sweep_is_a_parent_run_with_a_child_for_each_job(ready: Path) -> None:
    run = command_runner(ready)
    varied = ("model.dropout=0,0.3", "optimizer.lr=0.003,1e30", "train.max_epochs=1")
    with started(ready, "python", "-m", "pipeline.train", "-m", *varied) as process:
        output = ""
        for line in process.stdout:
            output += line
            if line.startswith("written to"):  # the first job is over, others wait: edits must not reach them
                params = (ready / "params.yaml").read_text()
                (ready / "params.yaml").write_text(params.replace("seed: 0", "seed: 77"))
                for path in (ready / "conf" / "model").glob("*.yaml"):
                    path.write_text("broken: [")
        assert process.wait() == 1
    assert output.count("error: the loss must be finite") == 2 and "2 jobs of" not in output
    assert re.search(r"error: every job of the sweep must finish; 1, 3 did not, see above and .*multirun", output)
    table = output[output.index("4 jobs, sorted by val/loss") :]
    assert "failed" in table and "TrainingError" in table and "model.dropout=0.3" in table
    runs = all_runs(ready)
    parent = next(run for run in runs if "goodfit.sweep" in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.info.status == "FAILED" and len(runs) == 5 and len(children) == 4
    assert sorted(child.info.status for child in children) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert {child.data.params["seed"] for child in children} == {"0"}
    failed = next(child for child in children if child.info.status == "FAILED")
    assert "the loss must be finite" in failed.data.tags["goodfit.error"]
    best = min(
        (child for child in children if child.info.status == "FINISHED"), key=lambda c: c.data.metrics["val/loss"]
    )
    assert parent.data.tags["goodfit.winner"] == best.info.run_id
    assert run("git", "status", "--porcelain").stdout, "the edits are there"


def test_fail_fast_stops_a_sweep_at_its_first_failure(ready: Path) -> None:
    done = command_runner(ready)(
        "pipeline.train", "-m", "optimizer.lr=1e30,0.003", "train.max_epochs=1", "fail_fast=true",
        "tracking.enabled=false", check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "skipped" in done.stdout
    first, second = (json.loads(path.read_text()) for path in sorted(ready.glob("multirun/train/*/*/job.json")))
    assert first["status"] == "failed" and first["error"].startswith("TrainingError: the loss must be finite")
    assert second["status"] == "skipped" and second["error"] == "an earlier job failed and fail_fast is true"
    assert not list(ready.glob("multirun/train/*/1/model.ckpt")) and not (ready / "mlflow.db").exists()


@pytest.mark.slow
def test_fifty_jobs_in_one_process_need_little_more_memory_than_one(ready: Path) -> None:
    megabytes: list[float] = []
    jobs = ("seed=range(50)", "train.max_epochs=1")
    with started(ready, sys.executable, "-m", "pipeline.train", "-m", *jobs) as process:
        watched = psutil.Process(process.pid)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("written to"):
                megabytes.append(watched.memory_info().rss / 1e6)
        assert process.wait() == 0
    assert len(megabytes) == 50
    assert megabytes[-1] - megabytes[0] < 100, megabytes


@pytest.mark.long
def test_a_job_trains_on_data_made_with_its_own_configuration(ready: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (ready / "build" / "prepare").rglob("*")}
    done = command_runner(ready)(
        "pipeline.train", "prepare.limit=100", "augment=none", "train.max_epochs=1", "tracking.enabled=false"
    )
    assert "prepare has not run with this configuration yet" in done.stdout
    out = next(ready.glob("outputs/train/*"))
    record, signals = (json.loads((out / name).read_text()) for name in ("run.json", "signals.json"))
    (cached,) = ready.glob("build/cache/prepare-*")
    assert lineage.content("prepare", cached) == record["prepare_fingerprint"]
    assert signals["num_train"] == 100 == sum(json.loads((cached / "dataset.json").read_text())["counts"]["train"])
    assert before == {path: path.stat().st_mtime_ns for path in (ready / "build" / "prepare").rglob("*")}
    again = command_runner(ready)(
        "pipeline.train", "prepare.limit=100", "augment=none", "train.max_epochs=1", "tracking.enabled=false"
    )
    assert "has not run" not in again.stdout
    evaluated = command_runner(ready)("pipeline.evaluate", f"evaluate.training={out}", "tracking.enabled=false")
    assert "Test accuracy" in evaluated.stdout


@pytest.mark.parametrize(
    ("number", "status", "code"), [(signal.SIGTERM, "KILLED", 143), (signal.SIGINT, "KILLED", 130)]
)
def test_a_training_stopped_by_a_signal_leaves_its_run_killed_and_nothing_half_written(
    ready: Path, number: int, status: str, code: int
) -> None:
    long = ("train.max_epochs=500", "train.early_stopping.patience=null")
    with started(ready, "python", "-m", "pipeline.train", *long) as process:
        wait_for_epoch(ready, 3)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert [run.info.status for run in all_runs(ready)] == ["KILLED"]
    assert "Traceback" not in output
    assert not list(ready.glob("outputs/train/*/*")) and not list(ready.glob("outputs/train/.*partial"))


STAGE = ("python", "-m", "pipeline.train", "--config", "build/config.yaml")
REPRO = ("dvc", "repro", "--force", "--single-item", "train")


def kill_and_repeat(project: Path, command: tuple[str, ...], kills: int, seed: int) -> None:
    """Compare a training of `dvc repro` with one killed at random moments, in weights, history and its MLflow run."""
    run = command_runner(project)
    chances = random.Random(seed)
    params = (project / "params.yaml").read_text()
    longer = params.replace("max_epochs: 2", "max_epochs: 12")
    (project / "params.yaml").write_text(longer)
    run("dvc", "repro", "train")
    undisturbed = {name: (project / "build" / "train" / name).read_bytes() for name in ("model.ckpt",)}
    rows = without_seconds(project / "build" / "train" / "history.csv")
    for path in project.glob("mlflow.db*"):
        path.unlink()
    for _ in range(kills):
        if command == STAGE:
            shutil.rmtree(project / "build" / "train", ignore_errors=True)  # as DVC does
        with started(project, *command) as process:
            wait_for_training(project, process)
            time.sleep(chances.uniform(0, 2.5))
    done = run(*REPRO)
    assert "going on after epoch" in done.stdout
    assert (project / "build" / "train" / "model.ckpt").read_bytes() == undisturbed["model.ckpt"]
    assert without_seconds(project / "build" / "train" / "history.csv") == rows
    (tracked,) = all_runs(project)
    assert tracked.info.status == "FINISHED"
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    points = client.get_metric_history(tracked.info.run_id, history.VAL_LOSS)
    assert [(point.step, point.value) for point in points] == [(row["epoch"], row[history.VAL_LOSS]) for row in rows]
    assert not list(project.glob("build/cache/train-*"))


def wait_for_training(project: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 240
    while not list(project.glob("build/cache/train-*/run.json")) and time.monotonic() < deadline:
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.02)
    if not list(project.glob("build/cache/train-*/last.ckpt")):
        wait_for_epoch(project, 1)


@pytest.mark.long
def test_a_training_killed_twice_ends_as_one_left_alone(ready: Path) -> None:
    kill_and_repeat(ready, STAGE, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_killed_seven_times_ends_as_one_left_alone(ready: Path) -> None:
    kill_and_repeat(ready, REPRO, kills=7, seed=1)


@pytest.mark.long
def test_an_orphaned_trainer_is_named_by_the_one_that_follows(ready: Path) -> None:
    (ready / "params.yaml").write_text((ready / "params.yaml").read_text().replace("max_epochs: 2", "max_epochs: 3000"))
    with started(ready, "dvc", "repro") as process:
        wait_for_epoch(ready, 1)
        process.kill()  # dvc dies; its trainer lives on
        process.wait()
        refused = command_runner(ready)("dvc", "repro", check=False)
    assert refused.returncode != 0
    assert re.search(
        r"error: .*build/train must be free; got a lock on it held by process \d+ .*kill \d+", refused.stderr
    )


TOGETHER = ("train.devices=2", "augment=none", "model.dropout=0")


@pytest.mark.slow
@pytest.mark.parametrize("torchrun", [False, True])
def test_two_processes_leave_one_run_and_the_history_of_one_process(ready: Path, torchrun: bool) -> None:
    run = command_runner(ready)
    run("pipeline.train", "augment=none", "model.dropout=0", "tracking.enabled=false")
    (alone,) = ready.glob("outputs/train/*")
    starting = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m") if torchrun else ()
    command = [sys.executable, "-m", *starting, "pipeline.train", *TOGETHER]
    done = subprocess.run(command, cwd=ready, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("epoch")] == ["1/2", "2/2"]
    (out,) = set(ready.glob("outputs/train/*")) - {alone}
    assert {path.name for path in out.iterdir()} == {path.name for path in alone.iterdir()}
    assert not list(ready.glob("build/cache/train-*")) and not list(ready.glob("outputs/train/.*"))
    rows = without_seconds(out / "history.csv")
    for one, two in zip(without_seconds(alone / "history.csv"), rows, strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-7)
    (tracked,) = all_runs(ready)
    assert tracked.info.status == "FINISHED"
    client = MlflowClient(f"sqlite:///{ready / 'mlflow.db'}")
    points = client.get_metric_history(tracked.info.run_id, history.VAL_LOSS)
    assert [(point.step, point.value) for point in points] == [(row["epoch"], row[history.VAL_LOSS]) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number", "code", "status"),
    [
        ("leader", signal.SIGTERM, 143, "KILLED"),
        ("group", signal.SIGINT, 130, "KILLED"),
        ("follower", signal.SIGKILL, 1, "FAILED"),
        ("leader", signal.SIGKILL, -9, "RUNNING"),
    ],
)
def test_all_processes_of_a_training_end_together_and_it_goes_on(
    ready: Path, victim: str, number: int, code: int, status: str
) -> None:
    long = (*TOGETHER, "train.max_epochs=60", "train.early_stopping.patience=null")
    with started(ready, sys.executable, "-m", "pipeline.train", *long) as process:
        wait_for_epoch(ready, 3)
        wait_until(lambda: has_run(ready))  # the store may answer after the first epochs
        (follower,) = [
            child for child in psutil.Process(process.pid).children() if "pipeline.train" in " ".join(child.cmdline())
        ]
        if victim == "group":
            os.killpg(process.pid, number)
        else:
            os.kill(follower.pid if victim == "follower" else process.pid, number)
        output, _ = process.communicate(timeout=60)
        psutil.wait_procs([follower], timeout=10)
        assert not follower.is_running() or follower.status() == psutil.STATUS_ZOMBIE
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert ("number 2 was ended by SIGKILL. The same command goes on" in output) == (victim == "follower")
    assert [run.info.status for run in all_runs(ready)] == [status]
    again = command_runner(ready)("pipeline.train", *long)
    epochs = [int(number) for number in re.findall(r"^epoch +(\d+)/", again.stdout, re.MULTILINE)]
    assert "going on after epoch" in again.stdout and epochs[0] >= 3 and epochs[-1] == 60
    (finished,) = all_runs(ready)
    assert finished.info.status == "FINISHED"
    points = MlflowClient(f"sqlite:///{ready / 'mlflow.db'}").get_metric_history(finished.info.run_id, history.VAL_LOSS)
    assert [point.step for point in points] == list(range(1, 61))


@pytest.mark.slow
def test_jobs_of_a_sweep_in_workers_of_joblib_have_processes_of_their_own(ready: Path) -> None:
    command_runner(ready)("pipeline.train", "-m", "hydra/launcher=joblib", "seed=0,1", *TOGETHER)
    assert [run.info.status for run in all_runs(ready)] == ["FINISHED"] * 3
    assert len(list(ready.glob("multirun/train/*/*/model.ckpt"))) == 2


def test_a_sweep_under_torchrun_is_refused(ready: Path) -> None:
    refused = command_runner(ready)(
        "pipeline.train", "-m", "seed=0,1", check=False, TORCHELASTIC_RUN_ID="none", RANK="0"
    )
    assert refused.returncode == 1
    assert re.search(r"error: torchrun must start a single training; got a sweep\. Leave torchrun out", refused.stderr)
