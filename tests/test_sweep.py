"""Sweeps: side by side, stopped, killed and taken up again. The jobs are make-believe trainings that last as told."""

import os
import re
import signal
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from pipeline.artefacts.job import JobRecord
from pipeline.sweep import records
from pipeline.sweep.plan import make_plan
from tests.conftest import command_runner
from tests.sweep_probe import copy_probe, statuses, sweep_folder, trace, wait_until
from tests.test_train import started


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_probe(tmp_path / "project")


JOBLIB = "hydra/launcher=joblib"
FOUR = ("-m", "model.dropout=0,0.1", "seed=1,2")


@pytest.mark.long
def test_jobs_side_by_side_share_the_cores_and_print_whole_lines(project: Path) -> None:
    done = command_runner(project)(
        "pipeline.probe", *FOUR, JOBLIB, "hydra.launcher.n_jobs=2", "+tracking.tags={torch: a, sleep: '0.3'}",
        OMP_NUM_THREADS="", MKL_NUM_THREADS="",
    )  # fmt: skip
    folder = sweep_folder(project)
    assert statuses(folder) == ["finished"] * 4
    lines = done.stdout[: done.stdout.index("4 jobs")].splitlines()
    assert all(re.match(r"\[\d\] (epoch 1|written to multirun/probe/.*/\d)$", line) for line in lines), lines
    cores = len(os.sched_getaffinity(0))
    assert {path.read_text() for path in folder.glob("*/threads")} == {str(max(1, cores // 2))}
    assert len({pid for _, _, pid in trace(project)}) == 2


def test_a_file_takes_what_jobs_print_where_a_variable_names_it(project: Path) -> None:
    log = project / "jobs.log"
    two = ("-m", "seed=1,2", JOBLIB, "hydra.launcher.n_jobs=2")
    done = command_runner(project)("pipeline.probe", *two, GOODFIT_JOB_LOG=str(log))
    assert "epoch 1" not in done.stdout and "2 jobs, sorted by" in done.stdout
    assert {"[0] epoch 1", "[1] epoch 1"} <= set(log.read_text().splitlines())


def test_one_job_at_a_time_runs_them_all_too(project: Path) -> None:
    """On a machine with one core, joblib starts no process."""
    done = command_runner(project)("pipeline.probe", *FOUR, JOBLIB, "hydra.launcher.n_jobs=1")
    assert statuses(sweep_folder(project)) == ["finished"] * 4
    assert "4 jobs, sorted by" in done.stdout


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["8 8", "2 2"]),
        ({"OMP_NUM_THREADS": "3"}, ["3 3", "3 3"]),
        ({"MKL_NUM_THREADS": "3"}, ["3 3", "3 3"]),
        ({"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "5"}, ["3 5", "3 5"]),
    ],
)
def test_each_batch_of_a_command_shares_the_cores_anew_unless_the_user_gives_a_number_of_threads(
    project: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: list[str]
) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    (project / ".source").mkdir()
    for name in ("conf", "params.yaml"):
        (project / name).rename(project / ".source" / name)
    threads = []
    for jobs in ([("seed=1",)], [(f"seed={seed}",) for seed in range(1, 6)]):
        records.write_jobs(project, jobs)
        overrides = [JOBLIB, "hydra.launcher.n_jobs=4", "hydra/sweeper=listed"]
        plan = make_plan("probe", project, overrides, lambda *_: None)
        with plan.workers():
            threads.append(" ".join(os.environ[name] for name in names))
        assert {name: os.environ[name] for name in names if name in os.environ} == given
    assert threads == expected


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table of a sweep that nobody killed."""
    project = copy_probe(tmp_path_factory.mktemp("undisturbed") / "project")
    command_runner(project)("pipeline.probe", *FOUR)
    return (sweep_folder(project) / "leaderboard.csv").read_text()


@pytest.mark.long
def test_a_sweep_whose_process_was_killed_ends_its_jobs_and_is_resumed_to_the_same_table(
    project: Path, undisturbed: str
) -> None:
    run = command_runner(project)
    slow = "+tracking.tags.sleep='1.2'"
    command = ("python", "-m", "pipeline.probe", *FOUR, slow, JOBLIB, "hydra.launcher.n_jobs=2")
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
        assert finished and len(finished) < 4
    done = run("pipeline.probe", "--resume", str(folder))
    assert statuses(folder) == ["finished"] * 4
    assert len(trace(project)) - len(before) == 4 - len(finished), "finished jobs were run again"
    assert (folder / "leaderboard.csv").read_text() == undisturbed
    assert "4 jobs, sorted by val/loss" in done.stdout
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() == "running" for pid in workers)


@pytest.mark.long
def test_a_killed_job_is_named_and_the_sweep_is_resumed(project: Path, undisturbed: str) -> None:
    run = command_runner(project)
    slow = "+tracking.tags.sleep='1'"
    with started(project, "python", "-m", "pipeline.probe", *FOUR, slow, JOBLIB, "hydra.launcher.n_jobs=2") as process:
        wait_until(lambda: len(trace(project)) >= 3)
        os.kill(int(trace(project)[-1][2]), signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in output
    assert re.search(
        r"error: the launcher must start every job and keep it alive; TerminatedWorkerError: .* "
        r"`python -m pipeline\.probe --resume multirun/probe/.*` goes on where it was\.",
        output,
    )
    folder = sweep_folder(project)
    run("pipeline.probe", "--resume", str(folder), "hydra/launcher=basic")
    assert statuses(folder) == ["finished"] * 4
    assert (folder / "leaderboard.csv").read_text() == undisturbed


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_stops_its_jobs_and_a_second_one_beside_it_is_refused(
    project: Path, number: int, code: int
) -> None:
    slow = "+tracking.tags.sleep='30'"
    with started(project, "python", "-m", "pipeline.probe", *FOUR, slow, JOBLIB, "hydra.launcher.n_jobs=2") as process:
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


@pytest.mark.long
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


@pytest.mark.long
def test_submitit_runs_all_jobs_at_once_and_a_failed_one_runs_again_with_another_launcher(project: Path) -> None:
    run = command_runner(project)
    submitit = ("hydra/launcher=submitit_local", "+tracking.tags={torch: a, sleep: '0.5'}")
    done = run("pipeline.probe", "-m", "optimizer.lr=0.1,0.2,10", *submitit, check=False, OMP_NUM_THREADS="")
    folder = sweep_folder(project)
    assert done.returncode == 1 and statuses(folder) == ["finished", "finished", "failed"]
    assert f"what the jobs print lies in {folder}/.submitit" in done.stdout
    logs = [path.read_text() for path in (folder / ".submitit").rglob("*_log.err")]
    assert any("[2] error: the loss must be finite" in log for log in logs)
    assert len({pid for _, _, pid in trace(project)}) == 3
    assert {path.read_text() for path in folder.glob("*/threads")} == {str(max(1, len(os.sched_getaffinity(0)) // 3))}
    again = run("pipeline.probe", "--resume", str(folder), "hydra/launcher=basic", check=False)
    assert "error: the loss must be finite" in again.stderr and len(trace(project)) == 4


def test_a_stopped_sweep_of_submitit_stops_its_jobs(project: Path) -> None:
    with started(
        project, "python", "-m", "pipeline.probe", "-m", "seed=1,2", "hydra/launcher=submitit_local",
        "+tracking.tags.sleep='30'",
    ) as process:  # fmt: skip
        wait_until(lambda: len(trace(project)) == 2)
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143 and statuses(sweep_folder(project)) == ["stopped", "stopped"]


def test_values_equal_to_those_of_params_yaml_are_told_apart_from_it(project: Path) -> None:
    with (project / "params.yaml").open("a") as file:
        file.write("seed: 1\nfail_fast: false\nmodel: {name: lenet, dropout: 0.3}\n")
    command_runner(project)("pipeline.probe", "-m", "model.dropout=0.0,0.3", "seed=1,2")
    overrides = [JobRecord.read(out).overrides for out in records.folders(sweep_folder(project))]
    assert [sorted(each) for each in overrides] == [
        ["model.dropout=0.0", "seed=1"], ["model.dropout=0.0", "seed=2"],
        ["model.dropout=0.3", "seed=1"], ["model.dropout=0.3", "seed=2"],
    ]  # fmt: skip


def test_a_project_may_lie_in_a_folder_with_any_name(tmp_path: Path) -> None:
    project = copy_probe(tmp_path / "it's (odd), a=b")
    done = command_runner(project)("pipeline.probe", "-m", "seed=1,2", JOBLIB)
    assert statuses(sweep_folder(project)) == ["finished"] * 2 and "2 jobs, sorted by" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "seed=range(0)"), r"each key of a sweep must have a value; got 'seed=range\(0\)'\. Give it some\."),
        (
            ("-m", "model.dropout=interval(0,0.5)"),
            r"model\.dropout must have values to try, such as 0,0\.1,0\.3; got 'model\.dropout=interval\(0,0\.5\)'\. "
            r"Give some, or search the interval with hydra/sweeper=optuna\.",
        ),
        (("--resume", "nowhere"), r"--resume must name the folder of a sweep of probe; got '.*nowhere'\. `ls multirun"),
        (
            ("-m", "++hydra.sweeper.params={seed: '1,2'}"),
            r"hydra\.sweeper\.params must belong to a sweeper that searches; got it without one\. Add hydra/sweeper=optuna",
        ),
        (("-m", "seed=1,2", "model.dropout=interval("), r"model\.dropout=interval\( must be in Hydra's grammar: "),
        (
            ("-m", "seed=1,2", "hydra/launcher=ray_local"),
            r"hydra/launcher must be joblib for jobs on Ray; got ray_local\. Use hydra/launcher=joblib "
            r"hydra\.launcher\.backend=ray\.$",
        ),
        (
            ("-m", "seed=1,2", "hydra/launcher=ray_cluster"),
            r"hydra/launcher must be joblib for jobs on Ray; got ray_cluster\. Use hydra/launcher=joblib "
            r"hydra\.launcher\.backend=ray, with RAY_ADDRESS=host:port in the environment\.$",
        ),
        (
            ("-m", "seed=1,2", JOBLIB, "hydra.launcher.backend=threads"),
            r"hydra\.launcher\.backend must be loky, ray or dask; got 'threads'\. Set hydra\.launcher\.backend=loky",
        ),
        (
            ("-m", "seed=1,2", JOBLIB, "hydra.launcher.n_jobs=0"),
            r"hydra\.launcher\.n_jobs must be a whole number, -1 for all cores; got 0\. Set another one\.",
        ),
        *(
            pytest.param(
                ("-m", "seed=1,2", JOBLIB, f"hydra.launcher.backend={backend}"),
                rf"hydra\.launcher\.backend={backend} needs the package of {backend} \(.*\)\. Install it with `pip install",
                marks=pytest.mark.skipif(find_spec(package) is not None, reason=f"{package} is installed"),
            )
            for backend, package in (("ray", "ray"), ("dask", "distributed"))
        ),
        (("-m", "seed=1,2", "hydra/launcher=jobib"), r"conf/ must compose with params\.yaml; .*jobib"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused_in_one_sentence(
    project: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command_runner(project)("pipeline.probe", *arguments, check=False)
    assert done.returncode == 1 and re.search(f"^error: {message}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(project.glob("multirun/probe/[0-9]*")), "something is left of a sweep that never began"


def test_a_resumed_sweep_takes_no_other_jobs(project: Path) -> None:
    run = command_runner(project)
    run("pipeline.probe", "-m", "seed=1,2")
    done = run("pipeline.probe", "--resume", str(sweep_folder(project)), "seed=3", check=False)
    assert done.returncode == 1
    assert re.search(
        r"error: beside --resume there must be overrides of hydra/launcher only; got 'seed=3'\. Start a new",
        done.stderr,
    )
