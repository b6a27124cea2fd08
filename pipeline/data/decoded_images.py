"""Decodes every raw image once, to one size, and caches the result.

Finished blocks outlive a killed run. Images that an earlier version of the data held are copied instead of decoded again.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import image_formats
from pipeline.data.decoding_job import FACTS, DecodingJob, keys_of_content, read_problems
from pipeline.data.pixels import FULL_RANGE
from pipeline.data.preparation import Preprocessing
from pipeline.data.raw_dataset import RawDataset
from pipeline.errors import DamagedError, DataError
from pipeline.storage import atomic, checksums, lock
from pipeline.storage.arrays import read_array, reserved, write_array
from pipeline.storage.digests import digest, sha256
from pipeline.storage.processes import num_processes, results

Pixels = NDArray[np.uint8]

_WORKER_START_SECONDS = 2.0
"""Start of a process: the import of OpenCV, Pillow and SciPy."""

WHITE_LEVELS = (255, 1023, 4095, 16383, FULL_RANGE)
"""Largest values of 8, 10, 12, 14 and 16 bits."""

_PIPELINE = Path(__file__).resolve().parents[1]

_PIECE = 4096
"""Number of images that are read at a time."""


@dataclass(frozen=True)
class Facts:
    """Measurements of n images before they are fitted; zeros where one cannot be decoded.

    Attributes:
        content: SHA-256 of the encoded bytes, or of the pixels where the source holds pixels; uint8 of shape (n, 32).
        shape: Height, width and channels; int32 of shape (n, 3).
        num_bytes: Size of the encoded image; int64 of shape (n,).
        peak: Largest value of an image of more than 8 bits that does not tell which value is white; 0 for others.
        inverted: 1 for an image that stores white as 0.
        white_drawing: 1 for a white drawing on transparency, which was put on black.
        spread: Standard deviation of the pixels, of a subset in large images, in [0, 255]; float32 of shape (n,).
        signature: Thumbnail and size, from `pipeline.data.near_duplicates.signature`; uint8 of shape (n, length), mapped.
        problems: Problem and evidence of the images that cannot be decoded, by their index.
    """

    content: Pixels
    shape: NDArray[np.int32]
    num_bytes: NDArray[np.int64]
    peak: NDArray[np.float32]
    inverted: NDArray[np.uint8]
    white_drawing: NDArray[np.uint8]
    spread: NDArray[np.float32]
    signature: Pixels
    problems: dict[int, tuple[str, str]]


@dataclass(frozen=True)
class DecodedImages:
    """All decoded images of a dataset, in the order of its blocks; `folder` holds their arrays."""

    folder: Path

    @cached_property
    def facts(self) -> Facts:
        arrays = {name: read_array(self.folder / f"{name}.npy") for name in FACTS}
        return Facts(**arrays, problems=read_problems(self.folder / "problems.json"))

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        return read_array(self.folder / "images.npy").shape[1:]

    def pieces(self, rows: NDArray[np.int64]) -> Iterator[Pixels]:
        """Read the images of `rows` in that order, a few at a time: uint8 of shape (k, size, size, channels).

        Each image is read by itself: a memory map would keep the pages around it in memory.
        """
        images = read_array(self.folder / "images.npy")
        assert isinstance(images, np.memmap)
        shape, offset, num_bytes = images.shape[1:], images.offset, images[:1].nbytes
        with (self.folder / "images.npy").open("rb", buffering=0) as file:
            for begin in range(0, len(rows), _PIECE):
                piece = np.empty((len(rows[begin : begin + _PIECE]), *shape), np.uint8)
                for image, row in zip(piece, rows[begin : begin + _PIECE].tolist(), strict=True):
                    file.seek(offset + row * num_bytes)
                    file.readinto(image.data)
                yield piece

    def marks(self) -> NDArray[np.bytes_]:
        """Digest of each image's signature, which depends neither on its name nor on its format."""
        marks = np.empty(len(self.facts.spread), dtype="S32")
        for begin in range(0, len(marks), _PIECE):
            rows = np.ascontiguousarray(read_array(self.folder / "signature.npy")[begin : begin + _PIECE])
            marks[begin : begin + _PIECE] = [hashlib.sha256(row).hexdigest()[:32].encode() for row in rows]
        return marks

    def first_copies(self, marks: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """For each image, the index of the first one with the same fitted pixels and the same shape before.

        Only images with equal digests from `marks` are compared.
        """
        first = np.arange(len(marks))
        _, number, count = np.unique(marks, return_inverse=True, return_counts=True)
        rows = np.flatnonzero(count[number] > 1)
        seen: dict[tuple[bytes, bytes], int] = {}
        row_numbers = iter(rows.tolist())
        for piece in self.pieces(rows):
            for image in piece:
                row = next(row_numbers)
                first[row] = seen.setdefault((bytes(marks[row]), hashlib.sha256(image.data).digest()), row)
        return first


def decode_at_white_level(
    raw: RawDataset, how: Preprocessing, max_pixels: int, cache: Path, workers: int | None
) -> tuple[DecodedImages, Preprocessing]:
    """Decode all images, and find the level of white of those of more than 8 bits, where none is given.

    It is the least of `WHITE_LEVELS` that no value of the dataset exceeds.

    Returns:
        The images, and what was done to them; its level of white is None where no image needs one.

    Raises:
        DataError: The disk is full.
    """
    decoded = decode_all(raw, how, max_pixels, cache, workers)
    peak = float(decoded.facts.peak.max(initial=0))
    if peak == 0 or how.white_level_given:
        return decoded, how
    found = replace(how, white_level=next((level for level in WHITE_LEVELS if level >= peak), FULL_RANGE))
    return decoded if found.white_level == FULL_RANGE else decode_all(raw, found, max_pixels, cache, workers), found


def decode_all(raw: RawDataset, how: Preprocessing, max_pixels: int, cache: Path, workers: int | None) -> DecodedImages:
    """Decode the images that the cache does not hold yet, into a folder in it that is named by a digest of its inputs.

    `workers` is the number of processes; None: as many as save time, at most one for each core.

    Raises:
        DataError: The disk is full.
    """
    decoder = _decoder(how, max_pixels)
    folder = cache / f"decoded-{digest([decoder, _file_digests(raw)])}"
    with lock.held(folder, wait=True):
        if (folder / checksums.SUMS).exists() and not checksums.is_whole(folder):
            print(f"prepare: {folder} is damaged; its images are decoded again")
            shutil.rmtree(folder)
        if not (folder / checksums.SUMS).exists():
            _decode_blocks(raw, how, max_pixels, folder, _earlier(cache, decoder), workers)
            atomic.write_text(folder / "about.json", json.dumps({"decoder": decoder}))
            shutil.rmtree(folder / "blocks")
            checksums.seal(folder)  # last: a folder counts as whole once it has checksums
        os.utime(folder)
    return DecodedImages(folder)


def _file_digests(raw: RawDataset) -> list[tuple[str, str, int]]:
    """The class of each block, the SHA-256 of its file, and its number of images."""
    digests = {path: sha256(path) for path in {block.path for block in raw.blocks}}
    return [(type(block).__name__, digests[block.path], block.num_images) for block in raw.blocks]


MODULES = (
    "data/decoding", "data/decoding_job", "data/dicom_files", "data/image_headers", "data/near_duplicates", "data/pixels",
    "data/preparation", "data/transparency", "data/wide_samples", "image_formats",
)  # fmt: skip
"""Modules that the decoded images depend on."""


def _decoder(how: Preprocessing, max_pixels: int) -> str:
    """Digest of everything but the data that the result depends on."""
    sources = [(_PIPELINE / f"{module}.py").read_text(encoding="utf-8") for module in MODULES]
    versions = [version(name) for name in ("numpy", "opencv-python-headless", "pillow", *_extras())]
    return digest([asdict(how), max_pixels, sources, versions])


def _extras() -> list[str]:
    """Packages of the extras that are installed here."""
    return [package for extra, package in image_formats.EXTRAS.items() if image_formats.is_installed(extra)]


def _earlier(cache: Path, decoder: str) -> Path | None:
    """Folder that the same decoder filled last from other data, such as an earlier version of them."""
    candidates = []
    for sums in cache.glob(f"decoded-*/{checksums.SUMS}"):
        with suppress(OSError, DamagedError):
            if json.loads(checksums.read_text(sums.with_name("about.json")))["decoder"] == decoder:
                candidates.append((sums.parent.stat().st_mtime, sums.parent))
    return next((folder for _, folder in sorted(candidates, reverse=True) if checksums.is_whole(folder)), None)


def _decode_blocks(
    raw: RawDataset, how: Preprocessing, max_pixels: int, folder: Path, earlier: Path | None, workers: int | None
) -> None:
    begins = np.cumsum([0, *(block.num_images for block in raw.blocks)]).tolist()
    (folder / "blocks").mkdir(parents=True, exist_ok=True)
    records = [folder / "blocks" / f"{number:06d}.npz" for number in range(len(raw.blocks))]
    images, shape = folder / "images.npy", (begins[-1], how.size, how.size, how.channels)

    def no_room(cause: str) -> DataError:
        return DataError(
            f"{folder.parent} must have room for the {np.prod(shape, dtype=np.int64):,} bytes of the decoded images; {cause}. "
            "Free some space (`make clean-cache` removes what can be made again), or lower prepare.size."
        )

    with reserved(images, shape, no_room) as offset:
        jobs = [
            DecodingJob(block, how, max_pixels, images, offset, begin, record, earlier)
            for block, begin, record in zip(raw.blocks, begins, records, strict=False)
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
            for index, problem in read_problems(record.with_suffix(".json")).items():
                problems[begin + index] = problem
        atomic.write_text(folder / "problems.json", json.dumps(problems))


def _work(jobs: Sequence[DecodingJob], num_images: int, workers: int | None) -> None:
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
    columns = (
        TextColumn("decode"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
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
    with checksums.reading(record), np.load(record, allow_pickle=False) as file:
        return file[name]
