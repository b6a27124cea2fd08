"""Images per second from the bytes of a file to one size, against a bare loop of OpenCV's imdecode and resize.

    python benchmarks/decoding.py [--rounds 21] [--fit stretch]

Both decode the same files in one thread, in turns, so that the machine's other load hits both; the ratio of each turn is
what counts. The files are made here: smooth colours with some noise, which JPEG and PNG pack about as well as photographs.
The bare loop looks at nothing: no size, no missing end, no rotation but what OpenCV does itself, and colours as BGR.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.data.decoding import decode
from pipeline.data.pixels import fit_image

MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and the size that they are brought to."""

    name: str
    extension: str
    height: int
    width: int
    channels: int
    size: int
    count: int


KINDS = (
    Kind("JPEG 96×96", ".jpg", 96, 96, 3, 64, 600),
    Kind("JPEG 500×400", ".jpg", 400, 500, 3, 224, 60),
    Kind("PNG 32×32", ".png", 32, 32, 3, 32, 1500),
    Kind("PNG 32×32 grey", ".png", 32, 32, 1, 32, 3000),
)


def make_files(kind: Kind) -> list[bytes]:
    generator = np.random.default_rng(0)
    files = []
    for _ in range(kind.count):
        coarse = generator.integers(0, 256, (kind.height // 12 + 2, kind.width // 12 + 2, kind.channels), np.uint8)
        smooth = cv2.resize(coarse, (kind.width, kind.height), interpolation=cv2.INTER_CUBIC)
        image = smooth // 8 * 7 + generator.integers(0, 16, smooth.shape, np.uint8)
        files.append(cv2.imencode(kind.extension, image)[1].tobytes())
    return files


def bare(files: list[bytes], kind: Kind) -> None:
    flag = cv2.IMREAD_COLOR if kind.channels == 3 else cv2.IMREAD_GRAYSCALE
    for data in files:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        cv2.resize(image, (kind.size, kind.size), interpolation=cv2.INTER_AREA)


def ours(files: list[bytes], kind: Kind, fit: str) -> None:
    for data in files:
        fit_image(decode(data, MAX_PIXELS).pixels, kind.size, fit)


def seconds(work: Callable[..., None], *arguments: object) -> float:
    begin = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--fit", choices=["pad", "crop", "stretch"], default="stretch")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    print(f"median of {options.rounds} turns, and the quarters of their ratios; fit: {options.fit}")
    print(f"{'files':16}{'size':>6}{'bytes':>9}{'bare loop':>13}{'goodfit':>13}{'ratio':>8}")
    for kind in KINDS:
        files = make_files(kind)
        turns = [
            (seconds(bare, files, kind), seconds(ours, files, kind, options.fit)) for _ in range(options.rounds + 1)
        ][1:]  # the first warms up
        rates = [len(files) / statistics.median(column) for column in zip(*turns, strict=True)]
        low, ratio, high = statistics.quantiles([theirs / own for theirs, own in turns], n=4)
        mean_bytes = sum(map(len, files)) / len(files)
        print(
            f"{kind.name:16}{kind.size:6}{mean_bytes:9,.0f}{rates[0]:11,.0f}/s{rates[1]:11,.0f}/s{ratio:8.3f}   "
            f"[{low:.3f}, {high:.3f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
