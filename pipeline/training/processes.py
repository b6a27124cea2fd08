"""The processes of one training: the one that was started leads it and writes, the others only compute.

With `train.devices` above 1, the leader starts the others on its machine. Under torchrun all of them are there already, on
one machine or on several. Either way the others wait for their work at a store, a small table that all of them see.
"""

import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from pipeline.errors import ConfigError, TrainingError, UserError

Follow = Callable[..., None]
"""Does a follower's part: takes the work that the leader hands out, and as its last argument the follower's `Place`."""

POLL_SECONDS = 0.02
WATCH_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""For the end of a process to become known, where another failed for want of it."""


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its training; without arguments, alone.

    Attributes:
        rank: Its number; 0 leads.
        size: How many there are.
        local_rank: Its number on its machine.
        local_size: How many there are on each machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


ALONE = Place()


class Team:
    """All processes of a training, as its leader sees them; one that is alone only begins."""

    def __init__(
        self, place: Place, backend: str = "", store: Any = None, started: Sequence[subprocess.Popen[bytes]] = ()
    ) -> None:
        self.place, self.backend, self.store, self.started = place, backend, store, started

    def begin(self, *work: Any) -> None:
        """Let the others begin `work`, once they are ready; the leader must now do its own part.

        Raises:
            TrainingError: One of them ended before that.
        """
        if self.place.size > 1:
            self._wait_for_all("ready")
            self.store.set("work", pickle.dumps((self.backend, work)))
            _connect(self.store, self.place, self.backend)

    def finish(self) -> None:
        """Wait until the others are done with their part.

        Raises:
            TrainingError: One of them ended before that.
        """
        self._wait_for_all("done")

    def cause(self, error: Exception) -> Exception:
        """What really went wrong: where one process fails, the others fail too, for want of it."""
        if self.store.add("failures", 1) > 1:
            self.store.wait(["failure"], timedelta(seconds=GRACE_SECONDS))
            first: Exception = pickle.loads(self.store.get("failure"))
            return first
        if isinstance(error, RuntimeError):  # such as a collective without its peer
            give_up_at = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < give_up_at:  # torchrun stops this process here, where another one ended
                lost = self._lost()
                if lost is not None:
                    return lost
                time.sleep(POLL_SECONDS)
        return error

    def end(self) -> None:
        """End what is left of the others; they own nothing that could stay half-done."""
        if distributed.is_initialized():
            distributed.destroy_process_group()
        for process in self.started:
            process.kill()
            process.wait()

    def _wait_for_all(self, state: str) -> None:
        while not self.store.check([f"{state} {rank}" for rank in range(1, self.place.size)]):
            lost = self._lost()
            if lost is not None:
                raise lost
            time.sleep(POLL_SECONDS)

    def _lost(self) -> TrainingError | None:
        """The error that names a process which has ended badly; None where there is none."""
        for rank, process in enumerate(self.started, start=1):
            code = process.poll()
            if code:
                how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return TrainingError(
                    f"the {self.place.size} processes of a training must all live until its end; number {rank + 1} {how}. "
                    "The same command goes on after the last whole epoch."
                )
        return None


@contextmanager
def leading(devices: int, accelerator: str, follow: Follow) -> Iterator[Team]:
    """Lead a training of `devices` processes, which end with the block.

    Started early, the others import what they need while the leader still prepares. With one process nothing happens.

    Args:
        devices: Processes on each machine.
        accelerator: `cpu`, `gpu`, `mps` or `auto`.
        follow: What the others do; they find it by the names of its module and its own.

    Raises:
        ConfigError: There are not so many devices, or torchrun started another number of processes.
        Exception: Where a process fails, the first one that any of them raised.
    """
    place = torchrun_place()
    backend = "nccl" if accelerator in ("auto", "gpu") and torch.cuda.is_available() else "gloo"
    if place is not None and place.local_size != devices:
        raise ConfigError(
            f"train.devices must be {place.local_size}, the processes that torchrun starts on each machine; got {devices}. "
            f"Add train.devices={place.local_size}."
        )
    if backend == "nccl" and devices > torch.cuda.device_count():
        raise ConfigError(
            f"train.devices must be <= {torch.cuda.device_count()}, the GPUs of this machine; got {devices}. "
            "Lower it, or set train.accelerator=cpu."
        )
    if place is not None and place.size > 1:
        team = Team(place, backend, _torchrun_store())
        with _failing_together(team):
            yield team
    elif devices > 1:
        with _started(devices, backend, follow) as team, _failing_together(team):
            yield team
    else:
        yield Team(ALONE)


def torchrun_place() -> Place | None:
    """The place that torchrun gave this process; None where it did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return Place(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))


