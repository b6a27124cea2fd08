"""The job of a stage: its configuration, its inputs and its output."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.schema import Config


@dataclass(frozen=True)
class Job:
    """One run of one stage.

    Attributes:
        config: Whole configuration, validated.
        out: Empty folder to fill. It moves to its final place when the stage returns, and is removed when the stage raises.
        fingerprint: Fingerprint of the output to make: of its keys, its inputs, its source files and its libraries.
        cache: The project's `build/cache`, for files that must outlive a killed run.
        locate: Gives the folder of an earlier stage, by its name, that was made with this configuration; makes it first
            where there is none.
        overrides: Overrides that the user gave on the command line.
        place: Folder that `out` becomes, as a user names it from here; None under DVC, which has its own.
        alone: Whether the user has started this job by itself, and not a sweep or a command with many.
    """

    config: Config
    out: Path
    fingerprint: str
    cache: Path
    locate: Callable[[str], Path]
    overrides: tuple[str, ...] = ()
    place: Path | None = None
    alone: bool = False
