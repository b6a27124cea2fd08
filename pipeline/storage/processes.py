"""Where the processes of a stage run: on this machine or on a cluster, as joblib's backends have it."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from pipeline.errors import ConfigError

ADDRESSES = {"ray": "RAY_ADDRESS", "dask": "DASK_SCHEDULER_ADDRESS"}
"""The environment variable that tells each package where its cluster is."""


@contextmanager
def running_on(backend: str, key: str) -> Iterator[None]:
    """Give the work that joblib is asked for in the block to `backend`.

    Args:
        backend: `loky`, the cores of this machine; `ray` or `dask`, the cluster that the variable of `ADDRESSES` names, else
            one on this machine that ends with the block. A cluster's workers need the project's code and file system.
        key: The configuration key that chose it, for messages.

    Raises:
        ConfigError: The backend's package is not installed, or its cluster does not answer.
    """
    import joblib

    clusters: dict[str, Callable[[], AbstractContextManager[object]]] = {"ray": _ray, "dask": _dask}
    try:
        cluster = clusters.get(backend, nullcontext)()
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
    with cluster, joblib.parallel_config(backend=backend):
        yield


def num_processes(asked: int | None, seconds: float, start_seconds: float) -> int:
    """How many processes to use, at most one for each usable core.

    Args:
        asked: So many; None: as many as have at least as much to do as they cost to start.
        seconds: What all the work takes one process.
        start_seconds: What a process takes before it begins to work.
    """
    from joblib import effective_n_jobs

    cores = effective_n_jobs(-1)
    return min(asked, cores) if asked else max(1, min(cores, int(seconds / start_seconds)))


def results(jobs: Iterable[Any], processes: int) -> Iterable[Any]:
    """What joblib's `jobs` give, one by one as they end, in any order; from Ray, which cannot, all at its end."""
    from joblib import Parallel
    from joblib.parallel import get_active_backend

    one_by_one = get_active_backend()[0].supports_return_generator
    found: Iterable[Any] = Parallel(n_jobs=processes, return_as="generator_unordered" if one_by_one else "list")(jobs)
    return found


def _ray() -> AbstractContextManager[object]:
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    if ray.is_initialized():  # a job of a sweep that Ray itself launched
        return nullcontext()
    # "local", as without an address Ray joins any cluster that it finds traces of on this machine
    session: AbstractContextManager[object] = ray.init(
        os.environ.get(ADDRESSES["ray"], "local"), log_to_driver=False, logging_level=logging.ERROR
    )
    return session


def _dask() -> AbstractContextManager[object]:
    from distributed import Client

    client: AbstractContextManager[object] = Client()
    return client
