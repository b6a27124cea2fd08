"""`job.json`: how a job of a sweep ended."""

from pathlib import Path
from typing import ClassVar, Self

from pipeline.artefacts.artefact import Artefact
from pipeline.errors import DataError

FINISHED, PRUNED, FAILED, SKIPPED, STOPPED = "finished", "pruned", "failed", "skipped", "stopped"
"""Values of a job's status."""

OVER = (FINISHED, PRUNED)
"""Statuses of jobs that are not run again."""


class JobRecord(Artefact):
    """How a job ended.

    Attributes:
        overrides: Overrides that set the job apart from the others of its sweep.
        status: `finished`, `pruned`, `failed`, `skipped` or `stopped`.
        error: Why it did not finish; None where it did.
        seconds: Time that the job took, its composing left out.
    """

    FILE: ClassVar[str] = "job.json"
    STAGE: ClassVar[str] = "sweep"

    overrides: tuple[str, ...]
    status: str
    error: str | None
    seconds: float

    @classmethod
    def read(cls, folder: Path, key: str | None = None) -> Self:
        """Read the file in the folder of the job.

        Raises:
            DataError: The file is missing, cut off, of another version or of another type.
        """
        path = folder / cls.FILE
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} must tell how the job ended; it cannot be read: {' '.join(str(error).split())}. Remove it, and "
                "`--resume` runs the job again."
            ) from None

    def is_over(self, results: tuple[str, ...] = ()) -> bool:
        """Whether the job is not run again.

        Args:
            results: Names of the errors with which a job that failed counts as over too.
        """
        return self.status in OVER or (self.status == FAILED and str(self.error).startswith(results))
