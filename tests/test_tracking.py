"""Runs in a real MLflow server over HTTP, which also goes away."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from pipeline.config.schema import Tracking
from pipeline.metrics import history
from pipeline.tracking import database, description
from pipeline.tracking.live import LiveRun
from pipeline.tracking.store import connect
from tests.conftest import command_runner, environment
from tests.loopback import free_port
from tests.records import run_origin
from tests.test_train import all_runs, started, wait_for_epoch


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A tracking server on loopback that keeps its store in `folder`, made before, as several workers at once would fail."""
    database.make_ready(folder / "server.db")
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    variables = {**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, *store], cwd=folder, env=variables, start_new_session=True, **quiet) as process:
        try:
            for _ in range(600):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                        break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.1)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_kill_while_the_store_is_being_made_leaves_none_and_the_next_makes_it_whole(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    settings = Tracking(enabled=True, uri=f"sqlite:///{database}", experiment="goodfit", tags={})
    making = f"from pipeline.tracking.store import *; connect({settings!r})"
    with started(Path.cwd(), "python", "-c", making) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".mlflow.db.draft-journal")) and time.monotonic() < deadline:
            assert process.poll() is None
        process.kill()
        process.wait()
    assert list(tmp_path.glob(".mlflow.db.draft*")) and not database.exists()
    store = connect(settings)
    assert store.client.get_experiment(store.experiment_id).name == "goodfit"
    assert {path.name for path in tmp_path.iterdir()} <= {
        "mlflow.db",
        "mlflow.db-wal",
        "mlflow.db-shm",
        ".mlflow.db.lock",
    }
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("num_trainings", [2, 20])
def test_a_server_that_is_killed_at_random_moments_has_everything_once(
    ready: Path, tmp_path: Path, num_trainings: int
) -> None:
    port, over, dice = free_port(), threading.Event(), random.Random(0)
    run = command_runner(ready)

    def kill_and_restart() -> None:
        while not over.is_set():
            with mlflow_server(tmp_path, port):
                over.wait(dice.uniform(0, 40))
            over.wait(dice.uniform(0, 3))

    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    waited = 0
    try:
        for seed in range(num_trainings):
            uri = f"tracking.uri=http://127.0.0.1:{port}"
            trained = run("pipeline.train", f"seed={seed}", "augment=none", "prepare.limit=100", uri)
            waited += "build/spool" in trained.stderr
            run("pipeline.evaluate", f"evaluate.training={max(ready.glob('outputs/train/*'))}", uri)
    finally:
        over.set()
        killer.join()
    with mlflow_server(tmp_path, port):
        synced = run("pipeline.sync", f"tracking.uri=http://127.0.0.1:{port}")
        print(synced.stdout, f"{waited} of {num_trainings} trainings met an outage")
        client = MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.get_experiment_by_name("goodfit").experiment_id
        runs = client.search_runs([experiment])
        files = [{file.path for file in client.list_artifacts(each.info.run_id, "training")} for each in runs]
        models = client.search_logged_models([experiment])
        scores = [len(client.get_metric_history(each.info.run_id, "test/accuracy")) for each in runs]
    assert not spool_entries(ready) and run("pipeline.sync").stdout == "Nothing waits.\n"
    assert sorted(int(each.data.params["seed"]) for each in runs) == list(range(num_trainings))
    assert {each.info.status for each in runs} == {"FINISHED"} and scores == [1] * num_trainings
    assert all({"training/model.ckpt", "training/history.csv", "training/run.json"} <= names for names in files)
    assert sorted(str(model.source_run_id) for model in models) == sorted(each.info.run_id for each in runs)
    rows = [row for path in ready.glob("outputs/train/*/history.csv") for row in history.read_csv(path)]
    expected = sum(len(row) - 1 for row in rows)
    with closing(sqlite3.connect(tmp_path / "server.db")) as connection:
        query = f"SELECT count(*) FROM metrics WHERE key IN ({', '.join('?' * (len(rows[0]) - 1))})"
        assert connection.execute(query, [key for key in rows[0] if key != "epoch"]).fetchone() == (expected,)


