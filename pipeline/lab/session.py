"""How a command that trains many times begins: anew, or in the folder of one that was stopped."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import composition
from pipeline.config.schema import Config
from pipeline.lab.trainings import Trainings
from pipeline.stage import lineage
from pipeline.storage import lock
from pipeline.sweep import driver, records
from pipeline.sweep.job import RunJob
from pipeline.tracking.parent import Parent, parent_run

LAUNCHER = "hydra/launcher=joblib"

Compose = Callable[[Iterable[str]], Config]
"""The configuration with some overrides after the user's own."""


@dataclass(frozen=True)
class Question:
    """What a command works with.

    Attributes:
        trainings: In the folder of the command, where `.source` has the configuration as it was at the start.
        compose: Composes from that.
        parent: The run in MLflow that holds all trainings together.
    """

    trainings: Trainings
    compose: Compose
    parent: Parent

    @property
    def folder(self) -> Path:
        return self.trainings.folder


@contextmanager
def asked(
    command: str,
    overrides: Sequence[str],
    resume: Path | None,
    train: RunJob,
    *,
    check: Callable[[Config], None] = lambda config: None,
    besides: Sequence[str] = (),
) -> Iterator[Question]:
    """Within the block, the folder of a question belongs to this process.

    Args:
        command: Its name.
        overrides: As the user gave them; beside `resume`, of the launcher only.
        resume: The folder of the question to go on with; None: a new one.
        train: Runs one training.
        check: Refuses a configuration before anything is written.
        besides: Overrides of this time, which the folder does not remember.

    Raises:
        ConfigError: The overrides do not compose.
        DataError: `resume` holds no question of this command.
        BusyError: Another process is at it.
    """
    if resume is not None:
        folder = resume.absolute()
        given = driver.relaunched(records.read_request(folder, command), list(overrides))
    else:
        launched = any(override.startswith("hydra/launcher=") for override in overrides)
        given = [*([] if launched else [LAUNCHER]), *overrides]
        check(composition.compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", given))
        folder = driver.create(command, given)
    with lock.held(folder):
        driver.make_ready(folder)
        conf, file, common = folder / ".source" / "conf", folder / ".source" / "params.yaml", [*given, *besides]

        def compose(more: Iterable[str]) -> Config:
            return composition.compose(conf, file, [*common, *more])

        settings = compose([]).tracking
        trainings = Trainings(command, folder, common, train)
        with parent_run(settings, folder, command, common) as parent:
            yield Question(trainings, compose, parent)
