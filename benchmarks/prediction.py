"""Images per second of `predict` on a folder of JPEG files, against a bare loop of OpenCV and ONNX Runtime.

    python benchmarks/prediction.py [--model build/package] [--rounds 15] [--threads 2]     speed, in interleaved pairs
    python benchmarks/prediction.py --first [--rounds 15]                                   seconds until one image's answer
    python benchmarks/prediction.py --memory 500 20000                                      memory by the number of files

The bare loop reads a file, decodes it with OpenCV, resizes it and runs the network, 64 images at a time, with the same number
of threads for decoding and for ONNX Runtime. It looks at nothing: no size, no damage, no calibration, no table. The files are
made here: smooth colours with some noise, which JPEG packs about as well as photographs. A pair is run in turns, so that the
machine's other load hits both; the ratio of each pair is what counts. `--first` and `--memory` start the command itself.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from pipeline.delivery import Classifier, tables
from pipeline.delivery.inputs import Inputs

ROOT = Path(__file__).resolve().parents[1]
BATCH = 64
SIDES = ((120, 96, 3000), (640, 480, 400))
"""Width and height of the files, and their number."""


def make_files(folder: Path, width: int, height: int, count: int) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = []
    for place in range(count):
        coarse = generator.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) // 8 * 7
        image += generator.integers(0, 16, image.shape, np.uint8)
        paths.append(folder / f"{place:06d}.jpg")
        paths[-1].write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    return paths


def bare(paths: list[Path], session: onnxruntime.InferenceSession, size: int, channels: int, threads: int) -> float:
    def pixels(path: Path) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        if channels == 1:  # as `prepare` does it; IMREAD_GRAYSCALE would be faster, and give other values
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).reshape(size, size, channels)

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.map(pixels, paths[first : first + BATCH]) for first in range(0, len(paths), BATCH)]
        for images in waiting:
            session.run(None, {"images": np.stack(list(images))})
    return time.perf_counter() - begin


def ours(folder: Path, classifier: Classifier) -> float:
    from contextlib import ExitStack

    begin = time.perf_counter()
    with ExitStack() as stack, open(os.devnull, "wb") as sink:
        write = stack.enter_context(tables.writer("csv", sink, classifier.classes, None, 100))
        for batch in classifier.stream(Inputs([str(folder)], stack, folder / "scratch")):
            write(classifier.answers(batch))
    return time.perf_counter() - begin


def speed(model: Path, rounds: int, threads: int) -> None:
    cv2.setNumThreads(1)
    classifier = Classifier.load(model, threads)
    how = classifier.package.preprocessing
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(classifier.package.model, options, providers=["CPUExecutionProvider"])
    print(
        f"{classifier.package.manifest.model} at {how.size}×{how.size}×{how.channels}; {threads} threads; {rounds} pairs"
    )
    print(f"{'files':>18}{'bare loop':>14}{'predict':>14}{'ratio':>8}   quartiles")
    for width, height, count in SIDES:
        with tempfile.TemporaryDirectory() as name:
            paths = make_files(Path(name), width, height, count)
            pairs = []
            for turn in range(rounds + 1):
                first_bare = turn % 2 == 0
                a = bare(paths, session, how.size, how.channels, threads) if first_bare else 0.0
                b = ours(Path(name), classifier)
                pairs.append((a or bare(paths, session, how.size, how.channels, threads), b))
        pairs = pairs[1:]  # the first warms up
        rates = [count / statistics.median(column) for column in zip(*pairs, strict=True)]
        low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
        print(
            f"{count:6,} of {width}×{height}{rates[0]:11,.0f}/s{rates[1]:12,.0f}/s{middle:8.3f}   [{low:.3f}, {high:.3f}]"
        )


def command(model: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.predict", *arguments, "--model", str(model)]


def first(model: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        [path] = make_files(Path(name), 640, 480, 1)
        seconds = []
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            subprocess.run(command(model, str(path)), cwd=ROOT, check=True, capture_output=True)
            seconds.append(time.perf_counter() - begin)
    low, middle, high = statistics.quantiles(seconds[1:], n=4)
    print(f"one image in a fresh process: {middle:.2f} s, quartiles [{low:.2f}, {high:.2f}], least {min(seconds):.2f}")


def memory(model: Path, counts: list[int]) -> None:
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            make_files(Path(name), 64, 64, count)
            process = subprocess.Popen(command(model, name, "--out", f"{name}.csv"), cwd=ROOT, stderr=subprocess.PIPE)
            _, status, usage = os.wait4(process.pid, 0)
            assert process.stderr is not None and status == 0, process.stderr.read().decode()
            said = process.stderr.read().decode().strip()
            process.returncode = status
            process.stderr.close()
            Path(f"{name}.csv").unlink()
        print(f"{count:7,} files: at most {usage.ru_maxrss / 1024:.0f} MiB; {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "build" / "package")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--memory", type=int, nargs="*")
    options = parser.parse_args()
    if options.memory is not None:
        memory(options.model, options.memory or [500, 20_000])
    elif options.first:
        first(options.model, options.rounds)
    else:
        speed(options.model, options.rounds, options.threads)


if __name__ == "__main__":
    main()
