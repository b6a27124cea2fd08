"""Names the columns of `history.csv`, and writes and reads its rows: one for each epoch, counted from 1."""

import csv
from pathlib import Path

TRAIN_LOSS, TRAIN_ACCURACY = "train/loss", "train/accuracy"
CLEAN_LOSS, CLEAN_ACCURACY = "train_clean/loss", "train_clean/accuracy"
VAL_LOSS, VAL_ACCURACY, VAL_ECE = "val/loss", "val/accuracy", "val/ece"
PENALTY, PENALTY_L1, PENALTY_L2 = "train/penalty", "train/penalty_l1", "train/penalty_l2"
WEIGHTS_NORM, WEIGHTS_SPARSITY = "weights/norm", "weights/sparsity"
UPDATE_RATIO, GRADIENT_NORM, DEAD_RELU = "update_ratio", "gradient_norm", "dead_relu"

METRICS = (
    TRAIN_LOSS, TRAIN_ACCURACY, CLEAN_LOSS, CLEAN_ACCURACY, VAL_LOSS, VAL_ACCURACY, VAL_ECE,
    PENALTY, PENALTY_L1, PENALTY_L2, WEIGHTS_NORM, WEIGHTS_SPARSITY, UPDATE_RATIO, GRADIENT_NORM, DEAD_RELU,
)  # fmt: skip
CALIBRATION_BINS = 15
"""Number of bins of the confidence, for the expected calibration error."""

COLUMNS = ("epoch", "lr", *METRICS, "seconds")


def higher_is_better(metric: str) -> bool:
    """Whether a higher value of `metric` is better: true for accuracies and for the share of weights that are 0.

    >>> higher_is_better("val/accuracy"), higher_is_better("val/loss")
    (True, False)
    """
    return metric.endswith(("/accuracy", "/sparsity"))


def to_csv(rows: list[dict[str, float]]) -> str:
    """The rows as CSV with the columns `COLUMNS`; floats read back bit for bit."""
    lines = [",".join(COLUMNS)]
    lines += [",".join(repr(row[column]) for column in COLUMNS) for row in rows]
    return "\n".join(lines) + "\n"


def read_csv(path: Path) -> list[dict[str, float]]:
    """The rows of `history.csv`; `epoch` is an int, everything else a float."""
    with path.open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [{**row, "epoch": int(row["epoch"])} for row in rows]
