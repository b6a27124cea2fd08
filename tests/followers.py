"""What a follower of a training does in tests; imports no more than a follower needs."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import distributed

from pipeline.errors import TrainingError
from pipeline.training import parallel


def add_up(folder: str, what: str) -> None:
    """A follower's part: a sum over all processes, before which it may fail."""
    (Path(folder) / f"{parallel.rank()}").write_text(str(torch.get_num_threads()))
    if what == "refuses":
        raise TrainingError("the loss must be finite; it became nan.")
    if what == "breaks":
        raise KeyError("nothing")
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "waits":
        time.sleep(60)
    sums()


def sums() -> float:
    total = torch.tensor(float(parallel.rank() + 1))
    distributed.all_reduce(total)
    return total.item()
