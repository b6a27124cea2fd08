"""Fingerprints: what a stage's output was made of, and the folder that holds it.

`dvc.yaml` is the one list of the configuration keys and the source files that each stage depends on. DVC reads it to
decide what to run; a stage that is run by hand reads it here, so that it never works on data made with another
configuration.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.artefacts.metrics import MetricsRecord
from pipeline.artefacts.run import RunRecord
from pipeline.artefacts.source import SourceRecord
from pipeline.config import validation
from pipeline.config.schema import Config
from pipeline.config.schema_data import Data, Folder
from pipeline.errors import DataError, UserError
from pipeline.storage import atomic

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of `dvc.yaml`: of this checkout, or of the copy in which `dvc exp run --temp` runs."""

ROOT = Path(os.environ.get("DVC_ROOT") or PROJECT)
"""The user's own checkout, also where DVC runs an experiment in a copy of it."""

CACHE = ROOT / "build" / "cache"
CACHE_GIGABYTES = 20

RECORDS = {
    record.STAGE: record.FILE
    for record in (SourceRecord, DatasetRecord, AugmentRecord, RunRecord, MetricsRecord, DiagnosisRecord)
}
"""The file in each stage's folder that tells what the folder holds."""

FINGERPRINT = "fingerprint.txt"
"""The file in each stage's folder that tells what the folder was made of."""

_NEVER_MADE = {
    "train": ("training", "evaluate.training"),
    "evaluate": ("evaluation", "report.evaluation"),
    "diagnose": ("diagnosis", "report.diagnosis"),
}
"""Stages whose output `locate` finds and never makes: what each makes, and the key that names another folder of it."""

UPSTREAM = {"prepare": ("fetch",), "augment": ("prepare",), "train": ("prepare", "augment")}


def dvc_folder(stage: str, project: Path = PROJECT) -> Path:
    """Where DVC keeps the output of `stage`; what `fetch` got is read from `data/`, which `data.dvc` pins."""
    return project / "data" if stage == "fetch" else project / "build" / stage


def fingerprint(stage: str, config: Config, upstream: dict[str, str]) -> str:
    """Sixteen hexadecimal digits that change when anything changes that `stage` depends on.

    Args:
        stage: Its name in `dvc.yaml`.
        config: The whole configuration, of which the keys declared in `dvc.yaml` count.
        upstream: The fingerprint of each input.
    """
    if stage == "fetch":  # what the data are, not where from: every mirror serves the same bytes
        place = {"mirrors"} if isinstance(config.data, Folder) else {"mirrors", "source"}
        data = {key: value for key, value in config.data.model_dump().items() if key not in place}
        found = _version(config.data)
        kept = pinned(config.data) if found is None and isinstance(config.data, Folder) else None
        return kept or _digest({"data": data, "version": found})
    declaration = _declarations()[stage]
    values = config.model_dump()
    return _digest({
        "stage": stage,
        "config": {key: _value_at(values, key) for key in _declared_keys(declaration)},
        "upstream": upstream,
        "sources": {path: hash_file(PROJECT / path) for path in _declared_sources(declaration)},
        "versions": {name: version(name) for name in ("torch", "albumentations", "opencv-python-headless", "numpy")},
    })  # fmt: skip


def record_fingerprint(folder: Path, name: str) -> None:
    """Write the fingerprint that `folder` was made with."""
    (folder / FINGERPRINT).write_text(name + "\n")


def recorded_fingerprint(folder: Path) -> str | None:
    """The fingerprint that `folder` was made with; None where it holds no whole output of a stage."""
    try:
        return (folder / FINGERPRINT).read_text().strip()
    except OSError:
        return None


def content(stage: str, folder: Path) -> str:
    """A fingerprint of what the output of `stage` holds, however it was made. Later stages depend on this one.

    So an edit that makes the same images again, such as one of a picture, trains nothing again.

    Raises:
        DataError: The folder holds no output of the stage.
    """
    if stage == "fetch":
        return hash_folder(folder)
    try:
        return hash_file(folder / RECORDS[stage])[:16]
    except OSError:
        raise DataError(
            f"{str(folder)!r} must hold the output of {stage}; found none. Run `dvc repro {stage}`."
        ) from None


def expected_fingerprint(stage: str, config: Config) -> str:
    """The fingerprint of the output that `stage` would make with `config`; makes the raw data where they are missing."""
    if stage == "fetch":
        return fingerprint("fetch", config, {})
    upstream = {}
    for name in UPSTREAM[stage]:
        upstream[name] = content(name, locate(name, config))
    return fingerprint(stage, config, upstream)


