"""Starts a sweep or takes one up again, launches its jobs through Hydra, and sees to it that all of them end."""

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.config import composition
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, UserError
from pipeline.stage import lineage, signals
from pipeline.storage import lock
from pipeline.sweep import records, study
from pipeline.sweep.job import STOP_FILE, RunJob, Task, running
from pipeline.sweep.listed_sweeper import ListedSweeper
from pipeline.sweep.overrides import by_origin, check_sweeper, count_jobs, parse

Surround = Callable[[Path, list[str], Config], AbstractContextManager[None]]
"""Surrounds all jobs of a sweep; is given its folder, the user's overrides, and the configuration without what varies."""

GRACE_SECONDS = 20.0
_LAUNCHER = ("hydra/launcher=", "hydra.launcher.")
_KEPT_VARIABLES = ("GOODFIT_", "MLFLOW_", "DVC_", "OMP_", "MKL_")


def start(stage: str, overrides: list[str], run_job: RunJob, surround: Surround) -> None:
    """Run a new sweep in `multirun/<stage>/<time>`.

    All jobs compose from a copy of `conf/` and `params.yaml`, so that later edits do not reach jobs that wait.

    Raises:
        ConfigError: What was asked for is no sweep; nothing is left of it.
        UserError: Some jobs did not finish.
    """
    folder = create(stage, overrides)
    with lock.held(folder):
        try:
            plan = _plan(stage, folder, overrides, run_job)
        except ConfigError:
            shutil.rmtree(folder)
            raise
        _run(plan, overrides, surround)


def create(stage: str, overrides: list[str]) -> Path:
    """The folder of a new sweep, with its request and a copy of the configuration."""
    folder = lineage.ROOT / "multirun" / stage / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    source = folder / ".source"
    shutil.copytree(lineage.PROJECT / "conf", source / "conf")
    shutil.copy2(lineage.PROJECT / "params.yaml", source)
    records.write_request(source, stage, overrides)
    return folder


def run_listed(
    stage: str,
    folder: Path,
    overrides: list[str],
    jobs: Sequence[Sequence[str]],
    run_job: RunJob,
    results: tuple[str, ...] = (),
) -> None:
    """Run those of `jobs` that are not over, as the launcher says; the caller holds the folder.

    Args:
        stage: Name of the stage or the command.
        folder: From `create`.
        overrides: That all jobs have in common, launcher included.
        jobs: The overrides of each; those of an earlier call must stand first and unchanged, as jobs go by number.
        run_job: Runs one job.
        results: Names of the errors with which a job that failed counts as over.

    Raises:
        ConfigError: The overrides do not compose.
        UserError: Some jobs did not finish.
    """
    records.write_jobs(folder, jobs)
    plan = _plan(stage, folder, [*overrides, "hydra/sweeper=listed"], run_job, results)
    _run(plan, overrides, lambda *_: nullcontext())


def resume(stage: str, folder: Path, launching: list[str], run_job: RunJob, surround: Surround) -> None:
    """Complete the sweep in `folder`: jobs that are over stay, interrupted ones go on, all others run.

    Args:
        stage: Name of the stage.
        folder: The sweep's.
        launching: Overrides of Hydra's own keys, such as another launcher; what the jobs are stands in the folder.
        run_job: Runs one job.
        surround: Surrounds all jobs.

    Raises:
        DataError: The folder holds no sweep of this stage.
        ConfigError: An override would change the jobs.
        BusyError: The sweep still runs.
        UserError: Some jobs did not finish.
    """
    folder = folder.absolute()
    overrides = records.read_request(folder, stage)
    together = relaunched(overrides, launching)
    with lock.held(folder):
        make_ready(folder)
        _run(_plan(stage, folder, together, run_job), overrides, surround)


def relaunched(overrides: list[str], launching: list[str]) -> list[str]:
    """The overrides of a sweep that goes on, with another launcher where one is asked for.

    Raises:
        ConfigError: `launching` would change the jobs.
    """
    for override in launching:
        if not override.startswith(_LAUNCHER):
            raise ConfigError(
                f"beside --resume there must be overrides of hydra/launcher only; got {override!r}. "
                "Start a new sweep for other jobs."
            )
    if any(override.startswith("hydra/launcher=") for override in launching):
        overrides = [override for override in overrides if not override.startswith(_LAUNCHER)]
    return [*overrides, *launching]


def make_ready(folder: Path) -> None:
    """Forget how jobs ended that are to run again."""
    (folder / STOP_FILE).unlink(missing_ok=True)
    again = (records.SKIPPED, records.STOPPED, *(() if study.is_study(folder) else (records.FAILED,)))
    records.forget(folder, again)


@dataclass(frozen=True)
class _Plan:
    """A sweep that is ready to start: what its jobs have in common, what runs them, and what Hydra is told.

    `prints_to` is where jobs print whose output does not come here.
    """

    stage: str
    folder: Path
    config: Config
    task: Task
    arguments: list[str]
    prints_to: Path | None


