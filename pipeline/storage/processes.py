"""Runs work in many processes, on this machine or on a Ray or Dask cluster, through joblib's backends."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import resource_tracker
from typing import Any

from pipeline.errors import ConfigError

ADDRESSES = {"ray": "RAY_ADDRESS", "dask": "DASK_SCHEDULER_ADDRESS"}
"""The environment variable that tells each package where its cluster is."""


@contextmanager
def running_on(
    backend: str, key: str, *, options: Mapping[str, Any] | None = None, show_output: bool = False
) -> Iterator[None]:
    """Give the work that joblib is asked for in the block to `backend`.

    Args:
        backend: `loky`, the cores of this machine; `ray` or `dask`, the cluster that the variable of `ADDRESSES` names, else
            one on this machine that ends with the block. A cluster's workers need the project's code and file system.
        key: Configuration key that chose it, for messages.
        options: Further arguments of joblib's backend.
        show_output: Whether what Ray's workers print comes here; from Dask's on this machine it always does.

    Raises:
        ConfigError: The backend is not known, its package is not installed, or its cluster does not answer.
    """
    import joblib

    if backend not in ("loky", *ADDRESSES):
        raise ConfigError(f"{key} must be loky, ray or dask; got {backend!r}. Set {key}=loky for this machine.")
    try:
        cluster = _ray(show_output) if backend == "ray" else _dask() if backend == "dask" else nullcontext()
    except ImportError as error:
        raise ConfigError(
            f"{key}={backend} needs the package of {backend} ({error}). Install it with `pip install -e '.[{backend}]'`, "
            f"or set {key}=loky."
        ) from None
    except OSError as error:
        variable, reason = ADDRESSES[backend], " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"{key}={backend} must reach its cluster; got {variable}={os.environ.get(variable)}: {reason}. Correct the "
            f"address, unset it for a cluster on this machine, or set {key}=loky."
        ) from None
    with cluster, joblib.parallel_config(backend=backend, **(options or {})):
        yield


def is_elsewhere(backend: str) -> bool:
    """Whether `backend` runs its work on a cluster that runs already."""
    return bool(os.environ.get(ADDRESSES.get(backend, "")))


def num_at_once(n_jobs: int, backend: str) -> int:
    """Number of jobs that run at once if the user wants `n_jobs`, as joblib counts it: -1 stands for all cores.

    `backend`, the one that is active, takes at most one job for each of its cores if it is a cluster.
    """
    from joblib import effective_n_jobs

    if backend not in ADDRESSES:
        return int(effective_n_jobs(n_jobs))
    cores = int(effective_n_jobs(-1))
    return min(n_jobs, cores) if n_jobs > 0 else max(1, cores + 1 + n_jobs)


def num_processes(asked: int | None, seconds: float, start_seconds: float) -> int:
    """Number of processes to use, at most one for each usable core.

    `asked` is the number that the user wants; with None, each process gets at least as many of the work's `seconds` as it
    takes to start.
    """
    from joblib import effective_n_jobs

    cores = effective_n_jobs(-1)
    return min(asked, cores) if asked else max(1, min(cores, int(seconds / start_seconds)))


def results(jobs: Iterable[Any], processes: int) -> Iterable[Any]:
    """Yield the results of joblib's `jobs` in the order in which they end; Ray gives all of them at its end."""
    from joblib import Parallel
    from joblib.parallel import get_active_backend

    one_by_one = get_active_backend()[0].supports_return_generator
    return Parallel(n_jobs=processes, return_as="generator_unordered" if one_by_one else "list")(jobs)


def _ray(show_output: bool) -> AbstractContextManager[object]:
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # else lines that differ in a number alone are shown once
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    # "local", as without an address Ray joins any cluster that it finds traces of on this machine
    address = os.environ.get(ADDRESSES["ray"], "local")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():  # Ray itself tries for a quarter of an hour
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    handler = signal.getsignal(signal.SIGTERM)
    session: AbstractContextManager[object] = ray.init(address, log_to_driver=show_output, logging_level=logging.ERROR)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray's would exit with another code than a stopped stage
    return session


def _dask() -> AbstractContextManager[object]:
    from distributed import Client

    # Ctrl-C reaches all processes of a terminal; workers inherit that they ignore it, and end when this process closes them.
    resource_tracker.ensure_running()  # else the first worker's start would take the mask back
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        client: AbstractContextManager[object] = Client()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return client
