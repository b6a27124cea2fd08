"""Arms as an ablation finds them, made up, for the tests of its pictures and its page."""

import numpy as np

from pipeline.metrics import history
from pipeline.metrics.ablation import Arm, Dose, read
from pipeline.metrics.early_stopping import StoppingRule

ARMS = {
    "baseline": (1.0, 0.83), "smaller": (1.0, 0.81), "larger": (1.0, 0.84), "early_stopping": (0.97, 0.83),
    "dropout": (0.99, 0.835), "augmentation": (0.96, 0.85), "l1": (0.99, 0.83), "l2": (1.0, 0.83),
    "label_smoothing": (1.0, 0.84), "all": (0.90, 0.84),
}  # fmt: skip
"""Training and validation accuracy at the end."""


def made_up_arm(name: str, num_seeds: int = 6, num_epochs: int = 20) -> Arm:
    """An arm whose curves settle at its accuracies, with some noise from seed to seed."""
    train, val = ARMS[name]
    rule = (
        StoppingRule(history.VAL_LOSS, 3, restore_best=True)
        if name == "early_stopping"
        else StoppingRule(history.VAL_LOSS)
    )
    histories = []
    for seed in range(1, num_seeds + 1):
        generator = np.random.default_rng([seed, len(name)])
        noise = generator.normal(0, 0.006, num_epochs)
        rows = []
        for epoch in range(1, num_epochs + 1):
            missing = 2.0 * np.exp(-epoch / 3)
            rows.append({
                **dict.fromkeys(history.METRICS, 0.0), "epoch": epoch, "lr": 0.001, "seconds": 0.5,
                history.CLEAN_ACCURACY: train - 0.3 * missing, history.VAL_ACCURACY: val - 0.3 * missing + noise[epoch - 1],
                history.CLEAN_LOSS: 1 - train + missing, history.VAL_LOSS: 0.55 + missing + 0.01 * epoch + noise[epoch - 1],
                history.VAL_ECE: 0.1, history.WEIGHTS_NORM: 12.3, history.WEIGHTS_SPARSITY: 0.2 if name == "l1" else 0.0,
            })  # fmt: skip
        histories.append(rows)
    readings = [read(rows, rule, seed=seed, num_parameters=48_000) for seed, rows in enumerate(histories, start=1)]
    overrides = () if name == "baseline" else (f"model.{name}=1",)
    return Arm(name, overrides, readings, histories)


def made_up_doses() -> list[Dose]:
    """A baseline and three strengths of two remedies, two seeds each."""
    doses = [Dose("baseline", "", (0.82, 0.83), (1.0, 1.0), (0.60, 0.61))]
    for arm, key in (("dropout", "model.dropout"), ("augmentation", "augment")):
        for place, strength in enumerate(("0.2", "0.5", "0.8")):
            val, train = 0.83 + 0.01 * place, 1.0 - 0.02 * place
            scores = (0.58 - 0.01 * place, 0.59)
            doses.append(Dose(arm, f"{key}={strength} x.y=1", (val, val + 0.004), (train, train - 0.005), scores))
    return doses
