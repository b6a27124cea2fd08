"""Every image of the raw data decoded once, at one size, by as many processes as pay off.

The result lies in the cache and outlives a killed run: finished blocks are kept, and images that an earlier version of the
data held already are copied from there instead of being decoded again.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data import block, decoding, images, near_duplicates
from pipeline.data.block import FACTS, BlockJob, Settings, keys_of_content, read_problems
from pipeline.data.decoding import BadImageError, decode
from pipeline.data.layouts import RawDataset
from pipeline.errors import DataError
from pipeline.storage import atomic, lock
from pipeline.storage.arrays import write_array
from pipeline.storage.processes import num_processes, results

Pixels = NDArray[np.uint8]

_WORKER_START_SECONDS = 2.0
"""What a process costs before its first image: the import of OpenCV, Pillow and SciPy."""

_SAMPLE = 1000
"""Images that are looked at to see whether the data are grey or in colour."""

_PIECE = 4096
"""Images that are read back at a time."""


@dataclass(frozen=True)
class Facts:
    """What is known of each of n images from before they were fitted; zeros where one could not be decoded.

    Attributes:
        content: SHA-256 of the encoded bytes, or of the pixels where they are stored as such; uint8 of shape (n, 32).
        shape: Height, width and channels; int32 of shape (n, 3).
        num_bytes: Of the encoded image; int64 of shape (n,).
        spread: Standard deviation of the pixels, of large images of some of them, in [0, 255]; float32 of shape (n,).
        signature: As `pipeline.data.near_duplicates` makes it; uint8 of shape (n, length), mapped.
        problems: The problem and the evidence of those that could not be decoded, by their place.
    """

    content: Pixels
    shape: NDArray[np.int32]
    num_bytes: NDArray[np.int64]
    spread: NDArray[np.float32]
    signature: Pixels
    problems: dict[int, tuple[str, str]]


@dataclass(frozen=True)
class Decoded:
    """All images of a dataset, decoded, in the order of its blocks.

    Attributes:
        folder: Where they lie.
    """

    folder: Path

    @cached_property
    def facts(self) -> Facts:
        arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in FACTS}
        return Facts(**arrays, problems=read_problems(self.folder / "problems.json"))

    def pieces(self, rows: NDArray[np.int64]) -> Iterator[Pixels]:
        """The images of `rows` in that order, a few at a time: uint8 of shape (k, size, size, channels).

        They are read one by one: a map of the file would keep the pages around each of them in memory.
        """
        images = np.load(self.folder / "images.npy", mmap_mode="r")
        shape, offset, num_bytes = images.shape[1:], images.offset, images[:1].nbytes
        with (self.folder / "images.npy").open("rb", buffering=0) as file:
            for begin in range(0, len(rows), _PIECE):
                piece = np.empty((len(rows[begin : begin + _PIECE]), *shape), np.uint8)
                for image, row in zip(piece, rows[begin : begin + _PIECE].tolist(), strict=True):
                    file.seek(offset + row * num_bytes)
                    file.readinto(image.data)
                yield piece

    def marks(self) -> NDArray[np.bytes_]:
        """A digest of each image's signature: of what it looks like, whatever it is called and however it is stored."""
        marks = np.empty(len(self.facts.spread), dtype="S32")
        for begin in range(0, len(marks), _PIECE):
            rows = np.ascontiguousarray(np.load(self.folder / "signature.npy", mmap_mode="r")[begin : begin + _PIECE])
            marks[begin : begin + _PIECE] = [hashlib.sha256(row).hexdigest()[:32].encode() for row in rows]
        return marks

    def first_copies(self, marks: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """For each image, the place of the first one with the same pixels, once fitted, and the same shape before.

        Args:
            marks: From `marks`; only images that share one are compared.
        """
        first = np.arange(len(marks))
        _, number, count = np.unique(marks, return_inverse=True, return_counts=True)
        rows = np.flatnonzero(count[number] > 1)
        seen: dict[tuple[bytes, bytes], int] = {}
        places = iter(rows.tolist())
        for piece in self.pieces(rows):
            for image in piece:
                row = next(places)
                first[row] = seen.setdefault((bytes(marks[row]), hashlib.sha256(image.data).digest()), row)
        return first


def look_for_channels(raw: RawDataset, max_pixels: int) -> int:
    """1 where all images of a sample are grey, else 3."""
    chosen = raw.blocks[:: max(1, len(raw.blocks) // 20)]
    per_block = max(1, _SAMPLE // len(chosen))
    for each in chosen:
        found = each.read()
        if isinstance(found, np.ndarray):
            if found.shape[3] == 3:
                return 3
            continue
        for data in found[:: max(1, len(found) // per_block)]:
            try:
                if decode(data, max_pixels).shape[2] == 3:
                    return 3
            except BadImageError:
                continue
    return 1


def decode_all(raw: RawDataset, settings: Settings, cache: Path, workers: int | None) -> Decoded:
    """Decode what is not decoded yet.

    Args:
        raw: The dataset.
        settings: How.
        cache: Folder of the cache; the result is a folder in it, named by what it was made of.
        workers: Processes; None: as many as pay off, at most one for each core.

    Raises:
        DataError: The disk has no room.
    """
    decoder = _decoder(settings)
    folder = cache / f"decoded-{_digest(decoder, _bytes_of(raw))}"
    with lock.held(folder, wait=True):
        if not (folder / "about.json").exists():
            try:
                _decode_blocks(raw, settings, folder, _earlier(cache, decoder), workers)
            except OSError as error:
                if error.errno not in atomic.NO_ROOM:
                    raise
                raise _no_room(folder, len(raw.labels), settings, "the disk is full") from None
            atomic.write_text(folder / "about.json", json.dumps({"decoder": decoder}))
            shutil.rmtree(folder / "blocks")
        os.utime(folder)
    return Decoded(folder)


def _bytes_of(raw: RawDataset) -> list[tuple[str, str, int]]:
    """Names the images by the bytes of their files, and the way in which they are read from these."""
    digests = {}
    for path in dict.fromkeys(each.path for each in raw.blocks):
        with path.open("rb") as file:
            digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return [(type(each).__name__, digests[each.path], each.num_images) for each in raw.blocks]


def _decoder(settings: Settings) -> str:
    """Names everything but the data that the result depends on."""
    modules = (decoding, images, near_duplicates, block)
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules]
    versions = [version(name) for name in ("numpy", "opencv-python-headless", "pillow")]
    return _digest(asdict(settings), sources, versions)


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _earlier(cache: Path, decoder: str) -> Path | None:
    """What the same decoder made last of another version of the data, or of other data."""
    made = []
    for about in cache.glob("decoded-*/about.json"):
        with suppress(OSError, ValueError):
            if json.loads(about.read_text())["decoder"] == decoder:
                made.append((about.parent.stat().st_mtime, about.parent))
    return max(made)[1] if made else None


def _decode_blocks(
    raw: RawDataset, settings: Settings, folder: Path, earlier: Path | None, workers: int | None
) -> None:
    begins = np.cumsum([0, *(each.num_images for each in raw.blocks)]).tolist()
    (folder / "blocks").mkdir(parents=True, exist_ok=True)
    offset = _allocate(folder / "images.npy", begins[-1], settings)
    records = [folder / "blocks" / f"{number:06d}.npz" for number in range(len(raw.blocks))]
    jobs = [
        BlockJob(raw.blocks[number], settings, folder / "images.npy", offset, begins[number], record, earlier)
        for number, record in enumerate(records)
        if not record.exists()
    ]
    if jobs:
        _work(jobs, begins[-1], workers)
    for name, (dtype, lengths) in FACTS.items():
        pieces = (_loaded(record, name) for record in records)
        write_array(folder / f"{name}.npy", dtype, (begins[-1], *lengths), pieces)
    keys = keys_of_content(np.load(folder / "content.npy", mmap_mode="r"))
    order = np.argsort(keys, kind="stable")
    np.save(folder / "keys.npy", keys[order])
    np.save(folder / "order.npy", order)
    problems = {}
    for begin, record in zip(begins, records, strict=False):
        for place, problem in read_problems(record.with_suffix(".json")).items():
            problems[begin + place] = problem
    atomic.write_text(folder / "problems.json", json.dumps(problems))


def _allocate(path: Path, num_images: int, settings: Settings) -> int:
    """Make room for all images, and say where in the file the first one begins."""
    shape = (num_images, settings.size, settings.size, settings.channels)
    num_bytes = int(np.prod(shape, dtype=np.int64))
    free = shutil.disk_usage(path.parent).free
    if not path.exists() and num_bytes > free:
        raise _no_room(path.parent, num_images, settings, f"{free:,} are free")
    with path.open("r+b" if path.exists() else "w+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        offset = file.tell()
        file.truncate(offset + num_bytes)
    return offset


def _no_room(folder: Path, num_images: int, settings: Settings, found: str) -> DataError:
    num_bytes = num_images * settings.size**2 * settings.channels
    return DataError(
        f"{folder.parent} must have room for the {num_bytes:,} bytes of the decoded images; {found}. Free some space (`make "
        "clean-cache` removes what can be made again), or lower prepare.size."
    )


def _work(jobs: Sequence[BlockJob], num_images: int, workers: int | None) -> None:
    from joblib import delayed
    from joblib.externals.loky import get_reusable_executor
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False, soft_wrap=True)
    begin = time.perf_counter()
    left = sum(job.block.num_images for job in jobs)
    if left < num_images:
        console.print(f"prepare: {num_images - left:,} of {num_images:,} images were decoded before it was stopped")
    done, reused = jobs[0]()
    seconds = (time.perf_counter() - begin) * (left - done) / done
    workers = num_processes(workers, seconds, _WORKER_START_SECONDS)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("decode", total=left, completed=done, rate="")
        for num_block, num_reused in results((delayed(job)() for job in jobs[1:]), workers):
            done, reused = done + num_block, reused + num_reused
            bar.update(task, completed=done, rate=f"{done / (time.perf_counter() - begin):,.0f} images/s")
    if workers > 1:
        get_reusable_executor().shutdown()  # idle processes would keep their memory until the stage ends
    processes = "1 process" if workers == 1 or len(jobs) == 1 else f"{workers} processes"
    kept = f", {reused:,} of them known from another version of the data" if reused else ""
    console.print(f"prepare: {done:,} images in {time.perf_counter() - begin:.1f} s, {processes}{kept}")


def _loaded(record: Path, name: str) -> NDArray[Any]:
    with np.load(record, allow_pickle=False) as file:
        array: NDArray[Any] = file[name]
    return array
