"""`job.json`: how a job of a sweep ended."""

from pathlib import Path

from pipeline.artefacts.artefact import Artefact
from pipeline.errors import DataError

FINISHED, PRUNED, FAILED, SKIPPED, STOPPED = "finished", "pruned", "failed", "skipped", "stopped"
"""Values of a job's status."""

OVER = (FINISHED, PRUNED)
"""Statuses of jobs that are not run again."""


class JobRecord(Artefact, file="job.json", stage="sweep"):
    """The end of a job.

    Attributes:
        overrides: Overrides that set the job apart from the others of its sweep.
        status: `finished`, `pruned`, `failed`, `skipped` or `stopped`.
        error: Why it did not finish; None where it did.
        seconds: Time that the job took, its composing left out.
    """

    overrides: tuple[str, ...]
    status: str
    error: str | None
    seconds: float

    @classmethod
    def _refusal(cls, folder: Path, key: str | None, error: Exception) -> DataError:
        return DataError(
            f"{folder / cls.FILE} must tell how the job ended; it cannot be read: {' '.join(str(error).split())}. Remove it, "
            "and `--resume` runs the job again."
        )

    def is_over(self, results: tuple[str, ...] = ()) -> bool:
        """Whether the job is not run again, as it finished, was pruned, or failed with an error of a name in `results`."""
        return self.status in OVER or (self.status == FAILED and str(self.error).startswith(results))
