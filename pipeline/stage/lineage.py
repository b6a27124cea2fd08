"""Fingerprints the output of stages, and finds the folder whose output fits a configuration.

`dvc.yaml` is the one list of the configuration keys and the source files that each stage depends on. DVC reads it to decide
which stages run. A stage that is run by hand reads it here, so that it never works on data of another configuration.
"""

import operator
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.artefacts.evaluation import EvaluationRecord
from pipeline.artefacts.package import ManifestRecord
from pipeline.artefacts.receipt import ReceiptRecord
from pipeline.artefacts.run import RunRecord
from pipeline.artefacts.source import SourceRecord
from pipeline.artefacts.weights import WeightsRecord
from pipeline.config import validation, yaml_values
from pipeline.config.schema import Config
from pipeline.config.schema_data import Data, Folder
from pipeline.config.schema_model import Timm
from pipeline.config.secrets import without_secrets
from pipeline.errors import DataError, UserError
from pipeline.stage import maker
from pipeline.storage import atomic, checksums
from pipeline.storage.digests import digest, sha256
from pipeline.storage.places import CACHE, PROJECT, ROOT

CACHE_GIGABYTES = 20

_RECORDS = (
    SourceRecord,
    WeightsRecord,
    DatasetRecord,
    AugmentRecord,
    RunRecord,
    EvaluationRecord,
    DiagnosisRecord,
    ManifestRecord,
    ReceiptRecord,
)
RECORDS = {record.STAGE: record.FILE for record in _RECORDS}
"""Name of the record in each stage's folder, which tells what the folder holds."""

FINGERPRINT = "fingerprint.txt"
"""Name of the file in each stage's folder with the fingerprint of what the folder was made of."""

_NEVER_MADE = {
    "train": ("training", "evaluate.training"),
    "evaluate": ("evaluation", "report.evaluation"),
    "diagnose": ("diagnosis", "report.diagnosis"),
    "package": ("package", "register.package"),
}
"""Stages whose output `locate` finds but never makes: name of the output, and the key that names another folder of it."""

UPSTREAM = {"weights": (), "prepare": ("fetch",), "augment": ("prepare",), "train": ("weights", "prepare", "augment")}
"""Stages whose output each stage reads; `upstream` leaves out the weights where a training starts from random ones."""

_NO_SHAPE = {"dropout", "conv_dropout", "train_layers", "head_epochs", "normalization_statistics"}
"""Keys of a model that change no tensor's shape, so that one check of `model.weights` serves all their values."""


def dvc_folder(stage: str, project: Path = PROJECT) -> Path:
    """Folder in which DVC keeps the output of `stage`: `build/<stage>`, and for `fetch` `data/`, which `data.dvc` pins."""
    return project / "data" if stage == "fetch" else project / "build" / stage


def fingerprint(stage: str, config: Config, upstream: dict[str, str]) -> str:
    """Sixteen hexadecimal digits that change with anything that `stage` depends on, as `dvc.yaml` declares it.

    `upstream` is the fingerprint of the content of each input, by stage.
    """
    if stage == "fetch":  # the place does not count: every mirror serves the same bytes
        data = config.data.model_dump(exclude={"mirrors"} if isinstance(config.data, Folder) else {"mirrors", "source"})
        data = without_secrets(data)
        version_of_source = source_version(config.data)
        if isinstance(config.data, Folder) and version_of_source is None and (kept := pinned(config.data)):
            return kept
        return digest({"data": data, "version": version_of_source})
    declaration = declarations()[stage]
    values: Any = config.model_dump()
    if stage == "weights":
        values["model"] = {key: value for key, value in values["model"].items() if key not in _NO_SHAPE}
        if config.model.weights is None:
            values["model"] = {"architecture": config.model.architecture} if isinstance(config.model, Timm) else None
        else:
            values["model"]["version"] = weights_version(config.model.weights)
    return digest({
        "stage": stage,
        "config": {key: reduce(operator.getitem, key.split("."), values) for key in declaration.keys},
        "upstream": upstream,
        "sources": {path: hash_file(PROJECT / path) for path in declaration.sources},
        "versions": {name: version(name) for name in ("torch", "albumentations", "opencv-python-headless", "numpy")},
    })  # fmt: skip


def recorded_fingerprint(folder: Path) -> str | None:
    """The fingerprint that `folder` was made with. None for a folder without the whole output of a stage.

    Raises:
        DamagedError: The file with the fingerprint has changed since it was written.
    """
    return checksums.read_text(folder / FINGERPRINT).strip() if (folder / FINGERPRINT).exists() else None


def whole(stage: str, folder: Path) -> Path:
    """The folder of a finished stage, whose files can be checked when they are read.

    Raises:
        DamagedError: The raw files are not as they were fetched, or the folder lacks the checksums of its files.
    """
    if stage == "fetch":
        for name, expected in SourceRecord.read(folder).files.items():
            checksums.check_file(folder, folder / name, expected)
    elif recorded_fingerprint(folder) is not None:
        checksums.require(folder)
    return folder


def content(stage: str, folder: Path) -> str:
    """The fingerprint of what the output of `stage` holds, however it was made.

    Later stages depend on this one, so that an edit which leaves the images as they were trains nothing again.

    Raises:
        DataError: The folder holds no output of the stage, or a damaged one.
    """
    if stage == "fetch":
        return hash_folder(folder)
    checksums.check(whole(stage, folder) / RECORDS[stage])
    try:
        return hash_file(folder / RECORDS[stage])[:16]
    except FileNotFoundError:
        message = f"{str(folder)!r} must hold the output of {stage}; found none. Run `dvc repro {stage}`."
        raise DataError(message) from None