def spool_entries(project: Path) -> list[Path]:
    return list(project.glob("build/spool/*/[0-9]*")) + list(project.glob("build/spool/*/refused/*"))


@pytest.mark.slow
def test_a_server_that_goes_away_costs_the_training_nothing_and_gets_the_rest_later(
    ready: Path, tmp_path: Path
) -> None:
    port = free_port()
    uri = f"tracking.uri=http://127.0.0.1:{port}"
    longer = ("train.max_epochs=40", "train.early_stopping.patience=null")
    with mlflow_server(tmp_path, port) as server:
        with started(ready, "python", "-m", "pipeline.train", *longer, uri) as process:
            wait_for_epoch(ready, 1)
            wait_for_run_id(ready)
            os.killpg(server.pid, signal.SIGKILL)
            output, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and "does not answer" in output and "1 entry waits in build/spool" in output
    out = next(ready.glob("outputs/train/*"))
    rows, run_id = history.read_csv(out / "history.csv"), json.loads((out / "run.json").read_text())["mlflow_run_id"]
    assert len(rows) == 40 and run_id is not None
    with mlflow_server(tmp_path, port):
        done = command_runner(ready)("pipeline.evaluate", f"evaluate.training={out}", uri)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        points = client.get_metric_history(run_id, history.VAL_LOSS)
        run = client.get_run(run_id)
    assert f"({run_id}): the run of this training" in done.stdout
    assert [(point.step, point.value) for point in points] == [(row["epoch"], row[history.VAL_LOSS]) for row in rows]
    assert run.info.status == "FINISHED" and run.data.metrics["test/accuracy"] > 0


