"""What a sweep costs beside its trainings: seconds a job, and memory of the process.

    python benchmarks/sweep.py [--jobs 50]

Runs one-epoch trainings on digits in one process, each logged to an SQLite store, in a scratch folder. A job's overhead
is its wall time less that of its epochs; the first job also imports everything and makes the data, so it is shown apart.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

PROJECT = Path(__file__).resolve().parents[1]


def sweep(folder: Path, num_jobs: int) -> list[float]:
    """Run the sweep in `folder`; returns the memory of the process in MB, seen as each job ended."""
    variables = {**os.environ, "DVC_ROOT": str(folder), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    command = [sys.executable, "-m", "pipeline.train", "-m", "experiment=debug", f"seed=range({num_jobs})"]
    megabytes: list[float] = []
    with (
        Progress(console=Console(stderr=True)) as progress,
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=PROJECT, env=variables, stdout=log, stderr=log) as process,
    ):
        bar, watched = progress.add_task("jobs", total=num_jobs), psutil.Process(process.pid)
        while process.poll() is None:
            if len(list(folder.glob("multirun/train/*/*/job.json"))) > len(megabytes):
                megabytes.append(watched.memory_info().rss / 1e6)
                progress.update(bar, completed=len(megabytes))
            time.sleep(0.005)
    if process.returncode != 0:
        sys.exit(f"the sweep must finish; it exited with {process.returncode}:\n{(folder / 'log').read_text()[-3000:]}")
    return megabytes


def overheads(folder: Path) -> list[float]:
    """Seconds of each job beside its epochs, in order."""
    jobs = sorted(folder.glob("multirun/train/*/*/job.json"), key=lambda path: int(path.parent.name))
    wall = [json.loads(path.read_text())["seconds"] for path in jobs]
    trained = [json.loads((path.parent / "run.json").read_text())["seconds"] for path in jobs]
    return [total - part for total, part in zip(wall, trained, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=50, help="at least 3; default: 50")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        megabytes = sweep(Path(scratch), options.jobs)
        first, *rest = overheads(Path(scratch))
    table = Table(title=f"A sweep of {options.jobs} jobs in one process")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_row("overhead of the first job", f"{first:.2f} s")
    table.add_row("overhead of each other job, median", f"{statistics.median(rest):.2f} s")
    table.add_row("the largest", f"{max(rest):.2f} s")
    table.add_row("memory after the first job", f"{megabytes[0]:.0f} MB")
    table.add_row("growth from there to the last", f"{megabytes[-1] - megabytes[0]:.0f} MB")
    Console().print(table)


if __name__ == "__main__":
    main()
