"""Image files packed, byte for byte, into a few Parquet files, as the Hugging Face hub stores images.

DVC hashes and links a few large files in a moment and 100,000 small ones in minutes. A file goes into a shard by the hash of
its path, so that a new or changed image changes one shard, and DVC stores that one alone anew.
"""

import csv
import hashlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.source.files import DamagedError, Skipped, Tree, read
from pipeline.source.layout import Row, spelled
from pipeline.storage.atomic import room_for

SHARD_BYTES = 128 << 20
MAX_SHARDS = 64
ROW_GROUP_BYTES, ROW_GROUP_IMAGES = 4 << 20, 1000
"""Of each shard in memory: what has not been written of it yet. No other shard decides when, or one change would move all."""
AHEAD_BYTES = 64 << 20
"""Of files that are read before it is their turn."""


def pack(tree: Tree, rows: Sequence[Row], out: Path, max_file_bytes: int, max_bytes: int) -> list[Skipped]:
    """Write the images of `rows` to `out/images-00.parquet` and so on.

    Args:
        tree: Where they are.
        rows: Which, in the order in which the source is best read.
        out: An existing folder.
        max_file_bytes: A larger file is left out.
        max_bytes: Of all images; more is refused.

    Returns:
        The files that were left out.

    Raises:
        DataError: The images are larger than `max_bytes` together, or none can be read, or the disk is full.
    """
    skipped = []
    announced = sum(row.entry.size for row in rows if row.entry.size <= max_file_bytes)
    _check_total(announced, max_bytes)
    num_shards = 1
    while num_shards < MAX_SHARDS and announced > num_shards * SHARD_BYTES:
        num_shards *= 2
    total = 0
    with _progress(len(rows)) as advance, _Shards(out, num_shards, announced) as shards:
        for row, data in _read_ahead(tree, rows, max_file_bytes):
            advance()
            if isinstance(data, Skipped):
                skipped.append(data)
                continue
            total += len(data)
            _check_total(total, max_bytes)
            shards.add(row, data)
    if len(skipped) == len(rows):
        raise DataError(
            f"data.source must hold images that can be read; none of {len(rows):,} can: {skipped[0].path}: "
            f"{skipped[0].evidence}."
        )
    return skipped


def _read_ahead(tree: Tree, rows: Sequence[Row], max_file_bytes: int) -> Iterator[tuple[Row, bytes | Skipped]]:
    """The bytes of each image in turn, or why it is left out; as many are read at once as the source is best read."""
    if tree.num_readers == 1:
        yield from ((row, _read(tree, row, max_file_bytes)) for row in rows)
        return
    waiting: deque[tuple[Row, Future[bytes | Skipped]]] = deque()
    with ThreadPoolExecutor(tree.num_readers) as readers:
        try:
            for row in rows:
                waiting.append((row, readers.submit(_read, tree, row, max_file_bytes)))
                while len(waiting) > 2 * tree.num_readers or sum(row.entry.size for row, _ in waiting) > AHEAD_BYTES:
                    first, data = waiting.popleft()
                    yield first, data.result()
            while waiting:
                first, data = waiting.popleft()
                yield first, data.result()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)


def _read(tree: Tree, row: Row, max_file_bytes: int) -> bytes | Skipped:
    if row.entry.size > max_file_bytes:
        evidence = f"{row.entry.size:,} bytes, more than data.max_file_megabytes={max_file_bytes / 1e6:g}"
        return Skipped(row.entry.path, "too_large", evidence)
    try:
        return read(tree, row.entry, max_file_bytes)
    except DamagedError as error:
        return Skipped(row.entry.path, "damaged", str(error))


def _check_total(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise DataError(
            f"the images of data.source must be at most {max_bytes / 1e9:g} GB together; they are more. Raise "
            "data.max_gigabytes if they are meant to be."
        )


def write_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    """Write what was left out, and why, as CSV."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "problem", "evidence"])
        writer.writerows(
            [each.path, each.problem, each.evidence] for each in sorted(skipped, key=lambda each: each.path)
        )


class _Shards:
    """Parquet files that grow side by side."""

    def __init__(self, out: Path, number: int, num_bytes: int) -> None:
        import pyarrow as pa

        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        texts = [(name, pa.string()) for name in ("path", "label", "split", "group")]
        self._schema = pa.schema([*texts, ("image", image)])
        self._paths = [out / f"images-{place:02d}.parquet" for place in range(number)]
        self._rows: list[list[dict[str, Any]]] = [[] for _ in range(number)]
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
            for place in range(len(self._paths)):
                self._flush(place)
        return self._stack.__exit__(*error)

    def add(self, row: Row, data: bytes) -> None:
        first = int.from_bytes(hashlib.sha256(row.entry.path.encode("utf-8", "surrogateescape")).digest()[:4], "big")
        place = first * len(self._paths) >> 32
        path = spelled(row.entry.path)
        columns = {"path": path, "label": row.label, "split": row.split or None, "group": row.group or None}
        self._rows[place].append({**columns, "image": {"bytes": data, "path": path}})
        self._bytes[place] += len(data)
        if self._bytes[place] >= ROW_GROUP_BYTES or len(self._rows[place]) >= ROW_GROUP_IMAGES:
            self._flush(place)

    def _flush(self, place: int) -> None:
        import pyarrow as pa

        if self._rows[place]:
            self._writers[place].write_table(pa.Table.from_pylist(self._rows[place], self._schema))
        self._rows[place], self._bytes[place] = [], 0


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Gives a function to call for each file; shows their number, the rate and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False)
    columns = (
        TextColumn("pack"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
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
