"""A project whose stage `probe` pretends to train, for tests of sweeps that need no network."""

import csv
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.sweep import records
from tests.conftest import ROOT, compile_pipeline

PROBE = '''
"""A stage that only sleeps: its loss follows from model.dropout and the seed, its length from the tags."""
import os, time
from pathlib import Path

from pipeline.stage.entry import run
from pipeline.artefacts.run import RunDataset, RunRecord, Saving
from pipeline.errors import TrainingError
from pipeline.metrics import history
from pipeline.sweep import pruning
from pipeline.sweep.command import multirun
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
    RunRecord(
        id="probe", mlflow_run_id=None, parent_run_id=None, begin=0.0, git_commit=None, git_dirty=False, data_hash=None,
        dvc_experiment=None, name="probe", tracking_uri="", fingerprint="f", prepare_fingerprint="p",
        augment_fingerprint="a", dataset=RunDataset(name="none", source="none", counts={}, size=8, channels=1),
        overrides="", config=config.model_dump(), best_epoch=len(rows), epochs=len(rows), stop_reason="it slept",
        early_stopping=Saving(saved_epochs=0, saved_seconds=0.0), lr=1.0, seconds=0.0, times_ms=[], num_parameters=1,
        weights_sha256="",
    ).write(job.out)


if __name__ == "__main__":
    run("probe", main, multirun(sweep))
'''


def copy_probe(folder: Path) -> Path:
    """Copy the project to `folder`, with the stage `probe`; gives the folder."""
    compile_pipeline()
    for name in ("conf", "pipeline"):
        shutil.copytree(ROOT / name, folder / name)
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
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def statuses(folder: Path) -> list[str | None]:
    return [records.status(out) for out in records.folders(folder)]
