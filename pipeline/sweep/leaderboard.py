"""Ranks the jobs of a sweep; repetitions with other seeds or folds are one entry, with its mean and its spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pipeline.metrics import history
from pipeline.storage import tables
from pipeline.sweep.records import JobResult

REPEATED = {"seed": "seeds", "prepare.fold": "folds", "prepare.repeat": "repeats"}
"""Keys that tell repetitions of one setting apart, and what people call their values."""

METRICS = (history.VAL_LOSS, history.VAL_ACCURACY, history.CLEAN_LOSS, history.CLEAN_ACCURACY)


@dataclass(frozen=True)
class Entry:
    """Jobs that finished and differ in nothing but their seed or fold, the best first."""

    overrides: tuple[str, ...]
    jobs: tuple[JobResult, ...]

    @property
    def repetitions(self) -> list[JobResult]:
        """One job for each seed and fold: a search may try the same values with the same seed again, which tells nothing."""
        return list({job.overrides: job for job in reversed(self.jobs)}.values())

    def values(self, metric: str) -> list[float]:
        """The metric at each repetition's best epoch."""
        return [job.best[metric] for job in self.repetitions if job.best is not None]

    def mean(self, metric: str) -> float:
        return fmean(self.values(metric))

    def spread(self, metric: str) -> float | None:
        """The sample standard deviation; None of a single repetition."""
        return stdev(self.values(metric)) if len(self.repetitions) > 1 else None


def rank(jobs: Sequence[JobResult], monitor: str) -> list[Entry]:
    """The jobs that finished, from `records.results`, as entries, the best mean of the metric `monitor` first."""
    alike: dict[tuple[str, ...], list[JobResult]] = {}
    for job in jobs:
        if job.best is not None:
            keys = {override: override.lstrip("+").split("=", 1)[0] for override in job.overrides}
            own = tuple(override for override in job.overrides if keys[override] not in REPEATED)
            alike.setdefault(own, []).append(job)
    entries = [Entry(overrides, tuple(members)) for overrides, members in alike.items()]
    sign = -1 if history.higher_is_better(monitor) else 1
    return sorted(entries, key=lambda entry: (sign * entry.mean(monitor), min(job.number for job in entry.jobs)))


def settings(jobs: Sequence[JobResult]) -> dict[str, list[str]]:
    """The varied keys, each with its value in each job, as text; a key that a job does not name has an empty one.

    >>> from pathlib import Path
    >>> jobs = [JobResult(n, Path(), ("seed=1", f"model.dropout={n}"), "finished", None, 0, None) for n in range(2)]
    >>> settings(jobs)
    {'model.dropout': ['0', '1']}
    """
    given = [dict(override.lstrip("+").split("=", 1) for override in job.overrides if "=" in override) for job in jobs]
    keys = dict.fromkeys(key for values in given for key in values)
    columns = {key: [values.get(key, "") for values in given] for key in keys}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def to_csv(jobs: Sequence[JobResult], monitor: str) -> str:
    """The ranking as CSV, without anything that depends on the clock. Jobs that did not finish come last."""
    columns = {key: values for key, values in settings(jobs).items() if key not in REPEATED}
    position = {job.number: index for index, job in enumerate(jobs)}
    metrics = list(dict.fromkeys((monitor, *METRICS)))
    head = ["rank", "jobs", "n", "status", *columns]
    rows: list[list[object]] = []
    for number, entry in enumerate(rank(jobs, monitor), start=1):
        members = sorted(job.number for job in entry.jobs)
        values = [values[position[members[0]]] for values in columns.values()]
        numbers = [number for metric in metrics for number in (entry.mean(metric), entry.spread(metric))]
        rows.append([number, " ".join(map(str, members)), len(entry.repetitions), "finished", *values, *numbers])
    for job in (job for job in jobs if job.best is None):
        values = [values[position[job.number]] for values in columns.values()]
        rows.append(["", job.number, 1, job.status, *values, *[None] * (2 * len(metrics))])
    return tables.to_csv([*head, *(name for metric in metrics for name in (metric, f"{metric}_sd"))], rows)
