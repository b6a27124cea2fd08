"""Make augmented copies of the training images once, so that every training that follows gets them for nothing.

Reads `build/prepare/` (`train/`, `dataset.json`); writes `build/augment/`: `images.npy` (the copies), `pipeline.json` (what
made them where no veto holds, as albumentations reads it back), `augment.json` (the choice, which training follows),
`preview.png` (originals beside their copies).

    python -m pipeline.augment augment=standard augment.strength=1.5
    python -m pipeline.augment augment=strong augment.copies=8
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.errors import DataError
from pipeline.seeds import derive_seed
from pipeline.stage import lineage
from pipeline.stage.job import Job
from pipeline.storage import atomic

if TYPE_CHECKING:
    from pipeline.augmentation.veto import Augmentation

IMAGES_PER_CHUNK = 250
"""Images drawn from one seed. Which process draws them changes nothing; another number changes every copy."""

_WORKER_START_SECONDS = 5.0
"""What a process costs before its first image, nearly all of it the import of albumentations."""


def augment(
    prepared: Path,
    out: Path,
    *,
    name: str,
    mode: str,
    max_gigabytes: float,
    copies: int,
    strength: float,
    transforms: Sequence[dict[str, Any] | str],
    veto: Mapping[str, Sequence[Any]],
    seed: int,
    workers: int | None,
    backend: str,
) -> None:
    """Write the copies of the training images, what made them, and a picture of both.

    Args:
        prepared: Output of the prepare stage.
        out: Folder to fill.
        name: The preset's name.
        mode: `materialized`, or `online`: no copies here, training draws each image anew in each epoch; or `auto`: as
            `resolve_mode` says.
        max_gigabytes: That the copies may take with `auto`, of 10⁹ bytes.
        copies: Augmented versions of each image.
        strength: How strongly the transforms act, as `pipeline.augmentation.strength` explains; at 0 there are no copies.
        transforms: As `pipeline.augmentation.transforms.build` takes them; with none there are no copies.
        veto: Transforms that are kept from the images of some classes: `{transform: [class, …]}`.
        seed: Decides everything random.
        workers: Processes, at most one for each core; None: as many as pay off.
        backend: Where they run, as `pipeline.storage.processes` takes it; changes no copy.

    Raises:
        ConfigError: A transform or an argument is not valid, or changes the shape or the type of the images; or the
            strength or the veto does not fit them; or the backend cannot be had.
        DataError: The disk has no room for the copies.
    """
    from pipeline.augmentation.strength import scaled
    from pipeline.augmentation.veto import augmentation
    from pipeline.plotting.preview import preview
    from pipeline.storage.processes import running_on

    dataset = DatasetRecord.read(prepared)
    size, channels = dataset.size, dataset.channels
    transforms = scaled(transforms, strength, size=size, channels=channels)
    pipeline = augmentation(transforms, veto, size=size, channels=channels, classes=dataset.classes)
    num_bytes = (
        copies * int(np.prod(np.load(prepared / "train" / "images.npy", mmap_mode="r").shape)) if transforms else 0
    )
    resolved, reason = resolve_mode(mode, num_bytes, max_gigabytes)
    if mode == "auto" and transforms:
        print(f"augment.mode=auto: {resolved}, as {reason}")
    num_copies = copies if transforms and resolved == "materialized" else 0
    with running_on(backend if num_copies else "loky", "augment.backend"):
        _write_copies(pipeline, prepared / "train", out / "images.npy", num_copies, seed, workers)
    _write_json(out / "pipeline.json", pipeline.pipeline.to_dict())
    record = AugmentRecord(
        name=name,
        mode=resolved,
        asked=mode,
        reason=reason,
        copies=num_copies,
        strength=strength,
        seed=seed,
        transforms=transforms,
        veto={transform: list(classes) for transform, classes in veto.items()},
        images_sha256=lineage.hash_file(out / "images.npy"),
    )
    record.write(out)
    (out / "preview.png").write_bytes(preview(prepared, out, pipeline, dataset.classes, record))


def resolve_mode(mode: str, num_bytes: int, max_gigabytes: float) -> tuple[str, str]:
    """`materialized` or `online`, and the reason, as a clause that follows "as".

    Args:
        mode: What was asked for; `auto` is materialised while the copies fit, as it is faster from the second epoch on.
        num_bytes: Of all copies; 0 without transforms.
        max_gigabytes: That they may take, of 10⁹ bytes.

    >>> resolve_mode("auto", 197_000_000, 4.0)
    ('materialized', 'the copies take 0.197 GB, within augment.max_gigabytes=4')
    >>> resolve_mode("online", 197_000_000, 4.0)
    ('online', 'augment.mode says so')
    """
    if mode != "auto":
        return mode, "augment.mode says so"
    if not num_bytes:
        return "materialized", "there are no transforms, so that there is nothing to draw"
    fits = num_bytes <= max_gigabytes * 1e9
    took = f"the copies {'' if fits else 'would '}take {num_bytes / 1e9:.3g} GB"
    return (
        "materialized" if fits else "online",
        f"{took}, {'within' if fits else 'beyond'} augment.max_gigabytes={max_gigabytes:g}",
    )


def copy_seed(seed: int, copy: int, chunk: int) -> int:
    """The seed of one chunk of `IMAGES_PER_CHUNK` images in one copy, both counted from 0."""
    return derive_seed(seed, f"augment/{copy}/{chunk}")


def _write_copies(
    pipeline: "Augmentation", source: Path, target: Path, num_copies: int, seed: int, workers: int | None
) -> None:
    """Fill `target` with an array of shape (copies, n, height, width, channels), chunk by chunk."""
    shape = np.load(source / "images.npy", mmap_mode="r").shape
    num_bytes = num_copies * int(np.prod(shape))
    free_bytes = shutil.disk_usage(target.parent).free
    if num_bytes > free_bytes:
        raise _no_room(num_bytes, f"{free_bytes:,} are free")
    with target.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (num_copies, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
        file.truncate(begin + num_bytes)
    chunks = [(copy, chunk) for copy in range(num_copies) for chunk in range(-(-shape[0] // IMAGES_PER_CHUNK))]
    if chunks:
        try:
            _fill(pipeline, source, target, begin, chunks, seed, workers)
        except OSError as error:
            if error.errno not in atomic.NO_ROOM:
                raise
            raise _no_room(num_bytes, "the disk is full") from None


def _fill(
    pipeline: "Augmentation",
    source: Path,
    target: Path,
    begin: int,
    chunks: list[tuple[int, int]],
    seed: int,
    workers: int | None,
) -> None:
    from joblib import delayed, effective_n_jobs
    from rich.console import Console
    from rich.progress import Progress

    from pipeline.storage.processes import num_processes, results

    console = Console(highlight=False)
    start = time.perf_counter()
    first, *rest = chunks
    num_images = _write_chunk(pipeline, source, target, begin, *first, seed)
    workers = num_processes(workers, (time.perf_counter() - start) * len(rest), _WORKER_START_SECONDS)
    work = (delayed(_write_chunk)(pipeline, source, target, begin, *chunk, seed) for chunk in rest)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("augment", total=len(chunks), completed=1)
        for num_written in results(work, workers):
            num_images += num_written
            progress.advance(task)
    seconds = time.perf_counter() - start
    workers = effective_n_jobs(workers)  # Dask's backend takes no number: it uses the whole cluster
    processes = "1 process" if workers == 1 else f"{workers} processes"
    console.print(f"augment: {num_images:,} images in {seconds:.1f} s, {processes}")


def _write_chunk(
    pipeline: "Augmentation", source: Path, target: Path, begin: int, copy: int, chunk: int, seed: int
) -> int:
    """Augment one chunk of images, write it to its place in `target`, and say how many images it held.

    Plain writes rather than a memory map: on a full disk they raise, and a map kills the process.
    """
    pipeline = deepcopy(pipeline)  # Dask's workers may be threads, which would draw from one pipeline by turns
    images, labels = (np.load(source / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    first = chunk * IMAGES_PER_CHUNK
    part = slice(first, first + IMAGES_PER_CHUNK)
    augmented = pipeline(images[part], labels[part], copy_seed(seed, copy, chunk))
    with target.open("r+b") as file:
        file.seek(begin + (copy * len(images) + first) * images[0].nbytes)
        file.write(augmented.data)
    return len(augmented)


def _no_room(num_bytes: int, found: str) -> DataError:
    return DataError(
        f"the disk must have room for the {num_bytes:,} bytes of the copies; {found}. Lower augment.copies=… (the bytes "
        "are in proportion to it), or set augment.mode=online, which stores none."
    )


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def main(job: Job) -> None:
    choice = job.config.augment
    augment(
        job.locate("prepare"),
        job.out,
        name=choice.name,
        mode=choice.mode,
        max_gigabytes=choice.max_gigabytes,
        copies=choice.copies,
        strength=choice.strength,
        transforms=choice.transforms,
        veto=choice.veto,
        seed=choice.seed,
        workers=choice.workers,
        backend=choice.backend,
    )


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("augment", main, multirun())
