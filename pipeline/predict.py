"""Classify images with a package: labels, calibrated probabilities, sets of classes, and "unknown" where nothing fits.

Command: python -m pipeline.predict photos                                    a folder, with the package in build/package
         python -m pipeline.predict shoe.jpg bag.png --model model.zip        files, with another package
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.delivery.classifier import Classifier
from pipeline.errors import DataError
from pipeline.stage import lineage
from pipeline.stage.program import as_program

UNREADABLE = 3
"""Exit code where an image could not be read; 1 is that of an error, 2 that of a wrong command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify what the command line names, print a table, and return the exit code."""
    options = _parser().parse_args(arguments)
    classifier = Classifier.load(options.model)
    failed, header = False, True
    for batch in classifier.stream((str(path), path) for path in _files(options.paths)):
        frame = classifier.frame(batch)
        failed |= bool(frame["error"].notna().any())
        frame.to_csv(sys.stdout, index=False, header=header, float_format="%.4f")
        header = False
    return UNREADABLE if failed else 0


def _files(paths: Sequence[str]) -> Iterator[Path]:
    for text in paths:
        path = Path(text).expanduser()
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.is_file():
            yield path
        else:
            raise DataError(f"PATH must be a file or a folder; got {text!r}, which is not there.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image file or folder")
    parser.add_argument(
        "--model", type=Path, default=lineage.dvc_folder("package"), help="folder or ZIP file of a package"
    )
    return parser


if __name__ == "__main__":
    with as_program():
        sys.exit(main())
