"""Get the weights that a training starts from, check that they fit the network, and keep the tensors alone, without code.

Reads:   nothing of the project; a file, a folder, the web, a bucket, an installed package or MLflow, as `model.weights` says
Writes:  build/weights/: `weights.json` (where they come from, and their SHA-256) and `weights.safetensors`; without
         `model.weights` an empty record alone
Command: python -m pipeline.weights model=efficientnet
         python -m pipeline.weights model.weights=runs:/0123456789abcdef0123456789abcdef
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline.artefacts.weights import TENSORS, WeightsRecord
from pipeline.config.schema import Config
from pipeline.config.schema_model import Timm
from pipeline.config.secrets import masked, resolved
from pipeline.stage.job import Job
from pipeline.storage import lock
from pipeline.storage.digests import sha256
from pipeline.storage.places import ROOT

if TYPE_CHECKING:
    from pipeline.model.start import Start


def main(job: Job) -> None:
    """Fill `job.out`.

    Raises:
        DataError: The weights cannot be had, hold code, or are those of another network.
        ConfigError: A package is missing, or cannot be imported, or the address is of no known kind.
    """
    model = job.config.model
    if isinstance(model, Timm):  # told before any image is touched, also with random weights
        from pipeline.model import timm_network

        timm_network.with_architecture(model.architecture)
    if model.weights is None:
        WeightsRecord().write(job.out)
        return
    asked = resolved(model.weights)
    cache = job.cache / "weights"
    with TemporaryDirectory() as scratch, lock.held(cache, wait=True):
        path, actual = _located(asked, job.config, Path(scratch), cache)
        start = _read(path, job.config)
        shutil.rmtree(cache, ignore_errors=True)
    write(start, job.out, source=masked(model.weights), sha256_of_source=actual, network=model.name)
    left_out = f"; {len(start.left_out)} others are not taken" if start.left_out else ""
    print(f"weights: {start.num_parameters:,} of {masked(model.weights)} for {model.name}{left_out}")


def write(start: "Start", out: Path, *, source: str, sha256_of_source: str, network: str) -> None:
    """Write the tensors and their record into the folder `out`."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous().clone() for name, tensor in start.tensors.items()}, out / TENSORS)
    WeightsRecord(
        source=source, sha256=sha256_of_source, network=network, channels=start.channels, mean=start.mean, std=start.std,
        classes=start.classes, num_parameters=start.num_parameters, left_out=start.left_out,
        files={TENSORS: sha256(out / TENSORS)},
    ).write(out)  # fmt: skip


def _located(asked: str, config: Config, scratch: Path, cache: Path) -> tuple[Path, str]:
    """The local file or folder of the weights, and the SHA-256 of the file."""
    from pipeline.source.weight_files import file_of, weight_file

    if asked.startswith(("runs:/", "models:/")):
        from pipeline.tracking import retrieval

        get = retrieval.training if asked.startswith("runs:/") else retrieval.package_folder
        path = get(config.tracking, asked, scratch)
        return path, sha256(file_of(path))
    return weight_file(asked, ROOT, cache)


def _read(path: Path, config: Config) -> "Start":
    from pipeline.artefacts.package import ClassesRecord, ManifestRecord
    from pipeline.model import start
    from pipeline.source.weight_files import file_of

    shown, description = masked(str(config.model.weights)), config.model.model_dump(exclude=set(config.model.START))
    description["size"] = config.prepare.size
    if not (path.is_dir() and (path / ManifestRecord.FILE).is_file()):
        return start.read(file_of(path), shown, description)
    network, classes = ManifestRecord.read_alone(path).network, ClassesRecord.read_alone(path).classes
    return start.read(file_of(path), shown, {**description, "mean": network["mean"], "std": network["std"]}, classes)


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("weights", main, multirun())
