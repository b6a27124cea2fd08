"""Writes the sentences of the report: the verdict, the checks before training, and the next command."""

import shlex
from dataclasses import dataclass

from pipeline.artefacts.evaluation import SPLIT_TITLES
from pipeline.artefacts.run import RunRecord
from pipeline.artefacts.signals import SignalsRecord
from pipeline.config.grammar import experiment
from pipeline.page.inputs import ReportInputs

INITIAL_LOSS_TOLERANCE = 0.1
"""Largest relative difference between the loss before training and ln C that passes the check."""


@dataclass(frozen=True)
class Check:
    passed: bool
    text: str


def fit_line(inputs: ReportInputs) -> str:
    """The verdict with its evidence, and why the training stopped."""
    run, sentence = inputs.run, inputs.diagnosis.sentence
    return (
        f"{sentence[0].upper()}{sentence[1:]}; "
        f"stopped at epoch {run.epochs} of {run.config['train']['max_epochs']} because {run.stop_reason}."
    )


def accuracy_line(inputs: ReportInputs) -> str:
    """The accuracy on the test split, or for want of one on validation, with its 95 % interval."""
    split = SPLIT_TITLES[inputs.evaluation.split].capitalize()
    return f"{split} accuracy: {inputs.evaluation.scores.accuracy} on {inputs.num_evaluated:,} images."


def closing_lines(inputs: ReportInputs, page: str) -> list[str]:
    """The last lines of a run: whether it fits, how good it is, and the commands that go on from here.

    Args:
        inputs: Inputs of the page.
        page: Place of the page, for people.
    """
    lines = [
        fit_line(inputs), accuracy_line(inputs), f"Look at {page}, compare runs with `mlflow ui`, or try:",
        f"    {next_command(inputs)}",
    ]  # fmt: skip
    return [*lines, f"Classify images: {inputs.use.command}"] if inputs.use is not None else lines


def checks(signals: SignalsRecord) -> list[Check]:
    """The results of the tests before training, as sentences."""
    loss, chance, batch = signals.initial_loss, signals.initial_loss_expected, signals.one_batch
    steps = f"{batch.steps} step" + ("" if batch.steps == 1 else "s")
    loss_after = float("nan") if batch.loss_after is None else batch.loss_after
    return [
        Check(
            abs(loss - chance) <= INITIAL_LOSS_TOLERANCE * chance,
            f"It starts without opinion: the first loss is {loss:.3f}, and guessing among {signals.num_classes} "
            f"classes gives ln {signals.num_classes} = {chance:.3f}.",
        ),
        Check(
            batch.passed,
            f"It can learn one batch by heart: loss from {batch.loss_before:.3f} to {loss_after:.3f} in {steps}, "
            f"{batch.accuracy_after:.0%} of that batch right.",
        ),
    ]


def command_again(inputs: ReportInputs) -> str:
    """The command that repeats the training, to be typed in the project's folder."""
    run = inputs.run
    if run.git_commit is not None:
        return f"python -m pipeline.reproduce {run.mlflow_run_id or shlex.quote(inputs.folder)}"
    return f"python -m pipeline.train {run.overrides}" if run.overrides else "dvc repro"


def code_line(run: RunRecord) -> str:
    """The code that a training was made with, and whether the command that repeats it finds that code, in a sentence."""
    if run.git_commit is None:
        return "It was made without a commit in git, so this may run other code and not give the same weights."
    made = f"It was made with commit {run.git_commit[:7]}"
    if run.changes_sha256 is not None:
        return f"{made} and files that differed from it; what differed was kept with the training, and is applied."
    if run.changes_left_out is not None:
        why = run.changes_left_out
        return f"{made} and files that differed from it, which were not kept, as {why}: the weights may differ."
    if run.git_dirty and run.machine is None:
        return f"{made}. Files had been changed since that commit and were not kept, so the weights may differ."
    return f"{made}."


def next_command(inputs: ReportInputs) -> str:
    """The command of the next experiment: the first prescription; else more epochs, or the other kind of network."""
    run, prescriptions = inputs.run, inputs.diagnosis.prescriptions
    if prescriptions:
        return experiment(prescriptions[0].override)
    if run.epochs == run.config["train"]["max_epochs"]:
        return experiment(f"train.max_epochs={2 * run.epochs}")
    other = "lenet" if run.config["model"]["name"] == "convnet" else "convnet"
    return experiment(f"model={other}")
