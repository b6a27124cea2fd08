"""The report's page: everything that the template shows, and the template filled in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import early_stopping, history
from pipeline.model import Layer
from pipeline.page import charts, summary, tiles
from pipeline.page.artefacts import Artefacts
from pipeline.page.issues import problems
from pipeline.page.templates import configuration, duration, fill
from pipeline.plotting import figures

NUM_PAIRS = 3

SKETCHES = (
    (
        "Underfitting",
        "M2 8 C14 18 30 20 94 22",
        "M2 6 C14 15 30 17 94 18",
        "both stay poor: more epochs, a larger network",
    ),
    ("Good fit", "M2 4 C16 34 30 38 94 40", "M2 3 C16 31 30 34 94 36", "small distance, both settled"),
    (
        "Overfitting",
        "M2 4 C16 36 34 42 94 45",
        "M2 3 C14 30 26 34 40 30 S70 20 94 12",
        "they part: regularise, augment, stop",
    ),
)
"""Name, training loss and validation loss as SVG paths in 96×48, and what to look for."""

LEGEND = (("clean", "training"), ("val", "validation"), ("gap", "gap"), ("train", "while learning"))


@dataclass(frozen=True)
class Seen:
    """What the network looks for, and what it sees in one image.

    Attributes:
        layers: The rows of its table.
        filters: Weights of the first convolution, shape (filters, input channels, height, width).
        image: uint8, shape (height, width, channels).
        image_class: Its true class.
        maps: Feature maps of each convolution, shape (channels, height, width).
    """

    layers: Sequence[Layer]
    filters: NDArray[np.float32]
    image: NDArray[np.uint8]
    image_class: str
    maps: dict[str, NDArray[np.float32]]


def render(artefacts: Artefacts, seen: Seen) -> str:
    """The whole page as one HTML file that needs nothing else."""
    drawn = charts.charts(artefacts.rows, artefacts.run["best_epoch"])
    monitor = artefacts.run["config"]["train"]["monitor"]
    if artefacts.lr_range:
        artefacts.pictures["lr_range"] = figures.lr_range(artefacts.lr_range, artefacts.run["lr"])
    classes, matrix = artefacts.dataset["classes"], np.array(artefacts.matrix)
    shown = figures.hardest(matrix)
    per_class = sorted(artefacts.per_class, key=lambda row: (row["count"] == 0, row["recall"]))
    pictures = artefacts.pictures | {"filters": tiles.filters(seen.filters), "image": tiles.image(seen.image)}
    return fill(
        "report.html",
        model=artefacts.run["config"]["model"]["name"],
        run=artefacts.run,
        metrics=artefacts.metrics,
        test={key.removeprefix("test/"): value for key, value in artefacts.metrics.items() if key.startswith("test/")},
        signals=artefacts.signals,
        dataset=artefacts.dataset,
        splits=list(artefacts.dataset["counts"]),
        issues=problems(artefacts.issues),
        augmentation=artefacts.augmentation,
        augmentation_line=_augmentation_line(artefacts.augmentation),
        diagnosis=artefacts.diagnosis,
        fit_line=summary.fit_line(artefacts),
        experiment=summary.experiment,
        saved=_saved(artefacts.run["early_stopping"]),
        monitor=monitor,
        stops=_looking_back(artefacts, monitor),
        zeros={row["layer"]: row["zeros"] for row in artefacts.weights if row["zeros"]},
        num_test=summary.num_test(artefacts),
        sketches=SKETCHES,
        legend=LEGEND,
        charts=drawn,
        geometry={
            "width": charts.WIDTH, "height": charts.HEIGHT,
            "left": charts.LEFT, "right": charts.RIGHT, "top": charts.TOP, "bottom": charts.BOTTOM,
        },
        script_data=charts.for_script(artefacts.rows, drawn),
        history=artefacts.rows,
        history_columns=[column for column in history.COLUMNS if column != "epoch"],
        matrix=_heat(matrix, classes, shown),
        shown_classes=[classes[label] for label in shown],
        most_classes=figures.MOST_CLASSES,
        pairs=_most_confused(artefacts.matrix, classes),
        per_class=per_class[: figures.MOST_CLASSES],
        recall_axis=_recall_axis(per_class[: figures.MOST_CLASSES]),
        left_out=[row["class"] for row in artefacts.per_class if not row["count"]],
        layers=seen.layers,
        filter_shape=f"{len(seen.filters)} of {'×'.join(map(str, seen.filters.shape[2:]))}",
        example_class=seen.image_class,
        maps=[_map(name, maps) for name, maps in seen.maps.items()],
        pictures={name: tiles.data_uri(png) for name, png in pictures.items()},
        checks=summary.checks(artefacts),
        commands=summary.commands(artefacts.run),
        next_command=summary.next_command(artefacts),
        configuration=configuration(artefacts.run["config"]),
    )  # fmt: skip


def _looking_back(artefacts: Artefacts, monitor: str) -> list[early_stopping.Stop]:
    settings = artefacts.run["config"]["train"]["early_stopping"]
    return early_stopping.stops_in_hindsight(
        [row[monitor] for row in artefacts.rows],
        min_delta=settings["min_delta"],
        warmup_epochs=settings["warmup_epochs"],
        rising=history.higher_is_better(monitor),
    )


def _saved(saved: dict[str, Any]) -> str:
    """What early stopping left out, in words.

    >>> _saved({"saved_epochs": 12, "saved_seconds": 61.2}), _saved({"saved_epochs": 0, "saved_seconds": 0})
    ('Early stopping left out 12 epochs, about 1 min 1 s.', '')
    """
    if not saved["saved_epochs"]:
        return ""
    return f"Early stopping left out {saved['saved_epochs']} epochs, about {duration(saved['saved_seconds'])}."


def _heat(matrix: NDArray[np.int64], classes: list[str], shown: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Rows of the confusion table; `heat` in [0, 1] is the row's share, its root off the diagonal to show the rare.

    Of the classes in `shown`; `elsewhere` counts what was taken for one of the others.
    """
    rows = []
    for label in shown:
        total = max(int(matrix[label].sum()), 1)
        counts = matrix[label, shown].tolist()
        cells = [
            {
                "count": count,
                "right": label == guess,
                "heat": round(count / total if label == guess else (count / total) ** 0.5, 3),
            }
            for guess, count in zip(shown, counts, strict=True)
        ]
        rows.append({"name": classes[label], "cells": cells, "elsewhere": int(matrix[label].sum()) - sum(counts)})
    return rows


