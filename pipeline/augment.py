"""Make augmented copies of the training images once, so that every training that follows gets them for nothing.

Reads `build/prepare/` (`train/`, `dataset.json`); writes `build/augment/`: `images.npy` (the copies), `pipeline.json` (what
made them where no veto holds, as albumentations reads it back), `augment.json` (the choice, which training follows),
`preview.png` (originals beside their copies).

    python -m pipeline.augment augment=standard augment.strength=1.5
    python -m pipeline.augment augment=strong augment.copies=8
"""

import json
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.schema import Augment
from pipeline.errors import DataError
from pipeline.seeds import derive_seed
from pipeline.stage import lineage
from pipeline.stage.job import Job
from pipeline.storage.arrays import read_array, reserved
from pipeline.storage.digests import sha256_of

if TYPE_CHECKING:
    from pipeline.augmentation.veto import Augmentation

IMAGES_PER_CHUNK = 250
"""Number of images drawn from one seed. Which process draws them changes nothing; another number changes every copy."""

_WORKER_START_SECONDS = 5.0
"""Start of a process: nearly all of it the import of albumentations."""


def augment(prepared: Path, out: Path, settings: Augment, *, by_image: bool = False) -> None:
    """Write the copies of the training images, what made them, and a picture of both.

    Without transforms, or at strength 0, there are no copies.

    Args:
        prepared: Output of the prepare stage.
        out: Folder to fill.
        settings: Section `augment` of the configuration.
        by_image: Whether the copies of an image follow from the image alone, and not from its place among the others. The
            folds of a cross-validation then share the copies of the images that they share, and the features of these.

    Raises:
        ConfigError: A transform or an argument is not valid, or changes the shape or the type of the images; or the
            strength or the veto does not fit them; or the backend is not available.
        DataError: The disk has no room for the copies.
    """
    from pipeline.augmentation.strength import scaled
    from pipeline.augmentation.transforms import with_fill
    from pipeline.augmentation.veto import augmentation
    from pipeline.plotting.preview import preview
    from pipeline.storage.processes import running_on

    dataset = DatasetRecord.read(prepared)
    transforms = scaled(settings.transforms, settings.strength, dataset.size, dataset.channels)
    transforms = with_fill(transforms, dataset.fill)
    pipeline = augmentation(transforms, settings.veto, dataset.size, dataset.channels, dataset.classes)
    originals = read_array(prepared / "train" / "images.npy")
    num_bytes = settings.copies * originals.nbytes if transforms else 0
    mode, reason = resolve_mode(settings.mode, num_bytes, settings.max_gigabytes)
    if settings.mode == "auto" and transforms:
        print(f"augment.mode=auto: {mode}, as {reason}")
    copies = settings.copies if transforms and mode == "materialized" else 0
    with running_on(settings.backend if copies else "loky", "augment.backend"):
        _write_copies(pipeline, prepared / "train", out / "images.npy", copies, settings, by_image)
    (out / "pipeline.json").write_text(json.dumps(pipeline.pipeline.to_dict(), indent=2) + "\n")
    record = AugmentRecord(
        name=settings.name, mode=mode, asked=settings.mode, reason=reason, copies=copies, strength=settings.strength,
        seed=settings.seed, transforms=transforms, veto=settings.veto, images_sha256=lineage.hash_file(out / "images.npy"),
    )  # fmt: skip
    record.write(out)
    (out / "preview.png").write_bytes(preview(prepared, out, pipeline, dataset.classes, record))


