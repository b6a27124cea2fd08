"""Renders the page that compares ways to start a training."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.metrics.starts import Way, best
from pipeline.page import tiles
from pipeline.page.templates import configuration, fill
from pipeline.plotting import starts as figures


def render(
    results: Mapping[int, Sequence[Way]], ways: Mapping[str, Sequence[str]], dataset: DatasetRecord,
    config: Mapping[str, Any], command: str,
) -> str:  # fmt: skip
    """The page as one HTML file that needs no other file.

    Args:
        results: Ways, the most accurate first, by the number of training images; the last number is all of them.
        ways: Overrides of each way.
        dataset: Record of the images of one fold.
        config: Configuration of the comparison.
        command: Command that repeats it.
    """
    sizes = list(results)
    return fill(
        "starts.html", results=results, ways=ways, dataset=dataset, command=command, total=sizes[-1],
        winner=best(results[sizes[-1]]), num_classes=len(dataset.classes), num_folds=len(results[sizes[-1]][0].accuracies),
        picture=tiles.data_uri(figures.accuracies(results, len(dataset.classes))), configuration=configuration(config),
    )  # fmt: skip
