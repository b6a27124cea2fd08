"""When to stop: one rule, for the training that runs and for looking back on one that ran."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.metrics import history

PATIENCES = (1, 2, 3, 5, 10, 20)


@dataclass(frozen=True)
class StoppingRule:
    """When a training stops, and the weights of which epoch it keeps.

    Attributes:
        monitor: The metric that decides.
        patience: Epochs without a gain that it bears; None never stops.
        min_delta: A smaller gain counts as none.
        warmup_epochs: In which it neither stops nor counts.
        restore_best: Keeps the weights of the best epoch, otherwise those of the last one.
    """

    monitor: str
    patience: int | None = None
    min_delta: float = 0.0
    warmup_epochs: int = 0
    restore_best: bool = False

    def stops_after(self, rows: Sequence[Mapping[str, float]]) -> int | None:
        """The epoch, counted from 1, after which a training with this history stops; None where it goes on."""
        if self.patience is None:
            return None
        return stopping_epoch(
            [row[self.monitor] for row in rows],
            patience=self.patience,
            min_delta=self.min_delta,
            warmup_epochs=self.warmup_epochs,
            rising=history.higher_is_better(self.monitor),
        )

    def reason(self) -> str:
        """Why it stops, as a clause that follows "because"."""
        return f"{self.monitor} had not improved for {self.patience} epoch" + ("" if self.patience == 1 else "s")

    def last_epoch(self, rows: Sequence[Mapping[str, float]]) -> int:
        """The last epoch of a training that would have had this history, counted from 1."""
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
    """What a patience would have done.

    Attributes:
        patience: Epochs without a gain that it bears.
        epoch: The last epoch of the training, counted from 1.
        best_epoch: Whose weights it would have kept.
        best_value: The monitored metric there.
    """

    patience: int
    epoch: int
    best_epoch: int
    best_value: float


def stopping_epoch(
    values: Sequence[float], *, patience: int, min_delta: float = 0.0, warmup_epochs: int = 0, rising: bool = False
) -> int | None:
    """The epoch, counted from 1, after which training stops; None where it goes on.

    A gain is a change for the better by more than `min_delta`. Training stops once `patience` epochs in a row gained
    nothing on the best so far; the first `warmup_epochs` may gain, but do not count as waiting (Prechelt 1998, "Early
    stopping — but when?", calls this UP, with a strip of one epoch).

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


def looking_back(
    values: Sequence[float], *, min_delta: float = 0.0, warmup_epochs: int = 0, rising: bool = False
) -> list[Stop]:
    """Where each of `PATIENCES` would have stopped this very training; those that would not have are left out.

    It says nothing of what another training would have done: a shorter learning rate schedule is another training.
    """
    stops = []
    for patience in PATIENCES:
        epoch = stopping_epoch(
            values, patience=patience, min_delta=min_delta, warmup_epochs=warmup_epochs, rising=rising
        )
        if epoch is not None:
            best_value = (max if rising else min)(values[:epoch])
            stops.append(Stop(patience, epoch, values.index(best_value) + 1, best_value))
    return stops
