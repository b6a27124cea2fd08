"""The sentences of the report: whether it fits, which checks passed, and what to type next."""

import shlex
from dataclasses import dataclass
from typing import Any

from pipeline.metrics import scores
from pipeline.page.artefacts import Artefacts

INITIAL_LOSS_TOLERANCE = 0.1
"""Share of ln C by which the loss before training may differ from it."""


@dataclass(frozen=True)
class Check:
    passed: bool
    text: str


def fit_line(artefacts: Artefacts) -> str:
    """The verdict with its evidence, and why the training stopped."""
    run, sentence = artefacts.run, artefacts.diagnosis["sentence"]
    return (
        f"{sentence[0].upper()}{sentence[1:]}; "
        f"stopped at epoch {run['epochs']} of {run['config']['train']['max_epochs']} because {run['stop_reason']}."
    )


def test_line(artefacts: Artefacts) -> str:
    """The accuracy on the test split with its 95 % interval."""
    metrics = artefacts.metrics
    interval = f"[{metrics[scores.TEST_ACCURACY_LOW]:.3f}, {metrics[scores.TEST_ACCURACY_HIGH]:.3f}]"
    return f"Test accuracy: {metrics[scores.TEST_ACCURACY]:.3f} {interval} on {num_test(artefacts):,} images."


def num_test(artefacts: Artefacts) -> int:
    return sum(map(sum, artefacts.matrix))


def checks(artefacts: Artefacts) -> list[Check]:
    """What was tried once before training, as statements."""
    signals = artefacts.signals
    loss, chance, batch = signals["initial_loss"], signals["initial_loss_expected"], signals["one_batch"]
    steps = f"{batch['steps']} step" + ("" if batch["steps"] == 1 else "s")
    return [
        Check(
            abs(loss - chance) <= INITIAL_LOSS_TOLERANCE * chance,
            f"It starts without opinion: the first loss is {loss:.3f}, and guessing among {signals['num_classes']} "
            f"classes gives ln {signals['num_classes']} = {chance:.3f}.",
        ),
        Check(
            batch["passed"],
            f"It can learn one batch by heart: loss from {batch['loss_before']:.3f} to {batch['loss_after']:.3f} in {steps}, "
            f"{batch['accuracy_after']:.0%} of that batch right.",
        ),
    ]


def commands(run: dict[str, Any]) -> list[str]:
    """What makes this training again, to be typed in the project's folder."""
    checkout = [f"git checkout {run['git_commit']}"] if run.get("git_commit") else []
    overrides = run.get("overrides")
    return [*checkout, f"python -m pipeline.train {overrides}" if overrides else "dvc repro"]


def experiment(override: str) -> str:
    """The command that tries a prescription."""
    return f"dvc exp run -S {shlex.quote(override)}"


def next_command(artefacts: Artefacts) -> str:
    """One experiment worth a try: what was prescribed; else more epochs where they ran out, or the other kind of network."""
    run, prescribed = artefacts.run, artefacts.diagnosis["prescriptions"]
    if prescribed:
        return experiment(prescribed[0]["override"])
    config = run["config"]
    if run["epochs"] == config["train"]["max_epochs"]:
        return f"dvc exp run -S train.max_epochs={2 * run['epochs']}"
    other = "lenet" if config["model"]["name"] == "convnet" else "convnet"
    return f"dvc exp run -S model.name={other}"