def _recall_axis(per_class: list[dict[str, Any]]) -> float:
    """Where the axis of recalls begins, so that all intervals fit; it ends at 1.

    >>> _recall_axis([{"count": 9, "recall_low": 0.93}, {"count": 9, "recall_low": 0.87}, {"count": 0, "recall_low": 0.0}])
    0.8
    """
    return math.floor(10 * min(row["recall_low"] for row in per_class if row["count"])) / 10


def _most_confused(matrix: list[list[int]], classes: list[str]) -> list[dict[str, Any]]:
    """The commonest mistakes, the most frequent first."""
    pairs: list[dict[str, Any]] = [
        {"actual": classes[label], "predicted": classes[guess], "count": count, "of": sum(counts)}
        for label, counts in enumerate(matrix)
        for guess, count in enumerate(counts)
        if label != guess and count
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])[:NUM_PAIRS]


def _map(name: str, maps: NDArray[np.float32]) -> dict[str, Any]:
    return {
        "name": name,
        "shape": "×".join(map(str, maps.shape)),
        "count": len(maps),
        "shown": min(len(maps), tiles.MOST_MAPS),
        "picture": tiles.data_uri(tiles.feature_maps(maps)),
    }


def _augmentation_line(augmentation: dict[str, Any]) -> str:
    transforms = augmentation["transforms"]
    names = ", ".join(entry if isinstance(entry, str) else next(iter(entry)) for entry in transforms)
    if augmentation["mode"] == "online":
        return f"Each epoch draws every training image anew through {names}."
    return f"Each epoch draws one among every training image and its {augmentation['copies']} copies, made by {names}."
