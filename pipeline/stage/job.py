"""What a stage is given to work with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.schema import Config


@dataclass(frozen=True)
class Job:
    """One run of one stage.

    Attributes:
        config: The whole configuration, validated.
        out: An empty folder to fill. It takes its final place, whole, when the stage returns, and vanishes when it raises.
        fingerprint: Names what the stage is about to make: its own keys, its inputs, its source files, its libraries.
        cache: The project's `build/cache`, for what must outlive a killed run.
        locate: Gives the folder of an earlier stage (`"fetch"`, `"prepare"`, `"augment"`, `"train"`, `"evaluate"`) that was
            made with this configuration, and makes it first where there is none.
        overrides: What the user gave on the command line.
    """

    config: Config
    out: Path
    fingerprint: str
    cache: Path
    locate: Callable[[str], Path]
    overrides: tuple[str, ...] = ()
