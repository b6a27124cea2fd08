"""Reads a package from a folder or a ZIP file, and refuses one that is not as it was written."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.artefacts.artefact import Artefact
from pipeline.artefacts.package import (
    CLUSTERS,
    DRIFT,
    FILES,
    IMAGES,
    MODEL,
    WEIGHTS,
    ClassesRecord,
    ManifestRecord,
    PreprocessingRecord,
    ThresholdsRecord,
)
from pipeline.errors import DataError
from pipeline.metrics.outliers import Clusters

_LARGEST_MANIFEST = 10_000_000
_BESIDE = {"SHA256SUMS", "fingerprint.txt"}
"""Files that a stage adds to every folder."""

Kind = TypeVar("Kind", bound=Artefact)


@dataclass(frozen=True)
class Package:
    """The content of a package that was checked.

    Attributes:
        place: Path of the folder or the file, for messages.
        manifest: Files and origin.
        preprocessing: What happens to an image before the network.
        classes: Names of the classes.
        thresholds: What turns outputs into decisions.
        model: Content of `model.onnx`.
        clusters: Clusters of the training images' features; None where no image is called unknown by its distance.
        images: Content of `images.npz`.
        weights: Content of `weights.safetensors`, which only Grad-CAM needs; None where it is not there.
        drift: Content of `drift.npz`; None in packages without a sample to compare new images with.
    """

    place: str
    manifest: ManifestRecord
    preprocessing: PreprocessingRecord
    classes: list[str]
    thresholds: ThresholdsRecord
    model: bytes
    clusters: Clusters | None
    images: bytes
    weights: bytes | None
    drift: bytes | None


def read(path: Path) -> Package:
    """Read and check a package.

    Raises:
        DataError: It is none, holds other files than its manifest names, or a file that has changed.
    """
    with _opened(path) as (names, content):
        return _checked(str(path), names, content)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[set[str], Callable[[str, int], bytes]]]:
    """The names of the files, and a function that gives the content of one, up to a number of bytes."""
    if path.is_dir():
        yield {file.name for file in path.iterdir()} - _BESIDE, lambda name, most: _read(path / name, most)
        return
    if not path.is_file():
        raise DataError(
            f"--model must be a package: a folder or a ZIP file that `python -m pipeline.package` made; {path} is not there."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.rpartition("/")[2]: name for name in archive.namelist() if not name.endswith("/")}
            folders = {name.rpartition("/")[0] for name in members.values()}
            if len(folders) > 1 or len(members) != sum(not name.endswith("/") for name in archive.namelist()):
                raise _refusal(str(path), "its files must lie in one folder")

            def content(name: str, most: int) -> bytes:
                with archive.open(members[name]) as file:
                    return file.read(most + 1)

            yield members.keys() - _BESIDE, content
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise _refusal(str(path), f"it is no whole ZIP file ({error})") from None


def _read(path: Path, most: int) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise _refusal(str(path.parent), f"{path.name} must be a file")
    with path.open("rb") as file:
        return file.read(most + 1)


def _checked(place: str, names: set[str], content: Callable[[str, int], bytes]) -> Package:
    if ManifestRecord.FILE not in names:
        raise _refusal(place, f"it has no {ManifestRecord.FILE}")
    manifest = _record(ManifestRecord, place, content(ManifestRecord.FILE, _LARGEST_MANIFEST))
    listed = {*manifest.files, ManifestRecord.FILE}
    for name in sorted(names - listed) + sorted(listed - set(FILES)):
        raise _refusal(place, f"it holds {name}, which does not belong to a package")
    for name in sorted(listed - names):
        raise _refusal(place, f"{name} is missing")
    kept: dict[str, bytes] = {}
    for name, signature in manifest.files.items():
        data = content(name, signature.num_bytes)
        if len(data) != signature.num_bytes or hashlib.sha256(data).hexdigest() != signature.sha256:
            raise _refusal(place, f"{name} has changed since it was written")
        kept[name] = data
    for name in (MODEL, IMAGES, ClassesRecord.FILE, PreprocessingRecord.FILE, ThresholdsRecord.FILE):
        if name not in kept:
            raise _refusal(place, f"{name} is missing")
    return Package(
        place=place, manifest=manifest, model=kept[MODEL],
        preprocessing=_record(PreprocessingRecord, place, kept[PreprocessingRecord.FILE]),
        classes=_record(ClassesRecord, place, kept[ClassesRecord.FILE]).classes,
        thresholds=_record(ThresholdsRecord, place, kept[ThresholdsRecord.FILE]),
        clusters=_clusters(place, kept[CLUSTERS]) if CLUSTERS in kept else None, images=kept[IMAGES],
        weights=kept.get(WEIGHTS), drift=kept.get(DRIFT),
    )  # fmt: skip


def _record(kind: type[Kind], place: str, content: bytes) -> Kind:
    try:
        return kind.from_json(content)
    except ValueError as error:
        raise _refusal(place, f"{kind.FILE} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _clusters(place: str, content: bytes) -> Clusters:
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return Clusters(arrays["means"], arrays["precision"])
    except Exception as error:  # of noise, NumPy raises nearly anything
        raise _refusal(place, f"{CLUSTERS} cannot be read ({error})") from None


def _refusal(place: str, reason: str) -> DataError:
    return DataError(
        f"--model must be a package as `python -m pipeline.package` wrote it; got {place}: {reason}. Copy it again, or make it "
        "again."
    )