def expected_fingerprint(stage: str, config: Config) -> str:
    """The fingerprint of the output that `stage` would make with `config`. Missing inputs are made first."""
    if stage == "fetch":
        return fingerprint("fetch", config, {})
    return fingerprint(stage, config, {name: content(name, locate(name, config)) for name in upstream(stage, config)})


def upstream(stage: str, config: Config) -> list[str]:
    """The stages whose output `stage` reads with this configuration."""
    with_weights = config.model.weights is not None or isinstance(config.model, Timm)  # whose package the stage imports
    return [name for name in UPSTREAM.get(stage, ()) if name != "weights" or with_weights]


def locate(stage: str, config: Config) -> Path:
    """Find the folder with the output of `stage` for `config`: DVC's, else a cached one, which is made if missing.

    Raises:
        DataError: There is no training, evaluation or diagnosis yet; these are never made here.
        UserError: The stage failed.
    """
    if stage in _NEVER_MADE:
        if not (dvc_folder(stage) / RECORDS[stage]).exists():
            what, key = _NEVER_MADE[stage]
            raise DataError(
                f"{dvc_folder(stage)} must hold a finished {what}; found none. Run `dvc repro`, or name another folder "
                f"with {key}=…."
            )
        return whole(stage, dvc_folder(stage))
    expected = expected_fingerprint(stage, config)
    for folder in (dvc_folder(stage), CACHE / f"{stage}-{expected}"):
        if recorded_fingerprint(folder) == expected:
            with suppress(OSError):  # of a project that is read-only
                os.utime(folder)
            return whole(stage, folder)
    _make(stage, config, folder)
    return folder


def pinned(data: Folder) -> str | None:
    """The fingerprint of `data/` as `data.dvc` pins it, if it was fetched from the same source; else None.

    With other corrections of labels than these, the fingerprint of what `fetch` makes of it.
    """
    from pipeline.source import relabel_table, user_source

    folder = dvc_folder("fetch")
    try:
        about = SourceRecord.read(folder)
    except DataError:
        return None
    if about.asked != user_source.asked(data):
        return None
    return relabel_table.fingerprint(data, ROOT, about, recorded_fingerprint(folder))


def is_whole(folder: Path) -> bool:
    """Whether the files in `folder` are still as `fetch` wrote them. Only files with a new size or time are read again."""
    try:
        return checksums.are_whole(folder, SourceRecord.read(folder).files)
    except DataError:
        return False


@cache
def _version_of(asked: str) -> str | None:
    from pipeline.source import user_source

    return user_source.version(Folder.model_validate_json(asked), ROOT)


def source_version(data: Data) -> str | None:
    """The version of the user's own source, computed once in a process; empty for other data, None where there is none."""
    return _version_of(data.model_dump_json()) if isinstance(data, Folder) else ""


@cache
def weights_version(asked: str) -> str:
    """Digest of the time and size of a local file or folder that `model.weights` names; empty for what is elsewhere."""
    path = ROOT / Path(urldefrag(asked)[0]).expanduser()
    files = [path, *path.glob("*.ckpt"), *path.glob("*.safetensors")] if path.exists() else []
    return digest([[file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]) if files else ""


def hash_file(path: Path) -> str:
    """SHA-256 of a file; for a folder, a digest of its Python, YAML, HTML, CSS and JavaScript files."""
    if path.is_dir():
        kinds = {".py", ".yaml", ".html", ".css", ".js"}
        names = [file for file in sorted(path.rglob("*")) if file.suffix in kinds]
        return digest({file.relative_to(path).as_posix(): hash_file(file) for file in names})
    return sha256(path)


def hash_folder(path: Path) -> str:
    """A digest of the names and the bytes of all files below `path`, without `fingerprint.txt`.

    That file changes when the user's files are touched, even if their content stays the same.
    """
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != FINGERPRINT]
    return digest({file.relative_to(path).as_posix(): hash_file(file) for file in files})


def _make(stage: str, config: Config, folder: Path) -> None:
    """Run `stage` in another process, whose imports and memory end with it."""
    _prune()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "config.yaml"
        atomic.write_text(file, validation.as_yaml(config))
        print(f"{stage} has not run with this configuration yet: making {folder}", flush=True)
        if not maker.make(stage, file, folder):
            raise UserError(f"{stage} must succeed before what builds on it; it failed, see above.")


def _prune() -> None:
    """Remove the cached folders that were unused longest until the cache fits its limit; keep those used in the last day."""
    found = []
    for path in filter(Path.is_dir, CACHE.glob("[!.]*-*")):  # without what is being written
        with suppress(FileNotFoundError):  # another process has removed it, or a file in it
            num_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            found.append((path.stat().st_mtime, num_bytes, path))
    total = sum(num_bytes for _, num_bytes, _ in found)
    for used, num_bytes, path in sorted(found):
        if total <= CACHE_GIGABYTES * 1e9 or used > time.time() - 86_400:
            return
        shutil.rmtree(path, ignore_errors=True)
        total -= num_bytes


@dataclass(frozen=True)
class Declaration:
    """The dependencies of a stage that `dvc.yaml` declares: configuration keys, and source files and folders."""

    keys: list[str]
    sources: list[str]


@cache
def declarations() -> dict[str, Declaration]:
    """The declaration of each stage in `dvc.yaml`."""
    stages = yaml_values.parse((PROJECT / "dvc.yaml").read_text())["stages"]
    result = {}
    for name, stage in stages.items():
        files = (entry for entry in stage.get("params", []) if isinstance(entry, dict))
        keys = sorted(key for entry in files for key in entry.get("build/config.yaml", []))
        result[name] = Declaration(keys, sorted(path for path in stage["deps"] if path.startswith("pipeline/")))
    return result
