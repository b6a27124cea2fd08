"""Classify images with a package: labels, calibrated probabilities, sets of classes, and "unknown" where nothing fits.

Command: python -m pipeline.predict photos                                    a folder, with the package in build/package
         python -m pipeline.predict shoe.jpg bag.png --model model.zip        files, with another package
         python -m pipeline.predict photos.zip --out answers.parquet          an archive, into a file
         find photos -name '*.jpg' -print0 | python -m pipeline.predict -0 -  what another program lists
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import get_terminal_size
from typing import IO, Protocol

from pipeline.delivery import tables
from pipeline.delivery.classifier import Batch, Classifier
from pipeline.delivery.decisions import Wishes
from pipeline.delivery.inputs import STDIN, Inputs
from pipeline.errors import ConfigError, DataError
from pipeline.stage.program import as_program
from pipeline.storage import atomic
from pipeline.terminal import WIDTH_COLUMNS, libraries_kept_quiet, progress_beside
from pipeline.tracking.addresses import package_of
from pipeline.views import VIEWS

UNREADABLE = 3
"""Exit code where an image could not be read; 1 is that of an error, 2 that of a wrong command line."""

PIPE_CLOSED = 141
"""Exit code where the program that reads the answers has ended, as a shell gives it for SIGPIPE."""

HEAT_MAPS = ("occlusion", "gradcam")


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify what the command line names, write the answers, and return the exit code."""
    options = _parser().parse_args(arguments)
    wishes = _wishes(options)
    kind = tables.format_of(options.format, options.out, sys.stdout.isatty())
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="predict-")))
        classifier = Classifier.load(package_of(options.model, scratch), options.threads)
        wishes.check(classifier.classes)
        inputs = Inputs(
            options.paths, stack, scratch / "inputs", stdin=sys.stdin.buffer if STDIN in options.paths else None,
            separator=b"\0" if options.null else b"\n", max_bytes=int(options.max_gigabytes * 1e9),
        )  # fmt: skip
        stack.enter_context(libraries_kept_quiet())
        watchers = _watchers(classifier, options)
        try:
            counts = _classify(classifier, inputs, wishes, options, kind, watchers)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains at its end
            return PIPE_CLOSED
        if left_out := inputs.summary():
            print(left_out, file=sys.stderr)
        print(counts, file=sys.stderr)
        for watcher in watchers:
            watcher.finish()
    return UNREADABLE if counts.unreadable else 0


class Watcher(Protocol):
    """Sees each batch, and tells afterwards what it has seen."""

    def add(self, batch: Batch) -> None:
        """See a batch."""

    def finish(self) -> None:
        """Tell what was seen."""


class Counts:
    """Number of images so far, of those unknown and of those that could not be read, and the time that they took."""

    def __init__(self) -> None:
        self.images = self.unknown = self.unreadable = 0
        self._begin = time.perf_counter()

    def add(self, batch: Batch) -> None:
        self.images += len(batch.names)
        self.unreadable += sum(error is not None for error in batch.errors)
        if batch.decisions is not None and batch.decisions.unknown is not None:
            self.unknown += int(batch.decisions.unknown.sum())

    def __str__(self) -> str:
        seconds = time.perf_counter() - self._begin
        rate = f"{seconds:.1f} s ({self.images / seconds:,.0f} images/s)"
        noun = "image" if self.images == 1 else "images"
        return f"{self.images:,} {noun} in {rate}: {self.unknown:,} unknown, {self.unreadable:,} unreadable"


def _classify(
    classifier: Classifier, inputs: Inputs, wishes: Wishes, options: argparse.Namespace, kind: str, watchers: "list[Watcher]"
) -> Counts:  # fmt: skip
    """Write the answers for all images, and show them to the watchers."""
    width = get_terminal_size().columns if sys.stdout.isatty() and options.out is None else WIDTH_COLUMNS
    counts = Counts()
    with ExitStack() as stack:
        has_bar = sys.stderr.isatty() and (options.out is not None or not sys.stdout.isatty())
        bar = stack.enter_context(progress_beside("classify", inputs.total, has_bar))
        file = stack.enter_context(_output(options.out))
        write = stack.enter_context(tables.writer(kind, file, classifier.classes, options.top, width))
        for batch in classifier.stream(inputs, wishes):
            write(classifier.answers(batch))
            if options.out is None:
                file.flush()
            counts.add(batch)
            for watcher in watchers:
                watcher.add(batch)
            bar(counts.images)
        if not counts.images:
            left_out = f" ({inputs.summary()})" if inputs.left_out else ""
            raise DataError(
                f"PATH must hold images; {', '.join(options.paths[:5])} holds none that may be one{left_out}."
            )
    return counts


