"""Runs a job of a sweep, in the process of the sweep or in one of its own."""

import gc
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pipeline.artefacts.job import FAILED, FINISHED, PRUNED, SKIPPED, STOPPED, JobRecord
from pipeline.config.secrets import masked
from pipeline.stage import signals
from pipeline.stage.entry import RunJob, overrides_of_job
from pipeline.storage import lock
from pipeline.sweep import pruning, records

STOP_FILE = ".stop"
WATCH_SECONDS = 0.5

LOG_VARIABLE = "GOODFIT_JOB_LOG"
"""Environment variable with the file into which jobs in processes of their own print, if not here."""


@dataclass(frozen=True)
class Task:
    """Runs a job when a launcher of Hydra's calls it, here or, pickled, elsewhere.

    Attributes:
        run_job: Runs the stage.
        folder: Folder of the sweep.
        from_file: Overrides that come from `params.yaml`, which set no job apart.
        environment: Environment variables that the jobs need wherever they run.
        apart: Whether a job has a process of its own.
        parent: Id of the process that started the job's process, which does not outlive it; None: it does.
        results: Names of the errors that are results: a job that failed with one is over.
        make_judge: Makes the judge that prunes a job, from its number and its last epoch; None: nothing does.
    """

    run_job: RunJob
    folder: Path
    from_file: frozenset[str]
    environment: dict[str, str]
    apart: bool
    parent: int | None
    results: tuple[str, ...] = ()
    make_judge: Callable[[int, int], pruning.Judge] | None = None

    def __call__(self, composed: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        out = Path(HydraConfig.get().runtime.output_dir)
        given = [override for override in overrides_of_job() if override not in self.from_file]
        overrides = tuple(override.removeprefix("++") for override in given)
        os.environ.update(self.environment)
        with ExitStack() as stack:
            if self.apart:
                stack.enter_context(_prefixed(f"[{out.name}] "))
                stack.enter_context(_stoppable(self.ought_to_stop))
            stack.enter_context(lock.held(out, wait=True))  # a job of a killed sweep may still run
            if not records.is_over(out, self.results) and not self.ought_to_stop():
                if self.make_judge is not None:
                    stack.enter_context(pruning.judged_by(self.make_judge(int(out.name), composed.train.max_epochs)))
                self._run(composed, overrides, out)
        if self.is_orphan():
            os._exit(1)  # nobody waits for the result; joblib's processes would wait minutes for another job

    def ought_to_stop(self) -> bool:
        """Whether the sweep was stopped, or its process is gone."""
        return (self.folder / STOP_FILE).exists() or self.is_orphan()

    def is_orphan(self) -> bool:
        """Whether the process that started this one is gone."""
        return self.parent is not None and os.getppid() != self.parent

    def _run(self, composed: Any, overrides: tuple[str, ...], out: Path) -> None:
        ended: str = FAILED
        error: str | None = "its process was told to exit"
        begin = time.monotonic()
        try:
            if composed.fail_fast and FAILED in map(records.status, records.folders(self.folder)):
                ended, error = SKIPPED, "an earlier job failed and fail_fast is true"
            else:
                self.run_job(composed, overrides, out)
                ended, error = FINISHED, None
        except pruning.Pruned as reason:
            ended, error = PRUNED, str(reason)
            print(f"pruned: {reason}")
        except Exception as failure:
            ended, error = FAILED, masked(f"{type(failure).__name__}: {failure}")
            signals.show(failure)
        except KeyboardInterrupt:
            ended, error = STOPPED, "a signal stopped it"
            if not self.apart:
                raise
        finally:
            gc.collect()  # the trainer and the network refer to each other, and hold mapped files and memory until then
            seconds = time.monotonic() - begin
            JobRecord(overrides=overrides, status=ended, error=error, seconds=seconds).write(out)


def running(folder: Path) -> list[Path]:
    """The folders of the jobs of a sweep that run in some process."""
    busy = []
    for holder in folder.glob(".[0-9]*.holder"):
        out = folder / holder.name.removeprefix(".").removesuffix(".holder")
        try:
            with lock.held(out):
                pass
        except lock.BusyError:
            busy.append(out)
    return busy


@contextmanager
def _stoppable(ought_to_stop: Callable[[], bool]) -> Iterator[None]:
    """Within the block, a stop of the sweep or a SIGTERM raises `KeyboardInterrupt` here, once.

    Ctrl-C in a terminal reaches every process at once; only the sweep's own heeds it, and passes it on by its stop file.
    """
    signals.received.clear()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            if ought_to_stop():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def stop_once(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would break off the cleaning up
        signals.stop(number, frame)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.signal(signal.SIGTERM, stop_once)
    watcher = threading.Thread(target=watch, name="sweep", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _prefixed(prefix: str) -> Iterator[None]:
    """Within the block, what this process prints comes in whole lines, each with `prefix`, here or in the log."""
    import sys

    with ExitStack() as stack:
        log = os.environ.get(LOG_VARIABLE)
        file = stack.enter_context(open(log, "a", encoding="utf-8")) if log else None
        out, errors = (_Prefixed(file or stream, prefix) for stream in (sys.stdout, sys.stderr))
        try:
            with redirect_stdout(out), redirect_stderr(errors):
                yield
        finally:
            for stream in (out, errors):
                if stream.rest:
                    stream.write("\n")


class _Prefixed(io.TextIOBase):
    """A text stream that is no terminal, so that nobody draws a progress bar on it."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self.stream, self.prefix, self.rest = stream, prefix, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        if lines:
            self.stream.write("".join(f"{self.prefix}{line}\n" for line in lines))
            self.stream.flush()
        return len(text)
