"""Ends a training that looks hopeless beside the others of its sweep, as soon as an epoch shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Judge = Callable[[dict[str, float]], None]
"""Takes a row of the history; raises `Pruned` where its training is not worth going on."""

_judges: list[Judge] = []


class Pruned(Exception):
    """A training that was ended because others of the sweep were better at the same epoch; no error of anybody's."""


@contextmanager
def judged_by(judge: Judge) -> Iterator[None]:
    """Within the block, `judge` sees each epoch of this process's training."""
    _judges.append(judge)
    try:
        yield
    finally:
        _judges.remove(judge)


def judge(row: dict[str, float]) -> None:
    """Show a row of the history to whoever judges it.

    Raises:
        Pruned: The training is to end here.
    """
    for each in _judges:
        each(row)
