"""Ends a training early whose sweep has better ones at the same epoch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Judge = Callable[[dict[str, float]], None]
"""Takes a row of the history; raises `Pruned` where the training should end."""

_judges: list[Judge] = []


class Pruned(Exception):
    """Raised when a training should end because others of the sweep were better at the same epoch."""


@contextmanager
def judged_by(judge: Judge) -> Iterator[None]:
    """Within the block, `judge` sees each epoch of this process's training."""
    _judges.append(judge)
    try:
        yield
    finally:
        _judges.remove(judge)


def judge(row: dict[str, float]) -> None:
    """Show a row of the history to the judges of this process's training.

    Raises:
        Pruned: The training is to end here.
    """
    for judge_row in _judges:
        judge_row(row)