def wait_for_run_id(project: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        records = [json.loads(path.read_text()) for path in project.glob("build/cache/train-*/run.json")]
        if any(record["mlflow_run_id"] for record in records):
            return
        time.sleep(0.01)
    raise AssertionError("the training has found no run")


@pytest.mark.long
def test_a_run_over_http_holds_everything(ready: Path, tmp_path: Path) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with mlflow_server(tmp_path, port):
        command_runner(ready)("pipeline.train", "model.dropout=0.1", MLFLOW_TRACKING_URI=uri)
        client = MlflowClient(uri)
        (run,) = client.search_runs([client.get_experiment_by_name("goodfit").experiment_id])
        names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        rows = history.read_csv(next(ready.glob("outputs/train/*/history.csv")))
        points = client.get_metric_history(run.info.run_id, history.VAL_LOSS)
    assert run.info.status == "FINISHED" and not (ready / "mlflow.db").exists()
    assert run.data.params["model.dropout"] == "0.1" and run.data.params["data.name"] == "digits"
    assert run.data.tags["overrides"] == "model.dropout=0.1"
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    assert names == {"training", "pictures"} and [point.value for point in points] == [row["val/loss"] for row in rows]


@pytest.mark.long
def test_verdicts_are_tags_of_the_runs_and_runs_are_diagnosed_from_the_store(ready: Path) -> None:
    run = command_runner(ready)
    run("dvc", "repro", "-f", "-s", "diagnose")
    (found,) = all_runs(ready)
    record = json.loads((ready / "build" / "diagnose" / "diagnosis.json").read_text())
    assert found.data.tags["verdict"] == record["verdict"]
    assert found.data.metrics["diagnosis/gap_low"] == record["evidence"]["gap"]["low"]
    one = run("pipeline.diagnose", "--run", found.info.run_id).stdout
    assert one.startswith(f"{found.info.run_name}:\n") and "Not judged" in one
    run("pipeline.train", "-m", "seed=1,2", "train.max_epochs=3")
    parent = next(each for each in all_runs(ready) if each.info.run_name.startswith("sweep-"))
    several = run("pipeline.diagnose", "--run", parent.info.run_id, "--out", str(ready / "verdicts")).stdout
    assert several.count("validation") >= 2 and len(list((ready / "verdicts").glob("*/diagnosis.json"))) == 2
    client = MlflowClient(f"sqlite:///{ready / 'mlflow.db'}")
    foreign = client.create_run(found.info.experiment_id).info.run_id
    for epoch in range(15):
        known = {"train_loss": 2 * 0.5**epoch, "train_acc": 1 - 0.5 ** (epoch + 1), "val_loss": 0.8, "val_acc": 0.7}
        for key, value in known.items():
            client.log_metric(foreign, key, value, step=epoch)
    counts = ("--num-train", "500", "--num-val", "500", "--num-classes", "10")
    assert (
        "overfitting: training 1.000, validation 0.700, gap"
        in run("pipeline.diagnose", "--run", foreign, *counts).stdout
    )
    uncounted = run("pipeline.diagnose", "--run", foreign, check=False)
    assert "error: --run of another tool needs --num-train, --num-val, --num-classes too" in uncounted.stderr
    unknown = run("pipeline.diagnose", "--run", "0" * 32, check=False)
    assert unknown.returncode == 1 and "error: --run must be a run of sqlite" in unknown.stderr


def test_a_training_by_hand_has_a_model_that_takes_image_files_without_pickle(ready: Path) -> None:
    done = command_runner(ready)("pipeline.train", "train.max_epochs=1")
    package = re.fullmatch(
        r"Classify images: python -m pipeline.predict FOLDER --model (\S+)", done.stdout.splitlines()[-1]
    )
    assert package is not None and (ready / package[1] / "manifest.json").exists()
    (run,) = all_runs(ready)
    uri = f"sqlite:///{ready / 'mlflow.db'}"
    script = (
        f"import cv2, mlflow, numpy as np, pandas as pd; mlflow.set_tracking_uri({uri!r})\n"
        f"model = mlflow.pyfunc.load_model('runs:/{run.info.run_id}/model')\n"
        "image = cv2.imencode('.png', np.zeros((9, 9), np.uint8))[1].tobytes()\n"
        "answer = model.predict(pd.DataFrame({'image': [image, b'none']}))\n"
        "print(round(sum(answer['probabilities'][0].values()), 4), answer['label'][0], answer['error'][1])"
    )
    with started(ready, "python", "-c", script, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false") as process:
        output, _ = process.communicate()
    assert process.returncode == 0 and re.search(r"^1\.0 \d not an image: it begins with b'none'", output, re.M), output
    assert np.isfinite(run.data.metrics["best_epoch"])


def test_a_store_that_never_answers_is_told_and_held_against_nobody() -> None:
    settings = Tracking(enabled=True, uri=f"http://127.0.0.1:{free_port()}", experiment="goodfit", tags={})
    begin = time.monotonic()
    live = LiveRun(settings, run_origin(), lambda run_id: None)
    live.log_row({"epoch": 1, "val/loss": 1.0}, 0)
    assert time.monotonic() - begin < 0.5, "logging must not wait for the store"
    assert live.close() is None and live.run_id is None
    assert live.failure == "Connection refused" and time.monotonic() - begin < 3


def test_parameters_are_flat_and_tags_leave_out_what_is_unknown() -> None:
    sections = [section for section in description.PARAMETER_SECTIONS if section != "seed"]
    config: dict[str, Any] = {section: {"name": "x", "list": [1, {"a": None}]} for section in sections}
    config["augment"] |= {"workers": None, "backend": "loky"}
    flat = description.parameters(run_origin(config={**config, "seed": 3}))
    assert flat["seed"] == "3" and flat["model.list"] == '[1, {"a": null}]'
    assert not {"augment.workers", "augment.backend"} & set(flat)
    tags = description.tags(run_origin(), {"team": "b"})
    assert tags["team"] == "b" and tags["goodfit.git_dirty"] == "false" and tags["data"] == "none"
    assert not {"mlflow.parentRunId", "mlflow.source.git.commit", "overrides", "model"} & set(tags)
