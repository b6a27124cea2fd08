"""Shares and differences of shares with their 95 % intervals, as a diagnosis compares them with its thresholds."""

from dataclasses import dataclass

from pipeline.metrics.intervals import newcombe, wilson


@dataclass(frozen=True)
class Estimate:
    """A measured number and its 95 % interval; one that is exact is its own interval."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.3f}" + ("" if self.low == self.high else f" [{self.low:.3f}, {self.high:.3f}]")


def exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def share(value: float, n: int) -> Estimate:
    """An accuracy measured on `n` images (Wilson 1927)."""
    return Estimate(value, *wilson(round(value * n), n))


def difference(first: float, n_first: int, second: float, n_second: int) -> Estimate:
    """One accuracy minus another, of different images (Newcombe 1998, method 10)."""
    low, high = newcombe(round(first * n_first), n_first, round(second * n_second), n_second)
    return Estimate(first - second, min(low, first - second), max(high, first - second))
