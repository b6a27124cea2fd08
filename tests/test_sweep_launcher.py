"""Sweeps on Dask and Ray: on a cluster that runs already, and on one that the sweep starts itself."""

import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.artefacts.job import JobRecord
from pipeline.storage.processes import ADDRESSES
from tests.conftest import command_runner
from tests.loopback import free_port
from tests.sweep_probe import copy_probe, statuses, sweep_folder, trace, wait_until
from tests.test_train import started

pytestmark = pytest.mark.slow

BACKENDS = [
    pytest.param(
        backend,
        marks=pytest.mark.skipif(find_spec(package) is None, reason=f"needs `pip install -e '.[{backend}]'`"),
    )
    for backend, package in (("dask", "distributed"), ("ray", "ray"))
]
FOUR = ("-m", "optimizer.lr=0.1,0.2,10,0.3")
"""Four jobs, the third of which fails."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_probe(tmp_path / "project")


def on(backend: str) -> tuple[str, ...]:
    return "hydra/launcher=joblib", f"hydra.launcher.backend={backend}"


def variables(project: Path) -> dict[str, str]:
    """Environment in which Ray keeps what it writes in the test's folder and asks for no password."""
    return {
        "HOME": str(project),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(project),
    }


@contextmanager
def cluster(backend: str, project: Path) -> Iterator[str]:
    """A cluster with two workers, whose address it gives."""
    port, scripts = free_port(), Path(sys.executable).parent
    env = ("env", *(f"{name}={value}" for name, value in variables(project).items()))
    address = f"127.0.0.1:{port}"
    local = "--host=127.0.0.1", "--no-dashboard"
    with ExitStack() as stack:
        if backend == "dask":
            scheduler = (sys.executable, "-m", "distributed.cli.dask_scheduler", f"--port={port}", *local)
            stack.enter_context(started(project, *env, *scheduler))
            wait_until(lambda: _answers(port))
            worker = (
                sys.executable,
                "-m",
                "distributed.cli.dask_worker",
                address,
                "--nworkers=2",
                "--nthreads=1",
                *local,
            )
            stack.enter_context(started(project, *env, *worker))
        else:
            head = ("--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats")
            stack.enter_context(started(project, *env, str(scripts / "ray"), "start", *head, "--block"))
            wait_until(lambda: _answers(port))
        yield address


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sweep_on_a_cluster_goes_on_after_a_failed_job_and_a_killed_parent(project: Path, backend: str) -> None:
    run = command_runner(project)
    run("pipeline.probe", *FOUR, check=False)
    undisturbed = (sweep_folder(project) / "leaderboard.csv").read_text()
    shutil.rmtree(project / "multirun")
    (project / "trace").unlink()
    with cluster(backend, project) as address:
        environment = {**variables(project), ADDRESSES[backend]: address}
        command = (sys.executable, "-m", "pipeline.probe", *FOUR, *on(backend), "+tracking.tags={torch: a, sleep: '3'}")
        with started(project, "env", *(f"{name}={value}" for name, value in environment.items()), *command) as process:
            wait_until(lambda: len(trace(project)) >= 3)  # both workers are at it, one with its second job
            process.kill()
            process.wait()
        folder = sweep_folder(project)
        assert len(statuses(folder)) < 4
        done = run("pipeline.probe", "--resume", str(folder), check=False, **environment)
    assert done.returncode == 1, done.stderr
    assert "error: every job of the sweep must finish; 2 did not, see above" in done.stderr
    assert statuses(folder) == ["finished", "finished", "failed", "finished"]
    assert JobRecord.read(folder / "2").error == "TrainingError: the loss must be finite; got inf."
    assert (folder / "leaderboard.csv").read_text() == undisturbed
    assert {path.read_text() for path in folder.glob("*/threads")} == {"1"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stopped_sweep_on_a_cluster_of_its_own_stops_its_jobs(project: Path, backend: str) -> None:
    environment = (f"{name}={value}" for name, value in variables(project).items())
    slow = (*on(backend), "hydra.launcher.n_jobs=2", "+tracking.tags.sleep='30'")
    with started(project, "env", *environment, sys.executable, "-m", "pipeline.probe", *FOUR, *slow) as process:
        wait_until(lambda: len(trace(project)) == 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output and "the sweep was stopped; `python -m pipeline.probe --resume" in output
    assert statuses(sweep_folder(project)) == ["stopped", "stopped"] and len(trace(project)) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_job_of_a_cluster_is_named(project: Path, backend: str) -> None:
    environment = (f"{name}={value}" for name, value in variables(project).items())
    slow = (*on(backend), "+tracking.tags.sleep='3'")
    with started(project, "env", *environment, sys.executable, "-m", "pipeline.probe", *FOUR, *slow) as process:
        wait_until(lambda: trace(project))
        os.kill(int(trace(project)[0][2]), signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert re.search(
        r"error: the launcher must start every job and keep it alive; ChildProcessError: the process of job [01] ended with "
        r"exit code -9\. `python -m pipeline\.probe --resume multirun/probe/.*` goes on where it was\.",
        output,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cluster_that_does_not_answer_leaves_no_sweep(project: Path, backend: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    environment = {**variables(project), ADDRESSES[backend]: address, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"}
    done = command_runner(project)("pipeline.probe", *FOUR, *on(backend), check=False, **environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    expected = (
        rf"^error: hydra\.launcher\.backend={backend} must reach its cluster; got {ADDRESSES[backend]}={address}: "
    )
    assert re.search(expected, done.stderr, re.MULTILINE), done.stderr
    assert not list(project.glob("multirun/probe/[0-9]*"))


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
