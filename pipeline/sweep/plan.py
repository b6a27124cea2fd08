"""Composes a sweep before it starts: its configuration, the launcher, and the share of the cores that each job gets."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.config import composition, secrets
from pipeline.config.grammar import quote
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.storage import processes
from pipeline.sweep import records, study
from pipeline.sweep.job import RunJob, Task
from pipeline.sweep.launcher import JoblibLauncher
from pipeline.sweep.overrides import by_origin, check_launcher, check_sweeper, count_jobs, first_job
from pipeline.sweep.sweepers import ListedSweeper, OptunaSweeper

_KEPT_VARIABLES = ("GOODFIT_", "MLFLOW_", "DVC_", "OMP_", "MKL_")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables from which numpy and torch read the number of threads; torch heeds the second one before the first."""


@dataclass(frozen=True)
class Plan:
    """A sweep that is ready to start.

    Attributes:
        stage: Name of the stage.
        folder: Folder of the sweep.
        config: Configuration that all jobs start from.
        task: Runs a job.
        arguments: Overrides for Hydra, those of `params.yaml` included.
        backend: Backend of joblib that runs the jobs; None: another launcher does.
        options: Further arguments of that backend.
        log_folder: Folder with what the jobs print; None: they print here.
    """

    stage: str
    folder: Path
    config: Config
    task: Task
    arguments: list[str]
    backend: str | None
    options: Mapping[str, Any]
    log_folder: Path | None

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Within the block, the cluster that runs the jobs is there, and processes that start get the jobs' number of threads.

        Raises:
            ConfigError: Its package is not installed, or it does not answer.
        """
        with _threads(self.task.environment), self._cluster():
            yield

    def _cluster(self) -> AbstractContextManager[None]:
        if self.backend is None:
            return nullcontext()
        return processes.running_on(self.backend, "hydra.launcher.backend", options=self.options, show_output=True)


def make_plan(stage: str, folder: Path, overrides: list[str], run_job: RunJob, results: tuple[str, ...] = ()) -> Plan:
    """Compose the sweep in `folder`, and refuse what cannot be one before anything runs.

    Args:
        stage: Name of the stage or the command.
        folder: Folder of the sweep, with its copy of the configuration.
        overrides: Overrides that the user gave.
        run_job: Runs one job.
        results: Names of the errors with which a job that failed counts as over.

    Raises:
        ConfigError: The overrides do not compose, or ask for no sweep.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    conf, file = folder / ".source" / "conf", folder / ".source" / "params.yaml"
    check_sweeper(overrides)
    check_launcher(overrides)
    config = composition.compose(conf, file, first_job(overrides))
    from_file, given = by_origin(conf, file, overrides)
    own = [f"hydra.job.name={stage}", f"hydra.sweep.dir={quote(str(folder))}", "hydra.mode=MULTIRUN"]
    arguments = [*from_file, *given, *own]
    with hydra_of(stage, folder):
        hydra: Any = GlobalHydra.instance().hydra
        composed = hydra.compose_config("config", arguments, RunMode.MULTIRUN)
        section = composed.hydra
        _check_installed(section.launcher)
        if _is(section.sweeper, "OptunaSweeper"):
            study.check(folder, composed, frozenset(from_file))
            num_jobs = study.num_at_once(section)
        elif _is(section.sweeper, "ListedSweeper"):
            num_jobs = len(records.read_jobs(folder))
        else:
            num_jobs = count_jobs(given)
        backend, options = _joblib(section.launcher)
    environment = _environment(_num_threads(section.launcher, num_jobs))
    if (
        "submitit_folder" in section.launcher
    ):  # it writes the task into files; the jobs get this process's variables anyway
        environment = secrets.without_secret_variables(environment)
    task = Task(
        run_job, folder, frozenset(from_file), environment,
        apart=not _is(section.launcher, "BasicLauncher"), parent=os.getpid() if backend == "loky" else None,
        results=results,
    )  # fmt: skip
    log_folder = folder / ".submitit" if "submitit_folder" in section.launcher else None
    return Plan(stage, folder, config, task, arguments, backend, options, log_folder)


@contextmanager
def hydra_of(stage: str, folder: Path) -> Iterator[None]:
    """Within the block, Hydra composes from the sweep's copy of `conf/`, and what it refuses is a `ConfigError`."""
    from hydra import initialize_config_dir
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException

    # Hydra takes plug-ins of this namespace only; its search for them would import ours at every start.
    for plugin in (OptunaSweeper, ListedSweeper, JoblibLauncher):
        Plugins.instance().class_name_to_class[f"hydra_plugins.goodfit.{plugin.__name__}"] = plugin
    try:
        with initialize_config_dir(str(folder / ".source" / "conf"), job_name=stage, version_base="1.3"):
            yield
    except HydraException as error:
        raise ConfigError(f"conf/ must compose with params.yaml; {' '.join(str(error).split())}") from None


def _joblib(launcher: Any) -> tuple[str | None, Mapping[str, Any]]:
    """The backend of joblib that runs the jobs, and its further arguments; None with another launcher."""
    from omegaconf import OmegaConf

    if not _is(launcher, "JoblibLauncher"):
        return None, {}
    if not isinstance(launcher.n_jobs, int) or launcher.n_jobs == 0:
        raise ConfigError(
            f"hydra.launcher.n_jobs must be a whole number, -1 for all cores; got {launcher.n_jobs!r}. Set another one."
        )
    if launcher.options is not None:
        return str(launcher.backend), OmegaConf.to_container(launcher.options)  # type: ignore[return-value]
    # Ray's pool takes no core for a job, unless it is told to, and may run all of them on one node.
    return str(launcher.backend), {"ray_remote_args": {"num_cpus": 1}} if launcher.backend == "ray" else {}


def _num_threads(launcher: Any, num_jobs: int) -> int | None:
    """Threads for each of `num_jobs` jobs, such that together they use each core once; None: the launcher decides."""
    from joblib import cpu_count

    if _is(launcher, "JoblibLauncher") and not processes.is_elsewhere(launcher.backend):
        return max(1, cpu_count() // min(processes.num_at_once(launcher.n_jobs, launcher.backend), num_jobs))
    if _is(launcher, "submitit_launcher.LocalLauncher"):  # starts all of them at once
        return max(1, cpu_count() // num_jobs)
    return None


def _environment(num_threads: int | None) -> dict[str, str]:
    """This process's variables that jobs elsewhere take over, with the user's number of threads, else with `num_threads`."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT_VARIABLES)}
    if num_threads is not None:
        by_user = [kept[name] for name in _THREADS if kept.get(name)]
        for name in _THREADS:
            kept[name] = kept.get(name) or (by_user[0] if by_user else str(num_threads))
    return kept


@contextmanager
def _threads(environment: Mapping[str, str]) -> Iterator[None]:
    """Within the block, this process has the number of threads of `environment`, which the next sweep in it must not see."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update({name: environment[name] for name in _THREADS if name in environment})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _check_installed(launcher: Any) -> None:
    namespace, package, *_ = str(launcher._target_).split(".")
    if namespace == "hydra_plugins" and package != "goodfit" and find_spec(f"{namespace}.{package}") is None:
        raise ConfigError(
            f"hydra/launcher must be one whose package is installed; got one of {package.replace('_', '-')}. "
            "The head of its file in conf/hydra/launcher/ says how to install it."
        )


def _is(plugin: Any, name: str) -> bool:
    return str(plugin._target_).endswith(name)
