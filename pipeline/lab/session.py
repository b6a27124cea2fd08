"""Starts and resumes the commands that run many trainings, and writes their results."""

import argparse
import os
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import composition, grammar
from pipeline.config.schema import Config
from pipeline.lab.trainings import Trainings
from pipeline.stage import lineage
from pipeline.storage import atomic, lock
from pipeline.sweep import driver, records
from pipeline.sweep.job import RunJob
from pipeline.tracking.parent import Parent, parent_run

LAUNCHER = "hydra/launcher=joblib"

Compose = Callable[[Iterable[str]], Config]
"""Composes the configuration with some overrides after the user's own."""


@dataclass(frozen=True)
class Session:
    """One run of a command, in a folder of its own.

    Attributes:
        trainings: Trainings in the folder of the command.
        compose: Composes from the copy of the configuration that the folder has kept since the start.
        parent: Run in MLflow that groups the runs of all trainings.
    """

    trainings: Trainings
    compose: Compose
    parent: Parent

    @property
    def folder(self) -> Path:
        return self.trainings.folder

    @property
    def source(self) -> Path:
        """The folder with the copy of `conf/` and `params.yaml`."""
        return self.folder / ".source"

    def command_line(self, *, without: Collection[str] = (), also: Sequence[str] = ()) -> str:
        """The command that runs this session again, without some of its overrides and with others also."""
        command = self.trainings.command
        recorded = [override for override in records.read_request(self.folder, command) if override not in without]
        return f"python -m pipeline.{command} " + " ".join(map(shlex.quote, [*recorded, *also]))

    def write(
        self, contents: Mapping[str, str | bytes], *, metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Write files, given by name, into the folder and into the run in MLflow, and metrics and tags into the run."""
        for name, content in contents.items():
            if isinstance(content, str):
                atomic.write_text(self.folder / name, content)
            else:
                atomic.write_bytes(self.folder / name, content)
        self.parent.add([self.folder / name for name in contents], metrics=metrics, tags=tags)

    def print_location(self, name: str) -> None:
        """Print where a result is."""
        print(f"Look at {os.path.relpath(self.folder / name)}")


@contextmanager
def open_session(
    command: str, overrides: Sequence[str], resume: Path | None, train: RunJob, *,
    check: Callable[[Config], None] = lambda config: None, unrecorded: Sequence[str] = (),
) -> Iterator[Session]:  # fmt: skip
    """Start or resume a command. Within the block, its folder belongs to this process.

    Args:
        command: Name of the command.
        overrides: Overrides of the user; beside `resume`, of the launcher only.
        resume: Folder of the session to resume; None: a new one.
        train: Runs one training.
        check: Refuses a configuration before anything is written.
        unrecorded: Overrides of this process, which the folder does not keep.

    Raises:
        ConfigError: The overrides do not compose.
        DataError: `resume` holds no session of this command.
        BusyError: Another process holds the folder.
    """
    if resume is not None:
        folder = resume.absolute()
        recorded = driver.relaunched(records.read_request(folder, command), list(overrides))
    else:
        overrides = [grammar.typed(override) for override in overrides]
        has_launcher = any(override.startswith("hydra/launcher=") for override in overrides)
        recorded = [*([] if has_launcher else [LAUNCHER]), *overrides]
        check(composition.compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", recorded))
        folder = driver.create(command, recorded)
    with lock.held(folder):
        driver.make_ready(folder)
        source, common = folder / ".source", [*recorded, *unrecorded]

        def compose(more: Iterable[str]) -> Config:
            return composition.compose(source / "conf", source / "params.yaml", [*common, *more])

        settings = compose([]).tracking
        trainings = Trainings(command, folder, common, train)
        with parent_run(settings, folder, command, common) as parent:
            yield Session(trainings, compose, parent)


def argument_parser(command: str, description: str | None, subject: str) -> argparse.ArgumentParser:
    """The parser of the options that all these commands have.

    Args:
        command: Name of the command.
        description: Docstring of its module.
        subject: Name of what the overrides configure, for the help.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=f"python -m pipeline.{command}", description=description, formatter_class=raw)
    meaning = f"overrides of {subject}: key=value in Hydra's grammar, one value each"
    parser.add_argument("overrides", nargs="*", help=meaning)
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="resume the session in this folder")
    return parser