def locate(stage: str, config: Config) -> Path:
    """The folder that holds what `stage` makes with `config`: DVC's, else a cached one, which is made where missing.

    Raises:
        DataError: There is no training, evaluation or diagnosis yet; these are never made on the way.
        UserError: Making the folder failed.
    """
    if stage in _NEVER_MADE:
        if not (dvc_folder(stage) / RECORDS[stage]).exists():
            what, key = _NEVER_MADE[stage]
            raise DataError(
                f"{dvc_folder(stage)} must hold a finished {what}; found none. Run `dvc repro`, or name another folder "
                f"with {key}=…."
            )
        return dvc_folder(stage)
    expected = expected_fingerprint(stage, config)
    for folder in (dvc_folder(stage), CACHE / f"{stage}-{expected}"):
        if recorded_fingerprint(folder) == expected:
            os.utime(folder)
            return folder
    _make(stage, config, folder)
    return folder


def is_there(data: Folder) -> bool:
    """Whether the user's own source can be had on this machine."""
    return _version(data) is not None


def pinned(data: Folder) -> str | None:
    """The fingerprint of what `data.dvc` pins, where that was made from the same source; for a machine that lacks this."""
    from pipeline.source import user_source

    folder = dvc_folder("fetch")
    try:
        about = SourceRecord.read(folder)
    except DataError:
        return None
    return recorded_fingerprint(folder) if about.asked == user_source.asked(data) else None


def is_whole(folder: Path) -> bool:
    """Whether what `fetch` left in `folder` is still as it left it; a file is read again only where its time has changed."""
    seen = CACHE / "fetch" / "seen.json"
    try:
        files = SourceRecord.read(folder).files
        known = json.loads(seen.read_text()) if seen.exists() else {}
        now = {}
        for name, digest in files.items():
            stamp = [digest, (folder / name).stat().st_size, (folder / name).stat().st_mtime_ns]
            if known.get(name) != stamp and hash_file(folder / name) != digest:
                return False
            now[name] = stamp
    except (OSError, ValueError):
        return False
    atomic.write_text(seen, json.dumps(now))
    return True


@cache
def _version_of(asked: str) -> str | None:
    from pipeline.source import user_source

    return user_source.version(Folder.model_validate_json(asked), ROOT)


def _version(data: Data) -> str | None:
    """Of the user's own source, looked at once in a process; an empty text of datasets whose files are known beforehand."""
    return _version_of(data.model_dump_json()) if isinstance(data, Folder) else ""


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, that of its Python, YAML, HTML, CSS and JavaScript files."""
    if path.is_dir():
        kinds = {".py", ".yaml", ".html", ".css", ".js"}
        names = [file for file in sorted(path.rglob("*")) if file.suffix in kinds]
        return _digest({file.relative_to(path).as_posix(): hash_file(file) for file in names})
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(path: Path) -> str:
    """One digest of the names and the bytes of all files below `path`, less the fingerprint of how they were made.

    That one changes when the user's files are touched, and what they hold may be the same.
    """
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != FINGERPRINT]
    return _digest({file.relative_to(path).as_posix(): hash_file(file) for file in files})


def _make(stage: str, config: Config, folder: Path) -> None:
    """Run `stage` in a process of its own, so that what it imports and keeps in memory goes with it."""
    _prune()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "config.yaml"
        atomic.write_text(file, validation.as_yaml(config))
        command = [sys.executable, "-m", f"pipeline.{stage}", "--config", str(file), "--out", str(folder)]
        paths = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        print(f"{stage} has not run with this configuration yet: making {folder}")
        if subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}).returncode != 0:
            raise UserError(f"{stage} must succeed before what builds on it; it failed, see above.")


def _prune() -> None:
    """Remove the longest unused cached folders beyond the limit, but none that was used in the last day."""
    folders = sorted((path for path in CACHE.glob("*-*") if path.is_dir()), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in folders}
    total = sum(sizes.values())
    for path in folders:
        if total <= CACHE_GIGABYTES * 1e9 or path.stat().st_mtime > time.time() - 86_400:
            return
        shutil.rmtree(path, ignore_errors=True)
        total -= sizes[path]


@cache
def _declarations() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load((PROJECT / "dvc.yaml").read_text())["stages"]


def _declared_keys(declaration: dict[str, Any]) -> list[str]:
    entries = (entry for entry in declaration.get("params", []) if isinstance(entry, dict))
    return sorted(key for entry in entries for key in entry.get("build/config.yaml", []))


def _declared_sources(declaration: dict[str, Any]) -> list[str]:
    return sorted(path for path in declaration["deps"] if path.startswith("pipeline/"))


def _value_at(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
