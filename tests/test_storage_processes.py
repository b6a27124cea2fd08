"""Where processes run: chosen by name, and told where the package of a cluster is missing."""

import sys
from types import ModuleType

import joblib
import pytest

from pipeline.errors import ConfigError
from pipeline.storage.processes import running_on


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


def test_error_of_the_work_itself_is_left_as_it_is() -> None:
    with pytest.raises(OSError, match="of the work"), running_on("loky", "augment.backend"):
        raise OSError("of the work")
