"""Backends of joblib: chosen by name, with a message where a package is missing or a cluster does not answer."""

import sys
from types import ModuleType

import joblib
import pytest

from pipeline.errors import ConfigError
from pipeline.storage.processes import num_at_once, running_on


def test_loky_is_this_machine() -> None:
    with running_on("loky", "augment.backend"):
        assert joblib.effective_n_jobs(-1) == joblib.cpu_count()


@pytest.mark.parametrize(("backend", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_missing_package_is_told_with_its_remedy(backend: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    match = (
        rf"^augment\.backend={backend} needs the package of {backend} \(.*{package}.*\)\. Install it with "
        rf"`pip install -e '\.\[{backend}\]'`, or set augment\.backend=loky\.$"
    )
    with pytest.raises(ConfigError, match=match), running_on(backend, "augment.backend"):
        pass


def test_cluster_that_does_not_answer_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def client() -> None:
        raise OSError("Timed out trying to connect\nto tcp://away:8786 after 30 s.")

    distributed = ModuleType("distributed")
    distributed.Client = client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distributed", distributed)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://away:8786")
    match = (
        r"^augment\.backend=dask must reach its cluster; got DASK_SCHEDULER_ADDRESS=tcp://away:8786: Timed out trying to "
        r"connect to tcp://away:8786 after 30 s\. Correct the address, unset it .*, or set augment\.backend=loky\.$"
    )
    with pytest.raises(ConfigError, match=match), running_on("dask", "augment.backend"):
        pass


def test_unknown_backend_is_refused() -> None:
    match = (
        r"^augment\.backend must be loky, ray or dask; got 'threads'\. Set augment\.backend=loky for this machine\.$"
    )
    with pytest.raises(ConfigError, match=match), running_on("threads", "augment.backend"):
        pass


@pytest.mark.parametrize(
    ("n_jobs", "backend", "expected"),
    [(-1, "loky", 4), (9, "loky", 9), (-1, "ray", 4), (-2, "dask", 3), (9, "ray", 4), (2, "dask", 2), (-9, "dask", 1)],
)
def test_a_cluster_runs_at_most_one_job_on_each_core(
    monkeypatch: pytest.MonkeyPatch, n_jobs: int, backend: str, expected: int
) -> None:
    monkeypatch.setattr("joblib.effective_n_jobs", lambda number: 4 if number == -1 else number)
    assert num_at_once(n_jobs, backend) == expected


def test_error_of_the_work_itself_is_left_as_it_is() -> None:
    with pytest.raises(OSError, match="of the work"), running_on("loky", "augment.backend"):
        raise OSError("of the work")
