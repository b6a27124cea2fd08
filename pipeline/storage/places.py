"""Names the folders of the project."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""Folder of `dvc.yaml`: this checkout, or the copy of it in which `dvc exp run --temp` runs."""

ROOT = Path(os.environ.get("DVC_ROOT") or PROJECT)
"""The user's own checkout, even while DVC runs an experiment in a copy of it."""

CACHE = ROOT / "build" / "cache"
"""Folder of what can be made again, and of what must outlive a killed run."""
