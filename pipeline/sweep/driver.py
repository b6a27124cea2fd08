"""Starts a sweep or takes one up again, launches its jobs through Hydra, and sees to it that all of them end."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.config import composing, ending, params
from pipeline.config.errors import ConfigError, UserError
from pipeline.config.schema import Config
from pipeline.storage import lineage, lock
from pipeline.sweep import records, study
from pipeline.sweep.job import STOP_FILE, RunJob, Task, running

Surround = Callable[[Path, list[str], Config], AbstractContextManager[None]]
"""Surrounds all jobs of a sweep; is given its folder, the user's overrides, and the configuration without what varies."""

GRACE_SECONDS = 20.0
_LAUNCHER = ("hydra/launcher=", "hydra.launcher.")
_KEPT_VARIABLES = ("GOODFIT_", "MLFLOW_", "DVC_", "OMP_", "MKL_")


def start(stage: str, overrides: list[str], run_job: RunJob, surround: Surround) -> None:
    """Run a new sweep in `multirun/<stage>/<time>`.

    All jobs compose from a copy of `conf/` and `params.yaml`, so that later edits do not reach jobs that wait.

    Raises:
        UserError: Some jobs did not finish.
    """
    folder = lineage.ROOT / "multirun" / stage / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    source = folder / ".source"
    shutil.copytree(lineage.PROJECT / "conf", source / "conf")
    shutil.copy2(lineage.PROJECT / "params.yaml", source)
    records.write_request(source, stage, overrides)
    with lock.held(folder):
        _run(stage, folder, overrides, [], run_job, surround)


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
    for override in launching:
        if not override.startswith(_LAUNCHER):
            raise ConfigError(
                f"beside --resume there must be overrides of hydra/launcher only; got {override!r}. "
                "Start a new sweep for other jobs."
            )
    if any(override.startswith("hydra/launcher=") for override in launching):
        overrides = [override for override in overrides if not override.startswith(_LAUNCHER)]
    with lock.held(folder):
        (folder / STOP_FILE).unlink(missing_ok=True)
        again = (records.SKIPPED, records.STOPPED, *(() if study.is_study(folder) else (records.FAILED,)))
        records.forget(folder, again)
        _run(stage, folder, overrides, launching, run_job, surround)


def _run(
    stage: str, folder: Path, overrides: list[str], launching: list[str], run_job: RunJob, surround: Surround
) -> None:
    conf, file = folder / ".source" / "conf", folder / ".source" / "params.yaml"
    resumption = f"`python -m pipeline.{stage} --resume {os.path.relpath(folder)}` goes on where it was."
    fixed = [override for override in overrides if not _parse([override])[0].is_sweep_override()]
    config = composing.compose(conf, file, [*fixed, *launching])
    with surround(folder, overrides, config):
        try:
            _launch(stage, folder, conf, file, [*overrides, *launching], run_job)
        except KeyboardInterrupt:
            print(f"the sweep was stopped; {resumption}", file=sys.stderr)
            raise
        except Exception as error:
            _end_jobs(folder)
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"the processes of a sweep must live as long as its jobs; {type(error).__name__}: "
                f"{' '.join(str(error).split())} {resumption}"
            ) from error
    failed = [out.name for out in records.folders(folder) if records.status(out) not in records.OVER]
    if failed:
        raise UserError(
            f"every job of the sweep must finish; {', '.join(failed)} did not, see above and {folder}. {resumption}"
        )


def _launch(stage: str, folder: Path, conf: Path, file: Path, overrides: list[str], run_job: RunJob) -> None:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import RunMode

    given = params.hydra_overrides(conf, file, overrides)
    own = [f"hydra.job.name={stage}", f"hydra.sweep.dir={folder}", "hydra.mode=MULTIRUN"]
    try:
        with initialize_config_dir(str(conf), job_name=stage, version_base="1.3"):
            # Hydra takes plug-ins of this namespace only; its search for them would import ours at every start.
            Plugins.instance().class_name_to_class["hydra_plugins.goodfit.OptunaSweeper"] = study.OptunaSweeper
            hydra: Any = GlobalHydra.instance().hydra
            composed = hydra.compose_config("config", [*given, *own], RunMode.MULTIRUN)
            launcher = composed.hydra.launcher
            learns = _is(composed.hydra.sweeper, "OptunaSweeper")
            num_jobs = study.side_by_side(composed.hydra) if learns else _num_jobs(given)
            task = Task(
                run_job,
                folder,
                frozenset(given[: len(given) - len(overrides)]),
                _environment(_threads(launcher, num_jobs)),
                apart=not _is(launcher, "BasicLauncher"),
                parent=os.getpid() if _is(launcher, "JoblibLauncher") else None,
            )
            if task.apart:
                _stop_jobs_first(folder)
            hydra.multirun("config", task, [*given, *own])
    except HydraException as error:
        raise ConfigError(f"conf/ must compose with params.yaml; {' '.join(str(error).split())}") from None
    finally:
        ending.listen()


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


def _num_jobs(overrides: list[str]) -> int:
    from math import prod

    sweeps = (override for override in _parse(overrides) if override.is_discrete_sweep())
    return prod(len(list(override.sweep_string_iterator())) for override in sweeps)


def _parse(overrides: list[str]) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ConfigError(f"the command line must be Hydra's; {' '.join(str(error).split())}") from None


def _is(plugin: Any, name: str) -> bool:
    return str(plugin._target_).endswith(name)


def _stop_jobs_first(folder: Path) -> None:
    """Let a signal to stop reach the jobs, and let them close their runs, before this process heeds it."""

    def handle(number: int, frame: FrameType | None) -> None:
        for each in ending.STOPPING:
            signal.signal(each, signal.SIG_IGN)  # a second one would break off the waiting
        _end_jobs(folder)
        ending.stop(number, frame)

    for number in ending.STOPPING:
        signal.signal(number, handle)


def _end_jobs(folder: Path) -> None:
    """Ask all jobs to stop, and wait for them."""
    (folder / STOP_FILE).touch()
    give_up_at = time.monotonic() + GRACE_SECONDS
    while running(folder) and time.monotonic() < give_up_at:
        time.sleep(0.05)
