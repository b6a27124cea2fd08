"""Finds the package that a command line names: a folder, a ZIP file, or an address in MLflow."""

from pathlib import Path

from pipeline.errors import DataError
from pipeline.storage import places

SCHEMES = ("models:/", "runs:/")
"""Beginnings of addresses that only the tracking store knows."""

DEFAULT_PACKAGE = places.PROJECT / "build" / "package"
"""Package of the pipeline's last run."""


def is_address(text: str) -> bool:
    """Whether a text names a model or a run in MLflow, rather than a folder or a file.

    >>> is_address("models:/shoes@champion"), is_address("build/package")
    (True, False)
    """
    return text.startswith(SCHEMES)


def package_of(model: str | None, scratch: Path) -> Path:
    """Folder or ZIP file of the package that `--model` names.

    Args:
        model: Its value; None where it was not given.
        scratch: Folder for what the tracking store holds.

    Raises:
        DataError: There is none by default, or the store does not answer, does not know it or has no package there.
        ConfigError: The configuration of the store is wrong.
    """
    if model is None:
        if not DEFAULT_PACKAGE.exists():
            raise DataError(
                f"--model must name a package where {DEFAULT_PACKAGE.relative_to(places.PROJECT)} holds none. Make it with "
                "`dvc repro`, or name another: a folder or a ZIP file that `python -m pipeline.package` made, or an address in "
                "MLflow, such as models:/NAME@champion."
            )
        return DEFAULT_PACKAGE
    return _stored(model, scratch) if is_address(model) else Path(model).expanduser()


def _stored(address: str, scratch: Path) -> Path:
    """A copy of the package at an address of the store that the project's configuration names."""
    from pipeline.config import composition
    from pipeline.config.schema import Tracking
    from pipeline.tracking.retrieval import package_folder

    values = composition.values(places.PROJECT / "conf", places.PROJECT / "params.yaml", [])
    return package_folder(Tracking.model_validate(values["tracking"]), address, scratch)