def _watchers(classifier: Classifier, options: argparse.Namespace) -> list[Watcher]:
    """Those that the command line asks for.

    Raises:
        ConfigError: Options do not fit together.
    """
    if options.page and not options.against:
        raise ConfigError("--page must come with --against, whose figures it shows.")
    watchers: list[Watcher] = []
    if options.against:
        from pipeline.page.against import Against

        watchers.append(Against(classifier, options.against, options.page, options.paths))
    if options.explain:
        from pipeline.delivery.heat_maps import HeatMaps

        out = options.explain_out or (
            options.out.with_suffix(".heat_maps.png") if options.out else Path("heat_maps.png")
        )
        watchers.append(HeatMaps(classifier, options.explain, options.explain_with, out))
    if options.select:
        from pipeline.delivery.selection import Selection

        watchers.append(Selection(classifier, options.select, options.select_out))
    if options.drift:
        from pipeline.delivery.drift import DriftWatcher

        watchers.append(DriftWatcher(classifier))
    if options.explain_out and not options.explain:
        raise ConfigError("--explain-out must come with --explain, whose heat maps it takes.")
    return watchers


@contextmanager
def _output(out: Path | None) -> Iterator[IO[bytes]]:
    """The standard output, or a file that is there once it is whole."""
    if out is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with atomic.writing(out) as file:
        yield file


def _wishes(options: argparse.Namespace) -> Wishes:
    """What `--tta` and `--threshold` ask for."""
    least: float | None = None
    point: tuple[str, float] | None = None
    for text in options.threshold:
        label, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(f"--threshold must be P or CLASS=P, with P from 0 to 1; got {text!r}.") from None
        if (point if equals else least) is not None:
            raise ConfigError(f"--threshold must be given once as P and once as CLASS=P; got {text!r} too.")
        if equals:
            point = label, value
        else:
            least = value
    return Wishes(options.tta, least, point)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on; got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "paths", nargs="+", metavar="PATH", help="image, folder, archive, table that names images, file of many images "
        "(Parquet, IDX, NumPy), pattern, bucket or http address; - reads a list of paths from the standard input",
    )  # fmt: skip
    add("--model", help="package: folder, ZIP file, models:/… or runs:/…; build/package if none is given")
    add("--out", type=Path, metavar="FILE", help="file for the answers; its ending tells the format")
    add("--format", choices=tables.FORMATS, help="default: a table on a terminal, else csv")
    add(
        "--top",
        type=_count,
        metavar="K",
        help="tell the K most probable classes; default: all up to 20, else 5",
    )
    add("--tta", choices=list(VIEWS), help="views of each image to average over; default: those of the evaluation")
    add(
        "--threshold", action="append", default=[], metavar="P|CLASS=P",
        help="call images unknown below the probability P; name CLASS from P on, whatever is more probable",
    )  # fmt: skip
    add(
        "--against", metavar="LABELS", help="compare with labels: a table with the columns path and label, or `folders` where "
        "the images lie in folders named by class",
    )  # fmt: skip
    add("--page", type=Path, metavar="FILE.html", help="page with the confusion matrix and the mistakes of --against")
    add("--explain", type=_count, nargs="?", const=24, metavar="N", help="draw heat maps of the first N images (24)")
    add(
        "--explain-with", choices=HEAT_MAPS, default=HEAT_MAPS[0], help="occlusion (default), or gradcam, which needs the "
        "extra explain",
    )  # fmt: skip
    add("--explain-out", type=Path, metavar="FILE.png", help="default: beside --out, else heat_maps.png")
    add("--select", type=_count, metavar="N", help="name the N images to label next: those that teach the most")
    add("--select-out", type=Path, default=Path("to_label.csv"), metavar="FILE.csv", help="default: %(default)s")
    add("--drift", action="store_true", help="test whether the images are like those that the model was measured on")
    add("--threads", type=_count, metavar="N", help="number of threads; default: one for each core")
    add(
        "-0",
        "--null",
        action="store_true",
        help="paths on the standard input end with NUL, as find -print0 writes them",
    )
    add(
        "--max-gigabytes",
        type=float,
        default=100.0,
        metavar="GB",
        help="limit for an unpacked archive (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    with as_program():
        sys.exit(main())
