"""What the report is made of: the outputs of the earlier stages, read and checked to belong together."""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.metrics import history
from pipeline.stage.inputs import check_input, read_diagnosis, read_metrics, read_run

TRAINING_KEY, EVALUATION_KEY, DIAGNOSIS_KEY = "report.training", "report.evaluation", "report.diagnosis"


@dataclass(frozen=True)
class Artefacts:
    """The content of five folders.

    Attributes:
        run: `run.json` of the training.
        rows: Its epochs.
        best: The epoch whose weights were kept.
        signals: What was measured once before training.
        dataset: `dataset.json`.
        augmentation: `augment.json`.
        metrics: `metrics.json` of the evaluation.
        matrix: Counts of test images by true class (row) and predicted class (column).
        per_class: Of each class `class`, `count`, `predicted`, `recall` and `precision` with the bounds of their intervals
            (`recall_low`, `recall_high`, …), and `f1`.
        diagnosis: `diagnosis.json`.
        weights: The layers that penalties act on: `layer`, and as numbers `weights`, `zeros` and `norm`.
        lr_range: The steps of the learning rate range test: `lr`, `loss` and `smoothed`; empty where there was none.
        issues: What is wrong with the data: `path`, `problem`, `evidence` and `action`.
        pictures: The PNG files of the earlier stages: `overview`, `preview`, `mistakes`, `verdict`; and `issues`, where some of
            them can be seen.
    """

    run: dict[str, Any]
    rows: list[dict[str, float]]
    best: dict[str, float]
    signals: dict[str, Any]
    dataset: dict[str, Any]
    augmentation: dict[str, Any]
    metrics: dict[str, float]
    matrix: list[list[int]]
    per_class: list[dict[str, Any]]
    diagnosis: dict[str, Any]
    weights: list[dict[str, Any]]
    lr_range: list[dict[str, Any]]
    issues: list[dict[str, str]]
    pictures: dict[str, bytes]


def read(*, training: Path, evaluation: Path, diagnosis: Path, prepared: Path, augmented: Path) -> Artefacts:
    """Read the five folders.

    Raises:
        DataError: A folder is not whole, or they are not of one training.
    """
    run = read_run(training, TRAINING_KEY)
    check_input(run, "prepare", prepared, TRAINING_KEY)
    check_input(run, "augment", augmented, TRAINING_KEY)
    rows = history.read_csv(training / "history.csv")
    best = next(row for row in rows if row["epoch"] == run["best_epoch"])
    metrics = read_metrics(evaluation, EVALUATION_KEY)
    measured = (history.CLEAN_ACCURACY, history.CLEAN_LOSS, history.VAL_ACCURACY, history.VAL_LOSS)
    if any(metrics[key] != best[key] for key in measured):
        raise DataError(
            f"{EVALUATION_KEY} must be an evaluation of the training in {str(training)!r}; got {str(evaluation)!r}, made of "
            f"another one. Run: python -m pipeline.evaluate evaluate.training={training}"
        )
    verdict = read_diagnosis(diagnosis, DIAGNOSIS_KEY)
    if verdict["training"] != run["id"]:
        raise DataError(
            f"{DIAGNOSIS_KEY} must be a diagnosis of the training in {str(training)!r}; got {str(diagnosis)!r}, made of "
            f"another one. Run: python -m pipeline.diagnose --training {training} --out FOLDER"
        )
    dataset = json.loads((prepared / "dataset.json").read_text(encoding="utf-8"))
    drawn = prepared / "issues.png"
    return Artefacts(
        run=run,
        rows=rows,
        best=best,
        signals=json.loads((training / "signals.json").read_text()),
        dataset=dataset,
        augmentation=json.loads((augmented / "augment.json").read_text()),
        metrics=metrics,
        matrix=_matrix(evaluation / "confusion.csv", dataset["classes"]),
        per_class=_table(evaluation / "per_class.csv"),
        diagnosis=verdict,
        weights=_table(training / "weights.csv"),
        lr_range=_table(training / "lr_range.csv") if run["config"]["optimizer"]["lr"] == "auto" else [],
        issues=_rows(prepared / "issues.csv"),
        pictures={
            "overview": (prepared / "overview.png").read_bytes(),
            "preview": (augmented / "preview.png").read_bytes(),
            "mistakes": (evaluation / "mistakes.png").read_bytes(),
            "verdict": (diagnosis / "curve.png").read_bytes(),
            **({"issues": drawn.read_bytes()} if drawn.exists() else {}),
        },
    )


def _matrix(path: Path, classes: list[str]) -> list[list[int]]:
    counts = Counter((row["actual"], row["predicted"]) for row in _rows(path))
    return [[counts[actual, predicted] for predicted in classes] for actual in classes]


def _table(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file: names in the columns `class` and `layer`, whole numbers and fractions in all others."""
    return [
        {key: value if key in ("class", "layer") else _number(value) for key, value in row.items()}
        for row in _rows(path)
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)
