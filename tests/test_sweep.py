"""Sweeps: side by side, stopped, killed and taken up again. The jobs are make-believe trainings that last as told."""

import csv
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.sweep import records
from tests.conftest import ROOT, command_runner
from tests.test_train import started

PROBE = '''
"""A stage that only sleeps: its loss follows from model.dropout and the seed, its length from the tags."""
import json, os, time
from pathlib import Path

from pipeline.config.entry import run
from pipeline.config.errors import TrainingError
from pipeline.fit import history
from pipeline.sweep import pruning
from pipeline.tracking.sweep import sweep


def main(job):
    tags, config = job.config.tracking.tags, job.config
    with open("trace", "a") as trace:
        trace.write(f"{config.model.dropout} {config.seed} {os.getpid()}\\n")
    if "torch" in tags:
        import torch
        (job.out / "threads").write_text(str(torch.get_num_threads()))
    if config.optimizer.lr > 1:
        raise TrainingError("the loss must be finite; got inf.")
    rows = []
    for epoch in range(1, config.train.max_epochs + 1):
        time.sleep(float(tags.get("sleep", 0)))
        loss = (config.model.dropout - 0.2) ** 2 + 0.01 * config.seed + 1 / epoch
        rows.append({**dict.fromkeys(history.COLUMNS, 0.0), "epoch": epoch, history.VAL_LOSS: loss})
        print(f"epoch {epoch}", flush=True)
        pruning.judge(rows[-1])
    (job.out / "history.csv").write_text(history.to_csv(rows))
    import dataclasses
    record = {"best_epoch": len(rows), "mlflow_run_id": None, "config": dataclasses.asdict(config)}
    (job.out / "run.json").write_text(json.dumps(record))


if __name__ == "__main__":
    run("probe", main, sweep)
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose stage `probe` pretends to train."""
    folder = tmp_path / "project"
    for name in ("conf", "pipeline"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "params.yaml").write_text(
        "tracking: {enabled: false}\ntrain: {max_epochs: 1}\noptimizer: {name: adamw}\n"
    )
    (folder / "pipeline" / "probe.py").write_text(PROBE)
    return folder


def sweep_folder(project: Path) -> Path:
    (folder,) = project.glob("multirun/probe/[0-9]*")
    return folder


def board(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def trace(project: Path) -> list[list[str]]:
    path = project / "trace"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def statuses(folder: Path) -> list[str | None]:
    return [records.status(out) for out in records.folders(folder)]


JOBLIB = "hydra/launcher=joblib"
SIX = ("-m", "model.dropout=0,0.1,0.2", "seed=1,2")


def test_jobs_side_by_side_share_the_cores_and_print_whole_lines(project: Path) -> None:
    done = command_runner(project)(
        "pipeline.probe", *SIX, JOBLIB, "hydra.launcher.n_jobs=2", "+tracking.tags={torch: a, sleep: '0.3'}",
        OMP_NUM_THREADS="", MKL_NUM_THREADS="",
    )  # fmt: skip
    folder = sweep_folder(project)
    assert statuses(folder) == ["finished"] * 6
    lines = done.stdout[: done.stdout.index("6 jobs")].splitlines()
    assert all(re.match(r"\[\d\] (epoch 1|written to multirun/probe/.*/\d)$", line) for line in lines), lines
    cores = len(os.sched_getaffinity(0))
    assert {path.read_text() for path in folder.glob("*/threads")} == {str(max(1, cores // 2))}
    assert len({pid for _, _, pid in trace(project)}) == 2


def test_a_sweep_whose_process_was_killed_ends_its_jobs_and_is_resumed_to_the_same_table(project: Path) -> None:
    run = command_runner(project)
    slow = "+tracking.tags.sleep='1.2'"
    run("pipeline.probe", *SIX)
    undisturbed = (sweep_folder(project) / "leaderboard.csv").read_text()
    shutil.rmtree(project / "multirun")
    (project / "trace").unlink()
    command = (sys.executable, "-m", "pipeline.probe", *SIX, slow, JOBLIB, "hydra.launcher.n_jobs=2")
    with started(project, *command) as process:
        wait_until(lambda: len(trace(project)) >= 3)  # at least one is over and others are at it
        process.kill()
        process.wait()
        folder = sweep_folder(project)
        workers = {int(pid) for _, _, pid in trace(project)}
        wait_until(lambda: all(not (out / "history.csv").exists() for out in folder.glob(".*.partial")))
        wait_until(lambda: "stopped" in statuses(folder))
        before = trace(project)
        finished = [out.name for out in records.folders(folder) if records.status(out) == "finished"]
        assert finished and len(finished) < 6
    done = run("pipeline.probe", "--resume", str(folder))
    assert statuses(folder) == ["finished"] * 6
    assert len(trace(project)) - len(before) == 6 - len(finished), "finished jobs were run again"
    assert (folder / "leaderboard.csv").read_text() == undisturbed
    assert "6 jobs, sorted by val/loss" in done.stdout
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() == "running" for pid in workers)


def test_a_killed_job_is_named_and_the_sweep_is_resumed(project: Path) -> None:
    run = command_runner(project)
    run("pipeline.probe", *SIX)
    undisturbed = (sweep_folder(project) / "leaderboard.csv").read_text()
    shutil.rmtree(project / "multirun")
    (project / "trace").unlink()
    slow = "+tracking.tags.sleep='1'"
    with started(
        project, sys.executable, "-m", "pipeline.probe", *SIX, slow, JOBLIB, "hydra.launcher.n_jobs=2"
    ) as process:
        wait_until(lambda: len(trace(project)) >= 3)
        os.kill(int(trace(project)[-1][2]), signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in output
    assert re.search(
        r"error: the processes of a sweep must live as long as its jobs; TerminatedWorkerError: .* "
        r"`python -m pipeline\.probe --resume multirun/probe/.*` goes on where it was\.",
        output,
    )
    folder = sweep_folder(project)
    run("pipeline.probe", "--resume", str(folder), "hydra/launcher=basic")
    assert statuses(folder) == ["finished"] * 6
    assert (folder / "leaderboard.csv").read_text() == undisturbed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_stops_its_jobs_and_a_second_one_beside_it_is_refused(
    project: Path, number: int, code: int
) -> None:
    slow = "+tracking.tags.sleep='30'"
    with started(
        project, sys.executable, "-m", "pipeline.probe", *SIX, slow, JOBLIB, "hydra.launcher.n_jobs=2"
    ) as process:
        wait_until(lambda: len(trace(project)) == 2)
        folder = sweep_folder(project)
        refused = command_runner(project)("pipeline.probe", "--resume", str(folder), check=False)
        assert refused.returncode == 1
        assert re.search(
            rf"error: {folder} must be free; got a lock on it held by process {process.pid} ", refused.stderr
        )
        os.killpg(process.pid, number)  # as a terminal does
        output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "Traceback" not in output and "the sweep was stopped; `python -m pipeline.probe --resume" in output
    assert statuses(folder) == ["stopped", "stopped"] and len(trace(project)) == 2
    assert not any(psutil.pid_exists(int(pid)) for _, _, pid in trace(project))


def test_fail_fast_skips_what_has_not_started_side_by_side(project: Path) -> None:
    done = command_runner(project)(
        "pipeline.probe", "-m", "optimizer.lr=0.1,0.2,10,0.3,0.4", JOBLIB, "hydra.launcher.n_jobs=2",
        "fail_fast=true", "+tracking.tags.sleep='1'", check=False,
    )  # fmt: skip
    ended = statuses(sweep_folder(project))
    assert done.returncode == 1 and (ended[0], ended[2], ended[-1]) == ("finished", "failed", "skipped"), ended
    assert "[2] error: the loss must be finite" in done.stderr
    again = command_runner(project)("pipeline.probe", "--resume", str(sweep_folder(project)), check=False)
    assert again.returncode == 1 and "error: every job of the sweep must finish; 2, " in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resume", "nowhere"), r"--resume must name the folder of a sweep of probe; got '.*nowhere'\. `ls multirun"),
        (("-m", "seed=1,2", "model.dropout=interval("), r"the command line must be Hydra's; "),
        (("-m", "seed=1,2", "hydra/launcher=jobib"), r"conf/ must compose with params\.yaml; .*jobib"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused_in_one_sentence(
    project: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command_runner(project)("pipeline.probe", *arguments, check=False)
    assert done.returncode == 1 and re.search(f"^error: {message}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


def test_a_resumed_sweep_takes_no_other_jobs(project: Path) -> None:
    run = command_runner(project)
    run("pipeline.probe", "-m", "seed=1,2")
    done = run("pipeline.probe", "--resume", str(sweep_folder(project)), "seed=3", check=False)
    assert done.returncode == 1
    assert re.search(
        r"error: beside --resume there must be overrides of hydra/launcher only; got 'seed=3'\. Start a new",
        done.stderr,
    )
