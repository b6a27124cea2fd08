"""Decode mutated image files and tell of each that was decoded wrongly, crashed, took long or took much memory.

    make fuzz N=10000 SEED=0

With --folder each file is written there before it is decoded: the last one is that which ended the process, should one do so.
"""

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.decoding import decode, quiet_libraries
from pipeline.data.image_headers import BadImageError
from tests.mutations import Mutated, mutations

MAX_PIXELS = 16_000_000
MAX_SECONDS = 5.0
MAX_BYTES_PER_PIXEL = 25


def outcome(mutated: Mutated) -> tuple[str, str | None]:
    """Result of decoding one file, and the fault in it, if there is one."""
    begin = time.perf_counter()
    try:
        pixels = decode(mutated.data, MAX_PIXELS).pixels
        came, wrong = "decoded", "it must be refused, and was decoded" if mutated.must_fail else None
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
            wrong = f"its pixels have the shape {pixels.shape}"
    except BadImageError as error:
        came, wrong = error.problem, f"it is good, and was refused: {error}" if mutated.must_fail is False else None
    except Exception as error:
        came, wrong = "crashed", f"it raised {error!r}"
    seconds = time.perf_counter() - begin
    return came, wrong or (f"it took {seconds:.1f} s" if seconds > MAX_SECONDS else None)


def findings(seed: int, count: int, folder: Path | None = None, counts: Counter[str] | None = None) -> Iterator[str]:
    """A line for each file of `mutations(seed, count)` that was not treated as it should be."""
    for mutated in mutations(seed, count):
        if folder is not None:
            (folder / mutated.name).write_bytes(mutated.data)
        came, wrong = outcome(mutated)
        if counts is not None:
            counts[came] += 1
        if wrong is not None:
            yield f"{mutated.name} ({mutated.kind}): {wrong}"


def peak_bytes() -> int:
    """The most memory that this program ever held at a time."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would count what the process held before it became this program
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="an existing folder to keep the files in")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    begin, before = time.perf_counter(), peak_bytes()
    with quiet_libraries():
        found = list(findings(options.seed, options.count, options.folder, counts))
    seconds, grown = time.perf_counter() - begin, peak_bytes() - before
    if grown > MAX_BYTES_PER_PIXEL * MAX_PIXELS:
        found.append(
            f"memory grew by {grown:,} bytes, more than {MAX_BYTES_PER_PIXEL} for each of {MAX_PIXELS:,} pixels"
        )
    print(*found, sep="\n", end="\n" if found else "")
    outcomes = ", ".join(f"{number:,} {came}" for came, number in counts.most_common())
    print(f"{options.count:,} files of seed {options.seed}: {outcomes}; {len(found)} wrong")
    print(f"{seconds:.0f} s, {grown / 1e6:.0f} MB more memory than at the start")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
