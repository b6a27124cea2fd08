"""Makes the package of a training that no stage packages: one by hand, or the winner of a sweep."""

import sys
from pathlib import Path

from pipeline.artefacts.package import ManifestRecord
from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.storage import atomic
from pipeline.tracking.publish import send_package

FOLDER = "package"
"""Folder below a training's."""


def make(training: Path, config: Config, place: Path | None = None) -> None:
    """Write the package of a training below it, not evaluated, and log it; one that cannot be made costs a line.

    Args:
        training: Folder of the training.
        config: Configuration.
        place: Folder that the training's becomes, where that is a draft.
    """
    from pipeline.delivery.building import build_alone

    try:
        with atomic.folder(training / FOLDER) as package:
            build_alone(training, package, config)
    except UserError as error:
        print(f"there is no package of this training: {error}", file=sys.stderr)
        return
    send_package(config.tracking, training, training / FOLDER, place)


def say(training: Path) -> None:
    """Print the command that classifies a folder with the package below a training, if there is one."""
    from pipeline.delivery.usage import how_to_predict

    if (training / FOLDER / ManifestRecord.FILE).exists():
        print(how_to_predict(training / FOLDER))