def resolve_mode(mode: str, num_bytes: int, max_gigabytes: float) -> tuple[str, str]:
    """`materialized` or `online`, and the reason, as a clause that follows "as".

    `auto` is materialised while the copies, of `num_bytes` in all, fit: that is faster from the second epoch on.

    >>> resolve_mode("auto", 197_000_000, 4.0)
    ('materialized', 'the copies take 0.197 GB, within augment.max_gigabytes=4')
    >>> resolve_mode("online", 197_000_000, 4.0)
    ('online', 'augment.mode says so')
    """
    if mode != "auto":
        return mode, "augment.mode says so"
    if not num_bytes:
        return "materialized", "there are no transforms, so that there is nothing to draw"
    if num_bytes <= max_gigabytes * 1e9:
        return (
            "materialized",
            f"the copies take {num_bytes / 1e9:.3g} GB, within augment.max_gigabytes={max_gigabytes:g}",
        )
    return "online", f"the copies would take {num_bytes / 1e9:.3g} GB, beyond augment.max_gigabytes={max_gigabytes:g}"


def copy_seed(seed: int, copy: int, chunk: int) -> int:
    """The seed of one chunk of `IMAGES_PER_CHUNK` images in one copy, both counted from 0."""
    return derive_seed(seed, f"augment/{copy}/{chunk}")


def image_seed(seed: int, copy: int, image: NDArray[np.uint8]) -> int:
    """The seed of one copy of one image."""
    return derive_seed(seed, f"augment/{copy}/{sha256_of(image.tobytes())}")


def _write_copies(
    pipeline: "Augmentation", source: Path, target: Path, num_copies: int, settings: Augment, by_image: bool
) -> None:
    """Fill `target` with an array of shape (copies, n, height, width, channels), chunk by chunk."""
    shape = read_array(source / "images.npy").shape
    num_bytes = num_copies * int(np.prod(shape))

    def no_room(cause: str) -> DataError:
        return DataError(
            f"the disk must have room for the {num_bytes:,} bytes of the copies; {cause}. Lower augment.copies=… (the bytes "
            "are in proportion to it), or set augment.mode=online, which stores none."
        )

    chunks = [(copy, chunk) for copy in range(num_copies) for chunk in range(-(-shape[0] // IMAGES_PER_CHUNK))]
    with reserved(target, (num_copies, *shape), no_room) as begin:
        if chunks:
            write = partial(_write_chunk, pipeline, source, target, begin, settings.seed, by_image)
            _fill(chunks, write, settings.workers)


def _fill(chunks: list[tuple[int, int]], write_chunk: Callable[[int, int], int], workers: int | None) -> None:
    from joblib import delayed, effective_n_jobs
    from rich.console import Console
    from rich.progress import Progress

    from pipeline.storage.processes import num_processes, results

    console = Console(highlight=False)
    start = time.perf_counter()
    num_images = write_chunk(*chunks[0])
    workers = num_processes(workers, (time.perf_counter() - start) * (len(chunks) - 1), _WORKER_START_SECONDS)
    work = (delayed(write_chunk)(*chunk) for chunk in chunks[1:])
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
    pipeline: "Augmentation", source: Path, target: Path, begin: int, seed: int, by_image: bool, copy: int, chunk: int
) -> int:
    """Augment one chunk of images, write it to its place in `target`, and return its number of images.

    Plain writes rather than a memory map: on a full disk they raise, and a map kills the process.
    """
    pipeline = deepcopy(pipeline)  # Dask's workers may be threads, which would draw from one pipeline by turns
    images, labels = (read_array(source / f"{name}.npy") for name in ("images", "labels"))
    first = chunk * IMAGES_PER_CHUNK
    part = slice(first, first + IMAGES_PER_CHUNK)
    if by_image:
        of_each = zip(images[part, None], labels[part, None], strict=True)  # as batches of one
        augmented = np.concatenate([pipeline(*each, image_seed(seed, copy, each[0])) for each in of_each])
    else:
        augmented = pipeline(images[part], labels[part], copy_seed(seed, copy, chunk))
    with target.open("r+b") as file:
        file.seek(begin + (copy * len(images) + first) * images[0].nbytes)
        file.write(augmented.data)
    return len(augmented)


def main(job: Job) -> None:
    augment(job.locate("prepare"), job.out, job.config.augment, by_image=job.config.prepare.folds is not None)


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("augment", main, multirun())