def follow_torchrun(follow: Follow) -> None:
    """Be one of the processes that torchrun started beside the leader."""
    place = torchrun_place()
    assert place is not None
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the leader says that it was stopped
    _follow(_torchrun_store(), place, follow)


@contextmanager
def _failing_together(team: Team) -> Iterator[None]:
    try:
        yield
        team.finish()
    except Exception as error:
        cause = team.cause(error)
        if cause is error:
            raise
        raise cause from None
    finally:
        team.end()


@contextmanager
def _started(devices: int, backend: str, follow: Follow) -> Iterator[Team]:
    """Starts the followers of this machine; within the block, all processes share its threads."""
    threads = torch.get_num_threads()
    shared = max(1, threads // devices)
    # Nobody else may write to the store: work comes as a pickle.
    with tempfile.TemporaryDirectory(prefix="goodfit-") as folder:
        path = str(Path(folder) / "store")
        # Not multiprocessing, whose processes do not start from within a worker of joblib.
        code = "from pipeline.training.processes import follow_leader; follow_leader()"
        name = f"{follow.__module__}:{follow.__qualname__}"
        common = [sys.executable, "-c", code, path, name, str(os.getpid()), str(shared), str(devices)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with _without_interrupts():
            started = [subprocess.Popen([*common, str(rank)], env=environment) for rank in range(1, devices)]
        torch.set_num_threads(shared)
        try:
            yield Team(Place(0, devices, 0, devices), backend, distributed.FileStore(path, devices), started)
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started in the block never see Ctrl-C, which in a terminal reaches all; the leader heeds it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_leader() -> None:
    """Be one of the processes that the leader started; see `_started` for the arguments."""
    path, name, *numbers = sys.argv[1:]
    leader, threads, size, rank = map(int, numbers)
    threading.Thread(target=_end_with, args=(leader,), daemon=True).start()
    torch.set_num_threads(threads)
    _follow(distributed.FileStore(path, size), Place(rank, size, rank, size), pkgutil.resolve_name(name))


def _end_with(leader: int) -> None:
    while os.getppid() == leader:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def _follow(store: Any, place: Place, follow: Follow) -> None:
    try:
        store.set(f"ready {place.rank}", "")
        store.wait(["work"], timedelta(days=1))
        backend, work = pickle.loads(store.get("work"))
        _connect(store, place, backend)
        follow(*work, place)
        distributed.destroy_process_group()
        store.set(f"done {place.rank}", "")
    except BaseException as error:
        with suppress(Exception):  # the leader may be gone, and the store with it
            _report(store, place, error)
        os._exit(1)  # without waiting for a collective whose peers are gone


def _report(store: Any, place: Place, error: BaseException) -> None:
    """Tell the leader of the first failure; later ones follow from it."""
    if store.add("failures", 1) == 1:
        told = f"process {place.rank + 1} of {place.size} failed:\n{''.join(traceback.format_exception(error))}"
        store.set("failure", pickle.dumps(error if isinstance(error, UserError) else RuntimeError(told)))


def _torchrun_store() -> Any:
    store, _, _ = next(distributed.rendezvous("env://"))
    return store


def _connect(store: Any, place: Place, backend: str) -> None:
    group = distributed.PrefixStore("group", store)
    distributed.init_process_group(backend, store=group, rank=place.rank, world_size=place.size)
