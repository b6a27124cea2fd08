"""Decides when a training stops, both while it runs and in hindsight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.metrics import history

PATIENCES = (1, 2, 3, 5, 10, 20)
"""Patiences that `stops_in_hindsight` compares."""


@dataclass(frozen=True)
class StoppingRule:
    """Decides after which epoch a training stops, and which epoch's weights it keeps.

    Attributes:
        monitor: Metric that decides.
        patience: Number of epochs without an improvement after which training stops; None: it never stops.
        min_delta: Smallest improvement that counts; it must be exceeded.
        warmup_epochs: Number of first epochs that do not count as waiting.
        restore_best: Whether the weights of the best epoch are kept, instead of those of the last one.
    """

    monitor: str
    patience: int | None = None
    min_delta: float = 0.0
    warmup_epochs: int = 0
    restore_best: bool = False

    def stops_after(self, rows: Sequence[Mapping[str, float]]) -> int | None:
        """The epoch, counted from 1, after which a training with this history stops; None if it continues."""
        if self.patience is None:
            return None
        values, rising = [row[self.monitor] for row in rows], history.higher_is_better(self.monitor)
        return stopping_epoch(values, self.patience, self.min_delta, self.warmup_epochs, rising)

    def reason(self) -> str:
        """The reason for stopping, as a clause that follows "because"."""
        return f"{self.monitor} had not improved for {self.patience} epoch" + ("" if self.patience == 1 else "s")

    def last_epoch(self, rows: Sequence[Mapping[str, float]]) -> int:
        """The last epoch, counted from 1, that a training with this history would run."""
        return self.stops_after(rows) or len(rows)

    def kept_epoch(self, rows: Sequence[Mapping[str, float]]) -> int:
        """The epoch whose weights are kept, counted from 1."""
        last = self.last_epoch(rows)
        if not self.restore_best:
            return last
        best = max if history.higher_is_better(self.monitor) else min
        return best(range(last), key=lambda index: rows[index][self.monitor]) + 1


@dataclass(frozen=True)
class Stop:
    """The epoch at which early stopping with one patience would have ended a training.

    Attributes:
        patience: Number of epochs without an improvement after which training stops.
        epoch: Last epoch of the training, counted from 1.
        best_epoch: Epoch whose weights would have been kept.
        best_value: Monitored metric at that epoch.
    """

    patience: int
    epoch: int
    best_epoch: int
    best_value: float


def stopping_epoch(
    values: Sequence[float], patience: int, min_delta: float = 0.0, warmup_epochs: int = 0, rising: bool = False
) -> int | None:
    """The epoch, counted from 1, after which training stops; None if it continues.

    An epoch improves if it beats the best value so far by more than `min_delta`. Training stops after `patience` epochs
    in a row without an improvement; the first `warmup_epochs` may improve, but do not count as waiting (criterion UP of
    Prechelt 1998, "Early stopping — but when?", with strips of one epoch).

    >>> stopping_epoch([3.0, 2.0, 2.1, 2.2, 1.0], patience=2)
    4
    >>> stopping_epoch([3.0, 2.0, 2.1, 2.2, 1.0], patience=2, warmup_epochs=3) is None
    True
    """
    best, waited = values[0] if values else 0.0, 0
    for epoch, value in enumerate(values[1:], start=2):
        if (value - best if rising else best - value) > min_delta:
            best, waited = value, 0
        elif epoch > warmup_epochs:
            waited += 1
            if waited >= patience:
                return epoch
    return None


def stops_in_hindsight(
    values: Sequence[float], *, min_delta: float = 0.0, warmup_epochs: int = 0, rising: bool = False
) -> list[Stop]:
    """The stop of each of `PATIENCES` in a training that has run; patiences that would not have stopped it are left out.

    This holds only for the training that ran: one planned to be shorter has another learning rate schedule.
    """
    stops = []
    for patience in PATIENCES:
        epoch = stopping_epoch(values, patience, min_delta, warmup_epochs, rising)
        if epoch is not None:
            best_value = (max if rising else min)(values[:epoch])
            stops.append(Stop(patience, epoch, values.index(best_value) + 1, best_value))
    return stops
