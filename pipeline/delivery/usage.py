"""Tells how a package is used."""

import shlex
from pathlib import Path


def how_to_predict(place: Path | None) -> str:
    """The command that classifies a folder with the package in `place`; None: with that of DVC.

    >>> how_to_predict(Path("outputs/package/1"))
    'Classify images: python -m pipeline.predict FOLDER --model outputs/package/1'
    """
    return f"Classify images: {predict_command(place)}"


def predict_command(place: Path | None) -> str:
    """The command alone; see `how_to_predict`."""
    return f"python -m pipeline.predict FOLDER{f' --model {shlex.quote(str(place))}' if place else ''}"
