"""Removes the scratch files that killed processes left in the project."""

from pipeline.storage import atomic, lock, places

_FOLDERS = (".", "build", "build/cache", "build/cache/*", "outputs/*", "multirun/*/*", "multirun/*/*/.source")
"""Folders in which outputs, records and checkpoints are written, as patterns below the project's root."""


def sweep() -> None:
    """Remove what no running process holds."""
    for pattern in _FOLDERS:
        for folder in [places.ROOT] if pattern == "." else places.ROOT.glob(pattern):
            if folder.is_dir():
                atomic.sweep(folder)
                lock.sweep(folder)
