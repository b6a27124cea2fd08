"""The pipeline as a DVC user meets it: what runs again, experiments, caches, bad input."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import command_runner
from tests.test_train import all_runs, started

STAGES = ("compose", "fetch", "prepare", "augment", "train", "evaluate", "diagnose", "package", "register", "report")
AFTER = STAGES[STAGES.index("evaluate") :]
"""The stages after `train`."""


def ran(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"Running stage '(\w+)'", done.stdout))


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content, f"{path} has no {old!r}"
    path.write_text(content.replace(old, new))


@pytest.mark.long
def test_only_what_changed_runs_again(ready: Path) -> None:
    run = command_runner(ready)
    nothing = run("dvc", "repro")
    assert ran(nothing) == {"fetch"} and "fetch: nothing has changed" in nothing.stdout
    edit(ready / "params.yaml", "max_epochs: 2", "max_epochs: 1")
    assert ran(run("dvc", "repro")) == {"compose", "fetch", "train", *AFTER}


@pytest.mark.long
def test_an_edit_that_leaves_images_and_copies_as_they_are_trains_nothing_again(ready: Path) -> None:
    for name in ("plotting/captions.py", "data/checks.py"):
        with (ready / "pipeline" / name).open("a") as file:
            file.write("# edited\n")
    assert ran(command_runner(ready)("dvc", "repro")) == {*STAGES} - {"compose", "train"}


@pytest.mark.slow
def test_what_was_trained_before_comes_back_from_the_cache_and_edits_reach_their_stages(ready: Path) -> None:
    run = command_runner(ready)
    edit(ready / "params.yaml", "max_epochs: 2", "max_epochs: 1")
    run("dvc", "repro")
    (first,) = all_runs(ready)
    edit(ready / "params.yaml", "max_epochs: 1", "max_epochs: 3")
    run("dvc", "repro")
    edit(ready / "params.yaml", "max_epochs: 3", "max_epochs: 1")
    assert "Stage 'train' is cached" in run("dvc", "repro").stdout, "DVC must restore the first training"
    assert f"({first.info.run_id}): the run of this training" in run("dvc", "repro", "-f", "-s", "evaluate").stdout
    assert len(all_runs(ready)) == 2
    edit(ready / "conf" / "augment" / "light.yaml", "p: 0.5", "p: 0.4")
    assert ran(run("dvc", "repro")) == {"compose", "fetch", "augment", "train", *AFTER}
    edit(ready / "pipeline" / "train.py", "Train the network", "Train a network")
    assert ran(run("dvc", "repro")) == {"fetch", "train", *AFTER}


@pytest.mark.slow
def test_experiments_belong_together(ready: Path) -> None:
    run = command_runner(ready)
    run("git", "add", "-A")
    run("git", "commit", "-qm", "Reproduce")
    smaller = ("-S", "model.name=convnet", "-S", "+model.width=4", "-S", "train.max_epochs=1")
    run("dvc", "exp", "run", "--name", "first", *smaller)
    kept = json.loads((ready / "build" / "train" / "run.json").read_text())
    run("dvc", "exp", "run", "--name", "second", "-S", "regularization.l2=0.1")
    other = json.loads((ready / "build" / "train" / "run.json").read_text())
    assert kept["id"] != other["id"]
    run("dvc", "exp", "apply", "first")
    applied = json.loads((ready / "build" / "train" / "run.json").read_text())
    assert applied == kept and applied["config"]["model"]["width"] == 4
    assert run("dvc", "status", *STAGES[2:]).stdout.strip() == "Data and pipelines are up to date."
    assert "width: 4" in (ready / "params.yaml").read_text()
    shown = run("dvc", "exp", "show", "--csv").stdout
    assert "first" in shown and "second" in shown and "test/accuracy" in shown
    (header, *_) = csv.reader(run("dvc", "metrics", "show", "--md").stdout.splitlines(), delimiter="|")
    assert len([name for name in header if name.strip() and name.strip() != "Path"]) == 10
    assert "model" in run("dvc", "params", "diff", "--targets", "params.yaml", "--", "HEAD").stdout
    assert "test/accuracy" in run("dvc", "metrics", "diff", "HEAD").stdout
    assert "index.html" in run("dvc", "plots", "show").stdout
    assert all(stage in run("dvc", "dag").stdout for stage in STAGES)


@pytest.mark.slow
def test_experiments_in_copies_log_to_the_same_store(ready: Path) -> None:
    run = command_runner(ready)
    run("git", "add", "-A")
    run("git", "commit", "-qm", "Reproduce")
    run("dvc", "exp", "run", "--temp", "--name", "copied", "-S", "seed=5")
    run("dvc", "exp", "run", "--queue", "--name", "queued", "-S", "seed=6")
    run("dvc", "queue", "start")
    while "Running" in (status := run("dvc", "queue", "status").stdout) or "Queued" in status:
        time.sleep(1)
    assert "Success" in status, status
    assert sorted(run.data.tags["dvc_experiment"] for run in all_runs(ready)) == ["copied", "queued"]
    assert not list(ready.glob("build/cache/train-*"))


@pytest.mark.long
def test_a_deleted_store_is_rebuilt_from_the_training(ready: Path) -> None:
    done = command_runner(ready)("dvc", "repro", "-f", "-s", "evaluate")
    assert re.search(
        r"MLflow run lenet-\w+-\w+-seed0 \(\w+\): rebuilt from .*build/train, as sqlite.* did not know it", done.stdout
    )
    (run,) = all_runs(ready)
    rows = (ready / "build" / "train" / "history.csv").read_text().splitlines()
    client = MlflowClient(f"sqlite:///{ready / 'mlflow.db'}")
    assert len(client.get_metric_history(run.info.run_id, "val/loss")) == len(rows) - 1
    assert run.info.status == "FINISHED" and "goodfit.restored_from" in run.data.tags
    assert (
        run.data.metrics["test/accuracy"]
        == json.loads((ready / "build/evaluate/metrics.json").read_text())["test/accuracy"]
    )
    again = command_runner(ready)("dvc", "repro", "-f", "-s", "evaluate")
    assert "rebuilt" not in again.stdout and len(all_runs(ready)) == 1


def test_a_clone_gets_its_data_from_a_remote_without_fetching(ready: Path, tmp_path: Path) -> None:
    run = command_runner(ready)
    run("dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    run("dvc", "push", "-q")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "Reproduce")
    clone = tmp_path / "clone"
    run("git", "clone", "-q", str(ready), str(clone))
    there = command_runner(clone)
    there("dvc", "pull", "-q", "--allow-missing")
    assert (clone / "data" / "source.json").read_bytes() == (ready / "data" / "source.json").read_bytes()
    assert (clone / "build" / "train" / "model.ckpt").read_bytes() == (ready / "build/train/model.ckpt").read_bytes()
    done = there("dvc", "repro", "prepare", "--pull")
    assert not ran(done) & {"prepare"}


@pytest.mark.parametrize("stage", ["fetch", "prepare", "augment", "evaluate", "diagnose", "package", "report"])
def test_a_stage_that_is_stopped_leaves_nothing_half_written(ready: Path, stage: str) -> None:
    out = ready / ("downloads" if stage == "fetch" else f"build/{stage}")
    shutil.rmtree(out)
    with started(ready, "python", "-m", f"pipeline.{stage}", "--config", "build/config.yaml") as process:
        scratch = out.with_name(f".{out.name}.partial")
        while not scratch.exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    by_signal = (
        -signal.SIGINT
    )  # how Python ends, by itself, where the signal came within an `exec`; a shell says 130 then too
    assert process.returncode in (130, by_signal) and "stopped; nothing half-written was kept" in output, output
    assert "Traceback" not in output and not out.exists() and not scratch.exists()


def test_a_full_disk_is_told_in_one_sentence(ready: Path) -> None:
    shutil.rmtree(ready / "build" / "prepare")
    command = f"exec {sys.executable} -m pipeline.prepare --config build/config.yaml"
    limited = f"ulimit -f 20; trap '' XFSZ; {command}"  # 20 KB a file
    done = command_runner(ready)("bash", "-c", limited, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and not (ready / "build" / "prepare").exists()
    assert re.search(r"error: .*(room|disk|large)", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("model=lenett",),
            "error: model must be one of convnet, efficientnet, lenet, resnet, timm; got 'lenett'. Did you mean 'lenet'?",
        ),
        (("optimizer.lr=-1",), "error: optimizer.lr must be a number > 0 or auto; got -1."),
        (("++model.widht=2",), "error: model.widht is not a configuration key"),
        (("data=fashion_mnist", "data.source=/nowhere"), "data.source"),
        (("model=convnet", "model.depth=9"), "error: block 6 pooling cannot take 1×1"),
    ],
)
def test_bad_input_is_told_in_one_message(ready: Path, arguments: tuple[str, ...], message: str) -> None:
    done = command_runner(ready)("pipeline.train", *arguments, "tracking.enabled=false", check=False)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(ready.glob("outputs/train/*")) and not list(ready.glob("build/cache/train-*/last.ckpt"))


def test_help_shows_groups_and_defaults(ready: Path) -> None:
    done = command_runner(ready)("pipeline.train", "--help")
    assert "model: convnet, efficientnet, lenet" in done.stdout and "max_epochs: 2" in done.stdout


@pytest.mark.long
def test_a_second_repro_beside_a_running_one_names_the_first(ready: Path) -> None:
    edit(ready / "params.yaml", "max_epochs: 2", "max_epochs: 3000")
    with started(ready, "dvc", "repro") as process:
        while not list(ready.glob("build/cache/train-*/history.csv")):
            assert process.poll() is None
            time.sleep(0.05)
        refused = command_runner(ready)("dvc", "repro", check=False)
        assert refused.returncode != 0 and str(process.pid) in refused.stderr
        os.killpg(process.pid, signal.SIGKILL)
