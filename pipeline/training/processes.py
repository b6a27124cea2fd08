"""Starts the processes of one training with torch's launcher; rank 0 leads and writes, the followers only compute.

With `train.devices` above 1, the process that was started becomes rank 0, and starts a follower for each other rank with the
environment variables that torchrun sets. Under torchrun all ranks run already. Either way the followers get their work as JSON.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from pipeline import errors

POLL_SECONDS = 0.02
WATCH_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""Time in which the end of a follower becomes known after it broke a collective."""
PARENT_VARIABLE = "GOODFIT_LEADER"
"""Carries the leader's process id to the followers that it starts."""


class Group:
    """The ranks of a training, as rank 0 sees them. Without arguments, rank 0 alone."""

    def __init__(self, backend: str = "", store: Any = None, followers: Any = None) -> None:
        self.backend, self.store, self.followers = backend, store, followers

    def begin(self, **work: Any) -> None:
        """Give the followers their work, which must be JSON, and form torch's process group with them."""
        if self.store is not None:
            self.wait_for("ready")
            self.store.set("work", json.dumps([self.backend, work]))
            distributed.init_process_group(self.backend)

    def wait_for(self, state: str) -> None:
        """Wait until all followers are `ready` or `done`; raises the first failure of one."""
        while not self.store.check([f"{state} {rank}" for rank in range(1, int(os.environ["WORLD_SIZE"]))]):
            if failure := self.failure(0):
                raise failure
            time.sleep(POLL_SECONDS)

    def failure(self, timeout_seconds: float) -> Exception | None:
        """The first failure of a follower, where one has failed or fails in time."""
        ended = self.followers.wait(timeout_seconds, POLL_SECONDS) if self.followers else None
        if self.store.check(["failure"]):
            name, message = json.loads(self.store.get("failure"))
            kind: type[Exception] = getattr(errors, name, RuntimeError)
            return kind(message)
        if self.followers is None:
            time.sleep(timeout_seconds)  # torchrun stops this process, where it was a kill that ended another
        if not ended or not ended.failures:
            return None
        first = next(iter(ended.failures.values()))
        code = first.exitcode
        how = f"was ended by {first.signal_name()}" if code < 0 else f"ended with exit code {code}"
        return errors.TrainingError(
            f"the {os.environ['WORLD_SIZE']} processes of a training must all live until its end; number "
            f"{first.local_rank + 2} {how}. The same command goes on after the last whole epoch."
        )


@contextmanager
def leading(devices: int, accelerator: str, follower: Sequence[str]) -> Iterator[Group]:
    """Lead a training of several processes, which end with the block. With one process nothing happens.

    The followers start at once, and import what they need while the leader prepares.

    Args:
        devices: Number of processes on each machine.
        accelerator: `cpu`, `gpu`, `mps` or `auto`.
        follower: Arguments of a Python that calls `follow_leader`.

    Raises:
        ConfigError: There are not so many devices, or torchrun started another number of processes.
        Exception: The first failure of any process.
    """
    backend = "nccl" if accelerator in ("auto", "gpu") and torch.cuda.is_available() else "gloo"
    by_torchrun = distributed.is_torchelastic_launched()
    if by_torchrun and devices != (started := int(os.environ["LOCAL_WORLD_SIZE"])):
        raise errors.ConfigError(
            f"train.devices must be {started}, the processes that torchrun starts on each machine; got {devices}. "
            f"Add train.devices={started}."
        )
    if backend == "nccl" and devices > torch.cuda.device_count():
        raise errors.ConfigError(
            f"train.devices must be <= {torch.cuda.device_count()}, the GPUs of this machine; got {devices}. "
            "Lower it, or set train.accelerator=cpu."
        )
    if int(os.environ["WORLD_SIZE"] if by_torchrun else devices) == 1:
        yield Group()
        return
    with nullcontext() if by_torchrun else _launched(devices, follower) as followers:
        group = Group(backend, _store(), followers)
        try:
            yield group
            group.wait_for("done")
        except RuntimeError:  # such as that of a collective which a follower broke
            if failure := group.failure(GRACE_SECONDS):
                raise failure from None
            raise
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()


@contextmanager
def _launched(devices: int, follower: Sequence[str]) -> Iterator[Any]:
    """Starts the followers; within the block, this process is rank 0 and uses its share of the threads."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    threads = torch.get_num_threads()
    share = max(1, threads // devices)
    common = {
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(devices)),
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)},
        **{PARENT_VARIABLE: str(os.getpid()), "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True"},
        # Torch would also replace the handlers of SIGTERM and SIGINT, which are those of `pipeline.stage.signals`.
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT",
    }
    ranks = [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(devices)]
    apart = {"OMP_NUM_THREADS": str(share), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    envs = {number: rank | apart for number, rank in enumerate(ranks[1:])}
    os.environ.update(ranks[0])
    torch.set_num_threads(share)
    followers = None
    try:
        arguments = dict.fromkeys(envs, tuple(follower))
        followers = start_processes("follower", sys.executable, arguments, envs, DefaultLogsSpecs(os.devnull))
        yield followers
    finally:
        if followers is not None:
            followers.close(signal.SIGKILL)  # they own nothing that could stay half-done
        torch.set_num_threads(threads)
        for name in ranks[0]:
            del os.environ[name]


def follow_leader(follow: Callable[..., None]) -> None:
    """Be a follower: call `follow` with the leader's work, and tell the leader how it ended."""
    parent = int(os.environ.get(PARENT_VARIABLE, os.getppid()))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the leader says that it was stopped
    store, rank = _store(), int(os.environ["RANK"])
    try:
        store.set(f"ready {rank}", "")
        store.wait(["work"], timedelta(days=1))
        backend, work = json.loads(store.get("work"))
        distributed.init_process_group(backend)
        follow(**work)
        distributed.destroy_process_group()
        store.set(f"done {rank}", "")
    except BaseException as error:
        message = f"process {rank + 1} of {os.environ['WORLD_SIZE']} failed:\n{traceback.format_exc()}"
        failure = [type(error).__name__, str(error) if isinstance(error, errors.UserError) else message]
        with suppress(Exception):  # the leader may be gone, and the store with it
            store.compare_set("failure", "", json.dumps(failure))  # later failures follow from the first
        os._exit(1)  # without waiting for a collective whose peers are gone


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def _store() -> Any:
    return next(distributed.rendezvous("env://"))[0]
