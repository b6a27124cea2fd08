"""Starts or resumes a sweep, launches its jobs through Hydra, and waits until all of them have ended."""

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.artefacts.job import FAILED, SKIPPED, STOPPED
from pipeline.config import grammar
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, UserError
from pipeline.stage import lineage, signals
from pipeline.storage import lock
from pipeline.sweep import records, study
from pipeline.sweep.job import STOP_FILE, RunJob, running
from pipeline.sweep.plan import Plan, hydra_of, make_plan

Surround = Callable[[Path, list[str], Config], AbstractContextManager[None]]
"""Surrounds all jobs of a sweep; takes its folder, the user's overrides, and the configuration without the varied keys."""

GRACE_SECONDS = 20.0
_LAUNCHER = ("hydra/launcher=", "hydra.launcher.")


def start(stage: str, overrides: list[str], run_job: RunJob, surround: Surround) -> None:
    """Run a new sweep in `multirun/<stage>/<time>`.

    All jobs compose from a copy of `conf/` and `params.yaml`, so that later edits do not reach jobs that wait.

    Raises:
        ConfigError: The overrides ask for no sweep, or for a cluster that does not answer; nothing is left of it.
        UserError: Some jobs did not finish.
    """
    overrides = [grammar.typed(override, is_sweep=True) for override in overrides]
    folder = create(stage, overrides)
    with lock.held(folder), ExitStack() as stack:
        try:
            plan = make_plan(stage, folder, overrides, run_job)
            stack.enter_context(plan.workers())
        except ConfigError:
            shutil.rmtree(folder)
            raise
        _run(plan, overrides, surround)


def create(stage: str, overrides: list[str]) -> Path:
    """Make the folder of a new sweep, with its request and a copy of the configuration."""
    folder = lineage.ROOT / "multirun" / stage / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    source = folder / ".source"
    shutil.copytree(lineage.PROJECT / "conf", source / "conf")
    shutil.copy2(lineage.PROJECT / "params.yaml", source)
    records.write_request(source, stage, overrides)
    return folder


def run_listed(
    stage: str, folder: Path, overrides: list[str], jobs: Sequence[Sequence[str]], run_job: RunJob,
    results: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Run those of `jobs` that are not over, with the launcher of `overrides`; the caller holds the folder.

    Args:
        stage: Name of the stage or the command.
        folder: Folder that `create` made.
        overrides: Overrides that all jobs have in common, launcher included.
        jobs: Overrides of each job; those of an earlier call must stand first and unchanged, as jobs go by number.
        run_job: Runs one job.
        results: Names of the errors with which a job that failed counts as over.

    Raises:
        ConfigError: The overrides do not compose.
        UserError: Some jobs did not finish.
    """
    records.write_jobs(folder, jobs)
    plan = make_plan(stage, folder, [*overrides, "hydra/sweeper=listed"], run_job, results)
    with plan.workers():
        _run(plan, overrides, lambda *_: nullcontext())


def resume(stage: str, folder: Path, launching: list[str], run_job: RunJob, surround: Surround) -> None:
    """Complete the sweep in `folder`: jobs that are over stay, interrupted ones go on, all others run.

    Args:
        stage: Name of the stage.
        folder: Folder of the sweep, which holds the overrides of its jobs.
        launching: Overrides of `hydra/launcher` and its keys.
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
        plan = make_plan(stage, folder, together, run_job)
        with plan.workers():
            _run(plan, overrides, surround)


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
    again = (SKIPPED, STOPPED, *(() if study.is_study(folder) else (FAILED,)))
    records.forget(folder, again)


def _run(plan: Plan, overrides: list[str], surround: Surround) -> None:
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
        failures_are_results = study.is_study(folder) and set(unfinished.values()) == {FAILED}
        raise UserError(
            f"every job of the sweep must finish; {', '.join(unfinished)} did not, see above and {folder}. "
            + ("The search went on without them." if failures_are_results else f"{resumption} goes on where it was.")
        )


def _launch(plan: Plan) -> None:
    from hydra.core.global_hydra import GlobalHydra

    if plan.task.apart:
        _stop_jobs_first(plan.folder)
    if plan.log_folder is not None:
        print(f"what the jobs print lies in {plan.log_folder}")
    try:
        with hydra_of(plan.stage, plan.folder):
            hydra: Any = GlobalHydra.instance().hydra
            hydra.multirun("config", plan.task, plan.arguments)
    finally:
        signals.listen()


def _stop_jobs_first(folder: Path) -> None:
    """Let a signal to stop reach the jobs, and let them close their runs, before this process heeds it."""

    def handle(number: int, frame: FrameType | None) -> None:
        for stopping in signals.STOPPING:
            signal.signal(stopping, signal.SIG_IGN)  # a second one would break off the waiting
        _end_jobs(folder)
        signals.stop(number, frame)

    for number in signals.handled():
        signal.signal(number, handle)


def _end_jobs(folder: Path) -> None:
    """Ask all jobs to stop, and wait for them."""
    (folder / STOP_FILE).touch()
    give_up_at = time.monotonic() + GRACE_SECONDS
    while running(folder) and time.monotonic() < give_up_at:
        time.sleep(0.05)