def _plan(stage: str, folder: Path, overrides: list[str], run_job: RunJob, results: tuple[str, ...] = ()) -> _Plan:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    conf, file = folder / ".source" / "conf", folder / ".source" / "params.yaml"
    check_sweeper(overrides)
    fixed = [override for override in overrides if not parse([override])[0].is_sweep_override()]
    config = composition.compose(conf, file, fixed)
    from_file, given = by_origin(conf, file, overrides)
    own = [f"hydra.job.name={stage}", f"hydra.sweep.dir={composition.quote(str(folder))}", "hydra.mode=MULTIRUN"]
    arguments = [*from_file, *given, *own]
    with _hydra(stage, folder):
        hydra: Any = GlobalHydra.instance().hydra
        composed = hydra.compose_config("config", arguments, RunMode.MULTIRUN)
        section = composed.hydra
        _check_installed(section.launcher)
        if _is(section.sweeper, "OptunaSweeper"):
            study.check(folder, composed, frozenset(from_file))
            num_jobs = study.side_by_side(section)
        elif _is(section.sweeper, "ListedSweeper"):
            num_jobs = len(records.read_jobs(folder))
        else:
            num_jobs = count_jobs(given)
    task = Task(
        run_job,
        folder,
        frozenset(from_file),
        _environment(_threads(section.launcher, num_jobs)),
        apart=not _is(section.launcher, "BasicLauncher"),
        parent=os.getpid() if _is(section.launcher, "JoblibLauncher") else None,
        results=results,
    )
    prints_to = folder / ".submitit" if "submitit_folder" in section.launcher else None
    return _Plan(stage, folder, config, task, arguments, prints_to)


def _run(plan: _Plan, overrides: list[str], surround: Surround) -> None:
    folder = plan.folder
    resumption = f"`python -m pipeline.{plan.stage} --resume {shlex.quote(os.path.relpath(folder))}`"
    with surround(folder, overrides, plan.config):
        try:
            _launch(plan)
        except KeyboardInterrupt:
            print(f"the sweep was stopped; {resumption} goes on where it was.", file=sys.stderr)
            raise
        except Exception as error:
            _end_jobs(folder)
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"the launcher must start every job and keep it alive; {type(error).__name__}: "
                f"{' '.join(str(error).split())} {resumption} goes on where it was."
            ) from error
    ended = [out for out in records.folders(folder) if not records.is_over(out, plan.task.results)]
    unfinished = {out.name: records.status(out) for out in ended}
    if unfinished:
        failures_are_results = study.is_study(folder) and set(unfinished.values()) == {records.FAILED}
        raise UserError(
            f"every job of the sweep must finish; {', '.join(unfinished)} did not, see above and {folder}. "
            + ("The search went on without them." if failures_are_results else f"{resumption} goes on where it was.")
        )


def _launch(plan: _Plan) -> None:
    from hydra.core.global_hydra import GlobalHydra

    if plan.task.apart:
        _stop_jobs_first(plan.folder)
    if plan.prints_to is not None:
        print(f"what the jobs print lies in {plan.prints_to}")
    try:
        with _hydra(plan.stage, plan.folder):
            hydra: Any = GlobalHydra.instance().hydra
            hydra.multirun("config", plan.task, plan.arguments)
    finally:
        signals.listen()


@contextmanager
def _hydra(stage: str, folder: Path) -> Iterator[None]:
    """Within the block, Hydra composes from the sweep's copy of `conf/`, and what it refuses is a `ConfigError`."""
    from hydra import initialize_config_dir
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException

    # Hydra takes plug-ins of this namespace only; its search for them would import ours at every start.
    for sweeper in (study.OptunaSweeper, ListedSweeper):
        Plugins.instance().class_name_to_class[f"hydra_plugins.goodfit.{sweeper.__name__}"] = sweeper
    try:
        with initialize_config_dir(str(folder / ".source" / "conf"), job_name=stage, version_base="1.3"):
            yield
    except HydraException as error:
        raise ConfigError(f"conf/ must compose with params.yaml; {' '.join(str(error).split())}") from None


def _threads(launcher: Any, num_jobs: int) -> int | None:
    """Threads for each of `num_jobs` jobs, such that together they use each core once; None: the launcher decides."""
    from joblib import cpu_count, effective_n_jobs

    if _is(launcher, "JoblibLauncher"):
        return max(1, cpu_count() // min(effective_n_jobs(launcher.n_jobs), num_jobs))
    if _is(launcher, "submitit_launcher.LocalLauncher"):  # starts all of them at once
        return max(1, cpu_count() // num_jobs)
    return None


def _environment(threads: int | None) -> dict[str, str]:
    """What jobs in other processes take over of this one's variables; torch and numpy read the number of threads there."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = os.environ.get(name) or str(threads)
    return {name: value for name, value in os.environ.items() if name.startswith(_KEPT_VARIABLES)}


def _check_installed(launcher: Any) -> None:
    from importlib.util import find_spec

    namespace, package, *_ = str(launcher._target_).split(".")
    if namespace == "hydra_plugins" and find_spec(f"{namespace}.{package}") is None:
        raise ConfigError(
            f"hydra/launcher must be one whose package is installed; got one of {package.replace('_', '-')}. "
            "The head of its file in conf/hydra/launcher/ says how to install it."
        )


def _is(plugin: Any, name: str) -> bool:
    return str(plugin._target_).endswith(name)


def _stop_jobs_first(folder: Path) -> None:
    """Let a signal to stop reach the jobs, and let them close their runs, before this process heeds it."""

    def handle(number: int, frame: FrameType | None) -> None:
        for each in signals.STOPPING:
            signal.signal(each, signal.SIG_IGN)  # a second one would break off the waiting
        _end_jobs(folder)
        signals.stop(number, frame)

    for number in signals.STOPPING:
        signal.signal(number, handle)


def _end_jobs(folder: Path) -> None:
    """Ask all jobs to stop, and wait for them."""
    (folder / STOP_FILE).touch()
    give_up_at = time.monotonic() + GRACE_SECONDS
    while running(folder) and time.monotonic() < give_up_at:
        time.sleep(0.05)
