"""Opens the MLflow run that groups the trainings of a sweep or of a command, and logs their common results."""

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipeline.artefacts.run import RunRecord
from pipeline.config.schema import Tracking
from pipeline.storage import atomic
from pipeline.tracking import delivery
from pipeline.tracking import tags as names
from pipeline.tracking.parent_sendings import ParentBegin, ParentChild, ParentEnd, ParentResults, ParentRun, Winner
from pipeline.tracking.runs import now_ms
from pipeline.tracking.sendings import RunTags
from pipeline.tracking.training import PARENT_VARIABLE

PARENT_FILE = ".parent_run"
"""File in the sweep's folder with the parent run, so that a resumed sweep continues the same run."""


class Parent:
    """A parent run. What the store does not take now waits in the spool; where tracking is off, nothing is sent.

    Attributes:
        incomplete: Whether some of its trainings did not finish.
    """

    def __init__(self, settings: Tracking, run: ParentRun) -> None:
        self.settings, self.run, self.incomplete = settings, run, False

    def add(
        self, files: Sequence[Path], *, metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Log files, metrics and tags."""
        what = ParentResults(parent=self.run, metrics=_floats(metrics), tags=dict(tags or {}), time_ms=now_ms())
        delivery.send(self.settings, what, {path.name: path for path in files})

    def child(self, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Log a finished child run; a second call with the same name changes nothing."""
        time_ms = now_ms()
        what = ParentChild(parent=self.run, name=name, tags=dict(tags), metrics=_floats(metrics), time_ms=time_ms)
        delivery.send(self.settings, what)

    def tag(self, training: RunRecord, tags: Mapping[str, str]) -> None:
        """Set tags of the run of a training, less those that the user has given a value."""
        found = names.without_own(tags, self.settings.tags)
        delivery.send(self.settings, RunTags(training_id=training.id, tags=found))

    def crown(self, training: Path) -> None:
        """Name the best training, by its folder."""
        delivery.send(self.settings, Winner(parent=self.run), {RunRecord.FILE: training / RunRecord.FILE})


@contextmanager
def parent_run(settings: Tracking, folder: Path, kind: str, overrides: Sequence[str]) -> Iterator[Parent]:
    """Open a parent run; trainings in the block become its children, whether a store answers now or later.

    Args:
        settings: Address and experiment of the store.
        folder: Folder of the sweep, which remembers the run over a kill.
        kind: `sweep`, or the name of the command.
        overrides: Overrides that the user gave on the command line.

    Raises:
        StoreError: The store is set wrongly, so that nothing begins.
    """
    run = _known(folder) or _new(settings, folder, kind, overrides)
    delivery.send(settings, ParentBegin(parent=run), strict=True)
    if settings.enabled:
        os.environ[PARENT_VARIABLE] = run.id
    parent = Parent(settings, run)
    status: Literal["FINISHED", "FAILED", "KILLED"] = "KILLED"
    try:
        yield parent
        status = "FAILED" if parent.incomplete else "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        os.environ.pop(PARENT_VARIABLE, None)
        delivery.send(settings, ParentEnd(parent=run, status=status, end_ms=now_ms()))


def _new(settings: Tracking, folder: Path, kind: str, overrides: Sequence[str]) -> ParentRun:
    tags = {f"goodfit.{kind}": " ".join(overrides), "goodfit.sweep_folder": str(folder), **settings.tags}
    run = ParentRun(id=uuid.uuid4().hex, name=f"{kind}-{folder.name}", tags=tags, begin_ms=now_ms())
    atomic.write_text(folder / PARENT_FILE, run.model_dump_json())
    return run


def _known(folder: Path) -> ParentRun | None:
    try:
        return ParentRun.model_validate_json((folder / PARENT_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):  # none yet, or one of an older version, which only its store knew
        return None


def _floats(metrics: Mapping[str, float] | None) -> dict[str, float]:
    return {key: float(value) for key, value in (metrics or {}).items()}
