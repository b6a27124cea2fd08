"""Packs image files, byte for byte, into a few Parquet files, as the Hugging Face hub stores images.

DVC hashes and links a few large files in a moment and 100,000 small ones in minutes. A file goes into a shard by the hash of
its path, so that a new or changed image changes one shard, and DVC stores that one alone anew.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.image_formats import HEAD, extra_for, is_installed
from pipeline.source.files import DamagedError, Skipped, Tree, read
from pipeline.source.layout import LabelledFile, as_utf8
from pipeline.storage.atomic import room_for
from pipeline.storage.tables import write_csv

SHARD_BYTES = 128 << 20
MAX_SHARDS = 64
ROW_GROUP_BYTES, ROW_GROUP_IMAGES = 4 << 20, 1000
"""Limits of a row group. Each shard counts its own, so that a change of one shard leaves the others' bytes as they are."""
AHEAD_BYTES = 64 << 20
"""Limit for files that are read ahead."""


def pack(tree: Tree, images: Sequence[LabelledFile], out: Path, max_file_bytes: int, max_bytes: int) -> list[Skipped]:
    """Write images to `out/images-00.parquet` and so on, and return those left out, such as any above `max_file_bytes`.

    Raises:
        DataError: The images are larger than `max_bytes` together, or none can be read, or the disk is full.
    """
    skipped = []
    announced = sum(image.entry.size for image in images if image.entry.size <= max_file_bytes)
    _check_total(announced, max_bytes)
    num_shards = 1
    while num_shards < MAX_SHARDS and announced > num_shards * SHARD_BYTES:
        num_shards *= 2
    total = 0
    with _progress(len(images)) as advance, _Shards(out, num_shards, announced) as shards:
        for image, data in _read_ahead(tree, images, max_file_bytes):
            advance()
            if isinstance(data, Skipped):
                skipped.append(data)
                continue
            total += len(data)
            _check_total(total, max_bytes)
            shards.add(image, data)
    if len(skipped) == len(images):
        raise DataError(
            f"data.source must hold images that can be read; none of {len(images):,} can: {skipped[0].path}: "
            f"{skipped[0].evidence}."
        )
    return skipped


def _read_ahead(
    tree: Tree, images: Sequence[LabelledFile], max_file_bytes: int
) -> Iterator[tuple[LabelledFile, bytes | Skipped]]:
    """The bytes of each image in order, or why it is left out; `tree.num_readers` images are read at once."""
    if tree.num_readers == 1:
        yield from ((image, _read(tree, image, max_file_bytes)) for image in images)
        return
    waiting: deque[tuple[LabelledFile, Future[bytes | Skipped]]] = deque()
    with ThreadPoolExecutor(tree.num_readers) as readers:
        try:
            for image in images:
                waiting.append((image, readers.submit(_read, tree, image, max_file_bytes)))
                while len(waiting) > 2 * tree.num_readers or sum(file.entry.size for file, _ in waiting) > AHEAD_BYTES:
                    first, data = waiting.popleft()
                    yield first, data.result()
            yield from ((first, data.result()) for first, data in waiting)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)


def _read(tree: Tree, image: LabelledFile, max_file_bytes: int) -> bytes | Skipped:
    if image.entry.size > max_file_bytes:
        evidence = f"{image.entry.size:,} bytes, more than data.max_file_megabytes={max_file_bytes / 1e6:g}"
        return Skipped(image.entry.path, "too_large", evidence)
    try:
        data = read(tree, image.entry, max_file_bytes)
        extra = extra_for(data[:HEAD])
        if extra is not None and not is_installed(extra):  # of any name; `without_unread` goes by names
            return Skipped(image.entry.path, "unread_format", f"its content needs `pip install -e .[{extra}]`")
        return data
    except DamagedError as error:
        return Skipped(image.entry.path, "damaged", str(error))


def _check_total(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise DataError(
            f"the images of data.source must be at most {max_bytes / 1e9:g} GB together; they are more. Raise "
            "data.max_gigabytes if they are meant to be."
        )


def write_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    """Write a CSV file with the files that were left out."""
    rows = (astuple(file) for file in sorted(skipped, key=lambda file: file.path))
    write_csv(path, ("path", "problem", "evidence"), rows)


class _Shards:
    """Writes Parquet files side by side."""

    def __init__(self, out: Path, number: int, num_bytes: int) -> None:
        import pyarrow as pa

        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        texts = [(name, pa.string()) for name in ("path", "label", "split", "group")]
        self._schema = pa.schema([*texts, ("image", image)])
        self._paths = [out / f"images-{shard:02d}.parquet" for shard in range(number)]
        self._rows: list[list[dict[str, object]]] = [[] for _ in range(number)]
        self._bytes = [0] * number
        self._num_bytes = num_bytes
        self._stack = ExitStack()

    def __enter__(self) -> "_Shards":
        import pyarrow.parquet as pq

        self._stack.enter_context(room_for(self._paths[0], self._num_bytes))
        self._writers = [
            self._stack.enter_context(
                pq.ParquetWriter(path, self._schema, compression="none", use_dictionary=["label", "split", "group"])
            )
            for path in self._paths
        ]
        return self

    def __exit__(self, *error: Any) -> bool | None:
        if error[0] is None:
            for shard in range(len(self._paths)):
                self._flush(shard)
        return self._stack.__exit__(*error)

    def add(self, image: LabelledFile, data: bytes) -> None:
        digest = hashlib.sha256(image.entry.path.encode("utf-8", "surrogateescape")).digest()
        shard = int.from_bytes(digest[:4], "big") * len(self._paths) >> 32
        path = as_utf8(image.entry.path)
        columns = {"path": path, "label": image.label, "split": image.split or None, "group": image.group or None}
        self._rows[shard].append({**columns, "image": {"bytes": data, "path": path}})
        self._bytes[shard] += len(data)
        if self._bytes[shard] >= ROW_GROUP_BYTES or len(self._rows[shard]) >= ROW_GROUP_IMAGES:
            self._flush(shard)

    def _flush(self, shard: int) -> None:
        import pyarrow as pa

        if self._rows[shard]:
            self._writers[shard].write_table(pa.Table.from_pylist(self._rows[shard], self._schema))
        self._rows[shard], self._bytes[shard] = [], 0


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show the number of files, the rate and the time left, and give a function to call for each file."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False)
    columns = (
        TextColumn("pack"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    begin, done = time.perf_counter(), 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("pack", total=total, rate="")

        def advance() -> None:
            nonlocal done
            done += 1
            if done % 100 == 0 or done == total:
                rate = done / max(1e-9, time.perf_counter() - begin)
                progress.update(task, completed=done, rate=f"{rate:,.0f} files/s")

        yield advance
