"""Sweeps of real trainings: many processes on one fresh store, and kills from which the same table comes."""

import csv
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import RunStatus

from pipeline.artefacts.job import STOPPED
from pipeline.config.schema import Tracking
from pipeline.metrics import history
from pipeline.sweep import records
from pipeline.tracking.live import LiveRun
from tests.conftest import command_runner
from tests.records import run_origin
from tests.sweep_probe import wait_until
from tests.test_train import all_runs, started, wait_for_epoch

NUM_PROCESSES, NUM_EPOCHS = 8, 20


def live_run(uri: str, number: int, together: Barrier) -> None:
    """Send a run as a training does, from a process of its own, and end it as a training does."""
    together.wait()
    run = LiveRun(
        Tracking(enabled=True, uri=uri, experiment="stress", tags={}),
        run_origin(id=str(number), name=str(number)),
        lambda _: None,
    )
    for epoch in range(1, NUM_EPOCHS + 1):
        run.log_row({**dict.fromkeys(history.COLUMNS, float(number)), "epoch": epoch}, 1000 + epoch)
    store = run.close()
    assert store is not None, run.failure
    store.client.set_terminated(str(run.run_id), "FINISHED")


@pytest.mark.parametrize("rounds", [pytest.param(1, marks=pytest.mark.long), pytest.param(20, marks=pytest.mark.slow)])
def test_eight_processes_on_one_fresh_store_lose_no_run_and_no_metric(tmp_path: Path, rounds: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.tracking", "pipeline.tracking.live", __name__]
    )
    for number in range(rounds):
        uri, together = f"sqlite:///{tmp_path}/{number}.db", context.Barrier(NUM_PROCESSES)
        processes = [context.Process(target=live_run, args=(uri, index, together)) for index in range(NUM_PROCESSES)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * NUM_PROCESSES
        client = MlflowClient(uri)
        (experiment,) = client.search_experiments(filter_string="name = 'stress'")
        runs = client.search_runs([experiment.experiment_id])
        assert sorted(run.info.run_name for run in runs) == [str(index) for index in range(NUM_PROCESSES)]
        assert {run.info.status for run in runs} == {RunStatus.to_string(RunStatus.FINISHED)}
        for run in runs:
            for metric in history.COLUMNS[1:]:
                points = client.get_metric_history(run.info.run_id, metric)
                assert [point.step for point in points] == list(range(1, NUM_EPOCHS + 1)), (run.info.run_name, metric)
                assert {point.value for point in points} == {float(run.info.run_name)}


def test_a_run_whose_id_a_kill_lost_is_found_again_by_its_training(tmp_path: Path) -> None:
    settings = Tracking(enabled=True, uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="stress", tags={})
    named = run_origin(id="same", name="same")
    lost = LiveRun(settings, named, lambda _: None)
    assert lost.close() is not None
    found = LiveRun(settings, named, lambda _: None)
    assert found.close() is not None
    assert lost.run_id == found.run_id


VARIED = ("-m", "model.dropout=0,0.3", "seed=1,2", "optimizer.lr=0.003")
LONGER = ("train.max_epochs=30", "train.early_stopping.patience=null")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def the_sweep(project: Path) -> Path:
    (folder,) = project.glob("multirun/train/[0-9]*")
    return folder


def table(project: Path) -> str:
    return (the_sweep(project) / "leaderboard.csv").read_text()


def check_runs(project: Path) -> None:
    """Check the runs of a resumed sweep: one parent with one child for each job, all finished, with every epoch."""
    runs = all_runs(project)
    assert Counter(run.info.status for run in runs) == {"FINISHED": 5}
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    for run in runs:
        if "mlflow.parentRunId" in run.data.tags:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, history.VAL_LOSS)]
            assert sorted(set(steps)) == list(range(1, 31)), run.info.run_name


@pytest.fixture(scope="module")
def undisturbed(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table of a sweep that nobody killed."""
    project = tmp_path_factory.mktemp("undisturbed") / "project"
    shutil.copytree(finished_project, project, symlinks=True)
    command_runner(project)("pipeline.train", *VARIED, *LONGER, *JOBLIB)
    with (the_sweep(project) / "leaderboard.csv").open(newline="") as file:
        assert [row["n"] for row in csv.DictReader(file)] == ["2", "2"]
    return table(project)


@pytest.mark.slow
def test_a_sweep_whose_process_is_killed_is_resumed_to_the_table_of_one_left_alone(
    ready: Path, undisturbed: str
) -> None:
    with started(ready, sys.executable, "-m", "pipeline.train", *VARIED, *LONGER, *JOBLIB) as process:
        wait_for_epoch(ready, 5)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        wait_until(lambda: not any(_is_python(worker) for worker in workers))
    assert all(records.status(out) == STOPPED for out in records.folders(the_sweep(ready)))
    command_runner(ready)("pipeline.train", "--resume", str(the_sweep(ready)))
    assert table(ready) == undisturbed
    check_runs(ready)


@pytest.mark.slow
def test_a_sweep_a_job_of_which_is_killed_is_resumed_to_the_table_of_one_left_alone(
    ready: Path, undisturbed: str
) -> None:
    with started(ready, sys.executable, "-m", "pipeline.train", *VARIED, *LONGER, *JOBLIB) as process:
        wait_for_epoch(ready, 5)
        holders = the_sweep(ready).glob(".[0-9].holder")
        os.kill(int(next(holders).read_text().split()[0]), signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "goes on where it was" in output and "Traceback" not in output
    command_runner(ready)("pipeline.train", "--resume", str(the_sweep(ready)))
    assert table(ready) == undisturbed
    check_runs(ready)


def _is_python(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
