"""Renders the page of the report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.evaluation import SPLIT_TITLES
from pipeline.artefacts.run import Saving
from pipeline.config.grammar import experiment
from pipeline.metrics import early_stopping, history
from pipeline.model import Layer
from pipeline.page import charts, summary, tiles, unit_charts
from pipeline.page.inputs import ReportInputs
from pipeline.page.probabilities import probabilities_of
from pipeline.page.templates import configuration, duration, fill
from pipeline.plotting import figures

NUM_PAIRS = 3

SKETCHES = (
    ("Underfitting", "M2 8 C14 18 30 20 94 22", "M2 6 C14 15 30 17 94 18", "both stay poor: more epochs, a larger network"),
    ("Good fit", "M2 4 C16 34 30 38 94 40", "M2 3 C16 31 30 34 94 36", "small distance, both settled"),
    ("Overfitting", "M2 4 C16 36 34 42 94 45", "M2 3 C14 30 26 34 40 30 S70 20 94 12", "they part: regularise, augment, stop"),
)  # fmt: skip
"""Name, training loss and validation loss as SVG paths in 96×48, and what to look for."""

LEGEND = (("clean", "training"), ("val", "validation"), ("gap", "gap"), ("train", "while learning"))


@dataclass(frozen=True)
class NetworkView:
    """The layers of a network, its first filters, and its feature maps for one image.

    Attributes:
        layers: Rows of the table of layers.
        filters: Weights of the first convolution, float32 of shape (filters, input channels, height, width).
        image: Validation image, uint8 of shape (height, width, channels).
        image_class: True class of the image.
        maps: Feature maps of each convolution, float32 of shape (channels, height, width).
    """

    layers: Sequence[Layer]
    filters: NDArray[np.float32]
    image: NDArray[np.uint8]
    image_class: str
    maps: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class HeatCell:
    """A cell of the confusion matrix: a true and a predicted class; `heat` is the strength of its colour, in [0, 1]."""

    label: int
    guess: int
    count: int
    right: bool
    heat: float


@dataclass(frozen=True)
class HeatRow:
    """A row of the confusion matrix, of the true class `name`; `elsewhere` counts predictions of classes not shown."""

    name: str
    cells: list[HeatCell]
    elsewhere: int


@dataclass(frozen=True)
class Confusion:
    """Two classes that were confused: `count` of `total` images of the true class were predicted as the other one."""

    actual: str
    predicted: str
    count: int
    total: int


@dataclass(frozen=True)
class FeatureMaps:
    """The feature maps of one convolution; `shown` of `count` maps are in the picture, a data URI."""

    name: str
    shape: str
    count: int
    shown: int
    picture: str


def render(inputs: ReportInputs, view: NetworkView) -> str:
    """The page as one HTML file that needs no other file."""
    run, classes, matrix = inputs.run, inputs.dataset.classes, np.array(inputs.matrix)
    monitor = run.config["train"]["monitor"]
    drawn = charts.charts(inputs.rows, run.best_epoch)
    shown = figures.hardest(matrix)
    per_class = sorted(inputs.per_class, key=lambda scores: (scores.count == 0, scores.recall))[: figures.MOST_CLASSES]
    lowest_recall = min(scores.recall_low for scores in per_class if scores.count)
    pictures = {**inputs.pictures, "filters": tiles.filters(view.filters), "image": tiles.image(view.image)}
    if inputs.lr_range:
        pictures["lr_range"] = figures.lr_range(inputs.lr_range, run.lr)
    point = inputs.use.point if inputs.use is not None else None
    return fill(
        "report.html",
        use=inputs.use, unit=unit_charts.GEOMETRY,
        probabilities=probabilities_of(inputs.outputs, inputs.evaluation, classes, point),
        model=run.config["model"]["name"], run=run,
        evaluation=inputs.evaluation, scores=inputs.evaluation.scores, split=SPLIT_TITLES[inputs.evaluation.split],
        signals=inputs.signals,
        dataset=inputs.dataset, splits=list(inputs.dataset.counts), problems=inputs.problems,
        augmentation=inputs.augmentation, augmentation_line=_augmentation_line(inputs.augmentation),
        diagnosis=inputs.diagnosis, concerns=inputs.concerns, fit_line=summary.fit_line(inputs), experiment=experiment,
        saved=_saved(run.early_stopping),
        monitor=monitor, stops=_stops_in_hindsight(inputs, monitor),
        zeros={weights.layer: weights.zeros for weights in inputs.weights if weights.zeros},
        num_evaluated=inputs.num_evaluated, sketches=SKETCHES, legend=LEGEND, charts=drawn,
        geometry=charts.GEOMETRY,
        script_data=charts.for_script(inputs.rows, drawn),
        history=inputs.rows,
        history_columns=[column for column in history.COLUMNS if column != "epoch"],
        matrix=_heat(matrix, classes, shown), shown_classes=[classes[label] for label in shown],
        most_classes=figures.MOST_CLASSES, confusions=_most_confused(inputs.matrix, classes),
        mistakes=inputs.mistakes, num_mistakes=int(matrix.sum() - matrix.trace()),
        per_class=per_class, recall_axis=math.floor(10 * lowest_recall) / 10,
        left_out=[scores.name for scores in inputs.per_class if not scores.count],
        layers=view.layers,
        filter_shape=f"{len(view.filters)} of {'×'.join(map(str, view.filters.shape[2:]))}",
        example_class=view.image_class,
        maps=[_feature_maps(name, maps) for name, maps in view.maps.items()],
        pictures={name: tiles.data_uri(png) for name, png in pictures.items()},
        checks=summary.checks(inputs.signals), command_again=summary.command_again(inputs), code_line=summary.code_line(run),
        next_command=summary.next_command(inputs), configuration=configuration(run.config),
    )  # fmt: skip


def _stops_in_hindsight(inputs: ReportInputs, monitor: str) -> list[early_stopping.Stop]:
    settings = inputs.run.config["train"]["early_stopping"]
    values, rising = [row[monitor] for row in inputs.rows], history.higher_is_better(monitor)
    rule = {name: settings[name] for name in ("min_delta", "warmup_epochs")}
    return early_stopping.stops_in_hindsight(values, **rule, rising=rising)


def _saved(saving: Saving) -> str:
    """One sentence about the epochs that early stopping saved.

    >>> _saved(Saving(saved_epochs=12, saved_seconds=61.2)), _saved(Saving(saved_epochs=0, saved_seconds=0.0))
    ('Early stopping left out 12 epochs, about 1 min 1 s.', '')
    """
    if not saving.saved_epochs:
        return ""
    return f"Early stopping left out {saving.saved_epochs} epochs, about {duration(saving.saved_seconds)}."


def _heat(matrix: NDArray[np.int64], classes: list[str], shown: NDArray[np.int64]) -> list[HeatRow]:
    """The rows of the classes in `shown`.

    The heat of a cell is its share of the row; off the diagonal the square root of it, so that rare confusions can be seen.
    """
    rows = []
    for label in shown:
        total = max(int(matrix[label].sum()), 1)
        counts = matrix[label, shown].tolist()
        cells = []
        for guess, count in zip(shown, counts, strict=True):
            right, share = bool(label == guess), count / total
            cells.append(HeatCell(int(label), int(guess), count, right, round(share if right else share**0.5, 3)))
        rows.append(HeatRow(classes[label], cells, int(matrix[label].sum()) - sum(counts)))
    return rows


def _most_confused(matrix: list[list[int]], classes: list[str]) -> list[Confusion]:
    """The commonest confusions, the most frequent first.

    >>> _most_confused([[7, 3], [0, 9]], ["cat", "dog"])
    [Confusion(actual='cat', predicted='dog', count=3, total=10)]
    """
    confusions = [
        Confusion(classes[label], classes[guess], count, sum(counts))
        for label, counts in enumerate(matrix)
        for guess, count in enumerate(counts)
        if label != guess and count
    ]
    return sorted(confusions, key=lambda confusion: -confusion.count)[:NUM_PAIRS]


def _feature_maps(name: str, maps: NDArray[np.float32]) -> FeatureMaps:
    shape, shown = "×".join(map(str, maps.shape)), min(len(maps), tiles.MOST_MAPS)
    return FeatureMaps(name, shape, len(maps), shown, tiles.data_uri(tiles.feature_maps(maps)))


def _augmentation_line(augmentation: AugmentRecord) -> str:
    names = ", ".join(entry if isinstance(entry, str) else next(iter(entry)) for entry in augmentation.transforms)
    if augmentation.mode == "online":
        return f"Each epoch draws every training image anew through {names}."
    return f"Each epoch draws one among every training image and its {augmentation.copies} copies, made by {names}."
