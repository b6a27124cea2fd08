"""Launches the jobs of a sweep through joblib: on the cores of this machine, or on a Ray or Dask cluster."""

import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cloudpickle
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher

from pipeline.storage import processes

_CHILD = "from pipeline.sweep.launcher import run_child; run_child()"

_POOL = {"ray": {"maxtasksperchild": 1}}
"""Arguments of joblib's pools. Ray deals jobs to its workers by turns, busy or not; new workers start where there is room."""


class JoblibLauncher(Launcher):
    """Hydra's interface to joblib; `conf/hydra/launcher/joblib.yaml` tells what the arguments mean.

    The caller has chosen the backend and started its cluster, with `pipeline.storage.processes.running_on`.
    """

    def __init__(self, backend: str, n_jobs: int, options: Any) -> None:
        self.backend, self.n_jobs = backend, n_jobs

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from joblib import Parallel, delayed

        setup_globals()
        at_once = processes.num_at_once(self.n_jobs, self.backend)
        state = Singleton.get_state()
        here = self.backend == "loky" and at_once == 1  # joblib then starts no process
        task = replace(self.task, apart=False, parent=None) if here else self.task
        jobs = [
            (number, list(overrides), self.hydra_context, self.config, task, state)
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        # One job is dispatched for each that ends, as Dask's backend does not heed the number of processes.
        parallel = Parallel(at_once, batch_size=1, pre_dispatch=at_once, **_POOL.get(self.backend, {}))
        if self.backend == "loky":
            with warnings.catch_warnings():  # of a worker that has grown, which loky replaces by itself
                warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
                ended: list[JobReturn] = parallel(delayed(run)(*job) for job in jobs)
            return ended
        parallel(delayed(run_in_child)(job[0], cloudpickle.dumps(job), os.getcwd()) for job in jobs)
        return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]


def run(number: int, overrides: list[str], hydra_context: Any, config: Any, task: Any, state: Any) -> JobReturn:
    """Compose and run a job in this process, as Hydra's own launchers do.

    `hydra_context` loads configurations, `task` runs the job, and `state` holds Hydra's singletons in the sweep's process.
    """
    from omegaconf import open_dict

    setup_globals()
    Singleton.set_state(state)
    composed = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed):
        composed.hydra.job.id = f"{composed.hydra.job.name}_{number}"
        composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    return run_job(
        hydra_context=hydra_context, config=composed, task_function=task,
        job_dir_key="hydra.sweep.dir", job_subdir_key="hydra.sweep.subdir",
    )  # fmt: skip


def run_in_child(number: int, job: bytes, folder: str) -> None:
    """Run a job in a child process of a cluster's worker.

    A job needs a process of its own: it handles signals, redirects its output and sets its number of threads, while Dask's
    workers run several jobs in threads of one process.

    Args:
        number: Number of the job.
        job: The arguments of `run`, pickled.
        folder: The project's folder.

    Raises:
        ChildProcessError: The process ended without an end of the job.
    """
    # Within a job, a stage that asks for Ray or Dask gets a cluster of its node: in this one it would wait for its own job.
    environment = {name: value for name, value in os.environ.items() if name not in processes.ADDRESSES.values()}
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(os.getpid())],
        input=job, cwd=folder, env=environment, start_new_session=True,
    )  # fmt: skip
    if child.returncode != 0:
        raise ChildProcessError(f"the process of job {number} ended with exit code {child.returncode}.")


def run_child() -> None:
    """Run the job that standard input holds, and end with the worker whose process the command line names."""
    number, overrides, hydra_context, config, task, state = cloudpickle.load(sys.stdin.buffer)
    task = replace(task, parent=int(sys.argv[1]))
    # raises what kept the job from its end
    run(number, overrides, hydra_context, config, task, state).return_value  # noqa: B018
