"""Renders how the answers for new images agree with their labels, as a page and as a table on the terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text

from pipeline.artefacts.package import ManifestRecord
from pipeline.delivery.agreement import Agreement, Comparison, Labels
from pipeline.delivery.classifier import Batch, Classifier
from pipeline.page import tiles
from pipeline.page.templates import fill
from pipeline.plotting import figures
from pipeline.storage import atomic
from pipeline.terminal import WIDTH_COLUMNS, printable, table

if TYPE_CHECKING:
    from pipeline.metrics.scores import ClassScore


class Against:
    """Compares the answers of a classifier with labels while they are made, and tells how well they agree."""

    def __init__(self, classifier: Classifier, labels: str, page: Path | None, paths: Sequence[str]) -> None:
        """Read the labels; see `pipeline.delivery.agreement.Labels`. `page` is the file for the page, if there shall be one."""
        self._comparison = Comparison(Labels(labels, classifier.classes))
        self._classifier, self._page, self._paths = classifier, page, paths

    def add(self, batch: Batch) -> None:
        self._comparison.add(batch)

    def finish(self) -> None:
        """Print the figures and write the page."""
        found, classes = self._comparison.result(), self._classifier.classes
        print_table(found, classes)
        if self._page is not None:
            atomic.write_text(self._page, render(found, classes, self._classifier.package.manifest, self._paths))
            print(f"page: {self._page}", file=sys.stderr)


Facts = list[tuple[str, str]]


def render(found: Agreement, classes: list[str], manifest: ManifestRecord, paths: Sequence[str]) -> str:
    """The page as one HTML file that needs no other file.

    Args:
        found: How well the answers agree with the labels.
        classes: Names of the classes.
        manifest: Origin of the package.
        paths: What was classified, as the user named it.
    """
    worst = found.mistakes
    pixels = [mistake.pixels for mistake in worst]
    shown = figures.mistakes(
        np.stack(pixels) if pixels else np.empty((0, 1, 1, 1), np.uint8), np.array([each.label for each in worst], np.int64),
        np.array([each.predicted for each in worst], np.int64), np.array([each.probability for each in worst], np.float32),
        classes,
    )  # fmt: skip
    return fill(
        "against.html",
        paths=", ".join(paths[:5]) + (", …" if len(paths) > 5 else ""), manifest=manifest, found=found, facts=facts(found),
        before=manifest.scores.accuracy if manifest.scores else None, split=manifest.split,
        per_class=_hardest(found, classes), num_classes=len(classes), mistakes=worst, classes=classes,
        confusion=tiles.data_uri(figures.confusion(found.matrix, classes)), pictures=tiles.data_uri(shown),
    )  # fmt: skip


def facts(found: Agreement) -> Facts:
    """Names and values of the figures, with their 95 % intervals."""
    rows = [
        ("accuracy", str(found.accuracy)), ("balanced accuracy", str(found.balanced_accuracy)), ("loss", f"{found.loss:.3f}"),
        ("expected calibration error", f"{found.ece:.3f}"),
    ]  # fmt: skip
    if found.coverage is not None:
        rows += [("coverage of the sets", str(found.coverage)), ("classes in a set", f"{found.set_size:.2f}")]
    return rows + ([("unknown", str(found.unknown))] if found.unknown is not None else [])


def print_table(found: Agreement, classes: list[str]) -> None:
    """Print the figures, and recall and precision of each class, to the standard error, beside which the answers may flow."""
    console = Console(stderr=True, highlight=False, width=WIDTH_COLUMNS)
    without = f", {found.without_label:,} without a label" if found.without_label else ""
    console.print(f"{found.num_images:,} images with a label{without}")
    for name, value in facts(found):
        console.print(f"  {name:<27}{value}", markup=False)
    shown = table(texts=("class",), numbers=("images", "recall", "95 %", "precision", "95 %"))
    for name, score in _hardest(found, classes):
        recall, precision = score.recall_interval(), score.precision_interval()
        shown.add_row(
            Text(printable(name)), f"{score.count:,}", f"{score.recall:.3f}" if score.count else "–",
            f"{recall[0]:.3f}–{recall[1]:.3f}" if score.count else "", f"{score.precision:.3f}" if score.predicted else "–",
            f"{precision[0]:.3f}–{precision[1]:.3f}" if score.predicted else "",
        )  # fmt: skip
    console.print(shown)


def _hardest(found: Agreement, classes: list[str]) -> "list[tuple[str, ClassScore]]":
    """Names and scores of the classes with the lowest recall, the lowest first; those without images last."""
    named = sorted(zip(classes, found.per_class, strict=True), key=lambda each: (each[1].count == 0, each[1].recall))
    return named[: figures.MOST_CLASSES]
