"""Measures the speed and the memory of `prepare`: images/s with one process and with two, against a bare loop.

    python benchmarks/prepare.py                                  20,000 JPEG files of 96×96, brought to 64×64
    python benchmarks/prepare.py --images 1000000 --side 32 --size 32 --scale      one pass on all cores: rate and memory

The images are generated and packed as `fetch` packs them. The bare loop reads the same Parquet files and calls OpenCV's
`imdecode` and `resize` in one process, and does nothing else: no checks, no hashes, no search for near duplicates. The
memory is that of all processes together, looked at ten times a second.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline.artefacts.source import SourceRecord

PROJECT = Path(__file__).resolve().parents[1]
PER_FILE, PER_GROUP = 50_000, 1000
NUM_CLASSES = 10

PREPARE = """
import sys, time
from pathlib import Path
from pipeline.config.composition import compose
from pipeline.prepare import prepare
project, source, out = map(Path, sys.argv[1:4])
settings = [f"prepare.{setting}" for setting in sys.argv[4:]]
config = compose(project / "conf", project / "params.yaml", settings)
out.mkdir()
begin = time.perf_counter()
prepare(source, config.prepare, out, out.parent / "cache")
print("SECONDS", time.perf_counter() - begin)
"""


def encoded(number: int, side: int, kind: str) -> Iterator[bytes]:
    """Smooth noise, each image its own."""
    generator = np.random.default_rng(0)
    for _ in range(number):
        small = generator.integers(0, 256, (max(2, side // 8), max(2, side // 8), 3), np.uint8)
        yield bytes(cv2.imencode(kind, cv2.resize(small, (side, side)))[1])


def write(folder: Path, number: int, side: int, kind: str) -> None:
    schema = pa.schema([
        ("path", pa.string()), ("label", pa.string()), ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ])  # fmt: skip
    images = encoded(number, side, kind)
    done = 0
    for file in range(-(-number // PER_FILE)):
        with pq.ParquetWriter(folder / f"images-{file:02d}.parquet", schema, compression="none") as writer:
            while done < min(number, (file + 1) * PER_FILE):
                count = min(PER_GROUP, number - done)
                rows = [
                    {
                        "path": f"{k % NUM_CLASSES}/{k:07d}{kind}",
                        "label": str(k % NUM_CLASSES),
                        "image": {"bytes": next(images)},
                    }
                    for k in range(done, done + count)
                ]
                writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=PER_GROUP)
                done += count
    SourceRecord(
        name="generated", layout="parquet", found=None, asked=None, parts=None, columns=None, classes=None, licence="none",
        source="generated", files={},
    ).write(folder)  # fmt: skip


def bare(folder: Path, size: int) -> float:
    """Seconds of the bare loop."""
    cv2.setNumThreads(1)
    begin = time.perf_counter()
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(file.metadata.num_row_groups):
                for value in file.read_row_group(group, columns=["image"])["image"].to_pylist():
                    image = cv2.imdecode(np.frombuffer(value["bytes"], np.uint8), cv2.IMREAD_COLOR_RGB)
                    cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return time.perf_counter() - begin


def prepared(folder: Path, size: int, workers: int) -> tuple[float, float, float]:
    """Seconds in all, seconds of decoding, and the largest memory of all processes together in MB."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [sys.executable, "-c", PREPARE, str(PROJECT), str(folder), f"{scratch}/out"]
        command += [f"size={size}", f"workers={workers}", "fit=stretch"]
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        watched, most = psutil.Process(process.pid), 0.0
        while process.poll() is None:
            most = max(most, resident(watched))
            time.sleep(0.1)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode != 0:
        raise SystemExit(output)
    words = output.split()
    return float(words[words.index("SECONDS") + 1]), float(words[words.index("images") + 2]), most


def resident(process: psutil.Process) -> float:
    total = 0.0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss / 1e6
    except psutil.Error:  # it has just ended
        pass
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=96, help="pixels of the files")
    parser.add_argument("--size", type=int, default=64, help="pixels afterwards")
    parser.add_argument("--kind", default=".jpg", help="an ending that OpenCV can write")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--scale", action="store_true", help="one pass with all cores, no bare loop")
    parser.add_argument(
        "--scratch", type=Path, help="where the images are generated; default: the system's temporary folder"
    )
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(dir=options.scratch))
    try:
        folder = scratch / "data"
        folder.mkdir()
        write(folder, options.images, options.side, options.kind)
        table = Table("what", "images/s", "in all, s", "memory, MB", title=f"{options.images:,} images")
        if options.scale:
            seconds, decoding, most = prepared(folder, options.size, psutil.cpu_count() or 1)
            table.add_row("prepare, all cores", f"{options.images / decoding:,.0f}", f"{seconds:.0f}", f"{most:,.0f}")
        else:
            ratios, gains = [], []
            for _ in range(options.turns):
                alone = bare(folder, options.size)
                one, decoding_one, most_one = prepared(folder, options.size, 1)
                two, decoding_two, most_two = prepared(folder, options.size, 2)
                ratios.append(decoding_one / alone)
                gains.append(decoding_one / decoding_two)
            table.add_row("bare loop", f"{options.images / alone:,.0f}", "", "")
            table.add_row(
                "prepare, 1 process", f"{options.images / decoding_one:,.0f}", f"{one:.1f}", f"{most_one:,.0f}"
            )
            table.add_row(
                "prepare, 2 processes", f"{options.images / decoding_two:,.0f}", f"{two:.1f}", f"{most_two:,.0f}"
            )
            table.caption = (
                f"seconds of decoding over the bare loop: {statistics.median(ratios):.2f}; "
                f"of one process over two: {statistics.median(gains):.2f} (medians of {options.turns} turns)"
            )
        Console().print(table)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
