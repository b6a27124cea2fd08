"""Measures what a sweep costs beside its trainings: seconds a job, memory of the process, and the gain of jobs side by side.

    python benchmarks/sweep.py [--jobs 50]                                           two epochs each, one after the other
    python benchmarks/sweep.py --jobs 16 --launcher joblib train.max_epochs=20       side by side too, and the ratio

Trains on digits in a scratch folder, each job logged to an SQLite store; one training before makes the data and the store.
A job's overhead is its wall time less that of its epochs; the first one also imports everything. One after the other, a job
has all cores, and torch uses them; side by side it has its share. So the ratio of the two is far from 1 / cores where torch
uses two threads well, and the better the more of a job is Python.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.artefacts.job import JobRecord
from pipeline.artefacts.run import RunRecord

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measured:
    """Measurements of a sweep.

    Attributes:
        seconds: Time from its start to its end.
        megabytes: Memory of its process as each job ended.
        jobs: Time of each job, in seconds.
        trainings: Time of each job's epochs, in seconds.
    """

    seconds: float
    megabytes: list[float]
    jobs: list[float]
    trainings: list[float]

    @property
    def overheads(self) -> list[float]:
        return [job - training for job, training in zip(self.jobs, self.trainings, strict=True)]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.train", *arguments]


def variables(folder: Path) -> dict[str, str]:
    return {**os.environ, "DVC_ROOT": str(folder), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def sweep(folder: Path, num_jobs: int, overrides: list[str], launcher: str) -> Measured:
    """Run a sweep with `folder` as the project's root."""
    jobs_of = ["experiment=debug", "train.early_stopping.patience=null", f"seed=range({num_jobs})", *overrides]
    megabytes: list[float] = []
    before = set(folder.glob("multirun/train/[0-9]*"))
    begin = time.perf_counter()
    with (
        Progress(console=Console(stderr=True)) as progress,
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command("-m", *jobs_of, f"hydra/launcher={launcher}"),
            cwd=PROJECT, env=variables(folder), stdout=log, stderr=log,
        ) as process,
    ):  # fmt: skip
        bar, watched = progress.add_task(launcher, total=num_jobs), psutil.Process(process.pid)
        while process.poll() is None:
            if len(_records(folder, before)) > len(megabytes):
                megabytes.append(watched.memory_info().rss / 1e6)
                progress.update(bar, completed=len(megabytes))
            time.sleep(0.005)
    seconds = time.perf_counter() - begin
    if process.returncode != 0:
        sys.exit(f"the sweep must finish; it exited with {process.returncode}:\n{(folder / 'log').read_text()[-3000:]}")
    jobs = sorted(_records(folder, before), key=lambda path: int(path.parent.name))
    return Measured(
        seconds,
        megabytes,
        [JobRecord.read(path.parent).seconds for path in jobs],
        [RunRecord.read(path.parent).seconds for path in jobs],
    )


def _records(folder: Path, before: set[Path]) -> list[Path]:
    sweeps = set(folder.glob("multirun/train/[0-9]*")) - before
    return [path for sweep_folder in sweeps for path in sweep_folder.glob(f"[0-9]*/{JobRecord.FILE}")]


def show(measured: Measured, title: str) -> None:
    first, *rest = measured.overheads
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_row("the whole sweep", f"{measured.seconds:.1f} s")
    table.add_row("epochs of a job, median", f"{statistics.median(measured.trainings):.2f} s")
    table.add_row("overhead of the first job", f"{first:.2f} s")
    table.add_row("overhead of each other job, median", f"{statistics.median(rest):.2f} s")
    table.add_row("the largest", f"{max(rest):.2f} s")
    table.add_row("memory after the first job", f"{measured.megabytes[0]:.0f} MB")
    table.add_row("growth from there to the last", f"{measured.megabytes[-1] - measured.megabytes[0]:.0f} MB")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=50, help="at least 3; default: 50")
    parser.add_argument("--launcher", help="run the jobs with this one too, such as joblib, and compare")
    parser.add_argument("overrides", nargs="*", help="of all jobs, such as train.max_epochs=20")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        once = command("experiment=debug", "train.max_epochs=1")
        subprocess.run(once, cwd=PROJECT, env=variables(folder), stdout=subprocess.DEVNULL, check=True)
        basic = sweep(folder, options.jobs, options.overrides, "basic")
        show(basic, f"A sweep of {options.jobs} jobs in one process")
        in_all = (basic.seconds - sum(basic.trainings)) / options.jobs
        print(f"beside its epochs the sweep spent {in_all:.2f} s a job, its start and its end included\n")
        if options.launcher:
            other = sweep(folder, options.jobs, options.overrides, options.launcher)
            show(other, f"The same jobs with hydra/launcher={options.launcher}")
            print(f"wall time: {other.seconds / basic.seconds:.2f} of the sweep in one process, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
