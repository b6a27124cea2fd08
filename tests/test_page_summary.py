"""The sentences of the report."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides

from pipeline.artefacts.diagnosis import Prescribed
from pipeline.artefacts.signals import SignalsRecord
from pipeline.config import composition
from pipeline.config.grammar import experiment
from pipeline.page import summary
from pipeline.page.inputs import ReportInputs
from tests.conftest import ROOT


@pytest.fixture
def inputs(report_inputs: ReportInputs) -> ReportInputs:
    return report_inputs


def test_fit_line_tells_the_verdict_its_evidence_and_why_it_stopped(inputs: ReportInputs) -> None:
    line = summary.fit_line(inputs)
    assert line.startswith("Inconclusive: training 0.875, validation 0.812, gap 0.062 [-")
    assert line.endswith("stopped at epoch 6 of 15 because val/loss had not improved for 2 epochs.")


def test_the_line_of_the_accuracy_tells_the_interval_and_the_number_of_images(inputs: ReportInputs) -> None:
    accuracy = inputs.evaluation.scores.accuracy
    text = f"{accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]"
    assert summary.accuracy_line(inputs) == f"Test accuracy: {text} on 30 images."
    without = replace(inputs, evaluation=inputs.evaluation.model_copy(update={"split": "val"}))
    assert summary.accuracy_line(without) == f"Validation accuracy: {text} on 30 images."


def changed(signals: SignalsRecord, **changes: Any) -> SignalsRecord:
    return signals.model_copy(update=changes)


def test_checks_pass_near_chance_and_with_one_batch_learned(inputs: ReportInputs) -> None:
    start, batch = summary.checks(inputs.signals)
    assert start.passed and "the first loss is 1.100, and guessing among 3 classes gives ln 3 = 1.099" in start.text
    assert batch.passed and "loss from 1.090 to 0.010 in 20 steps, 100% of that batch right" in batch.text


@pytest.mark.parametrize("loss", [0.9, 1.3])
def test_check_fails_where_the_first_loss_is_far_from_chance(inputs: ReportInputs, loss: float) -> None:
    start, _ = summary.checks(changed(inputs.signals, initial_loss=loss))
    assert not start.passed


def test_check_fails_where_one_batch_was_not_learned(inputs: ReportInputs) -> None:
    one_batch = inputs.signals.one_batch.model_copy(update={"passed": False, "accuracy_after": 0.5, "steps": 1})
    _, batch = summary.checks(changed(inputs.signals, one_batch=one_batch))
    assert not batch.passed and "in 1 step, 50% of that batch right" in batch.text


def test_the_command_that_repeats_a_training_names_its_run_else_its_folder(inputs: ReportInputs) -> None:
    def command(**changes: Any) -> str:
        return summary.command_again(replace(inputs, folder="build/train", run=inputs.run.model_copy(update=changes)))

    assert command(mlflow_run_id="3f2a") == "python -m pipeline.reproduce 3f2a"
    assert command() == "python -m pipeline.reproduce build/train"
    assert command(git_commit=None) == "python -m pipeline.train model=convnet"
    assert command(git_commit=None, overrides="") == "dvc repro"


def test_the_page_says_which_code_a_training_was_made_with(inputs: ReportInputs) -> None:
    def line(**changes: Any) -> str:
        return summary.code_line(inputs.run.model_copy(update=changes))

    assert line() == "It was made with commit 0123abc."
    assert line(git_dirty=True, changes_sha256="0" * 64).endswith("kept with the training, and is applied.")
    assert "which were not kept, as it is larger than 10 MB: " in line(changes_left_out="it is larger than 10 MB")
    assert "Files had been changed since that commit and were not kept" in line(git_dirty=True)
    assert line(git_commit=None).startswith("It was made without a commit in git")


@pytest.mark.parametrize(
    ("name", "epochs", "command"),
    [
        ("convnet", 6, "dvc exp run -S ++model=lenet"),
        ("lenet", 6, "dvc exp run -S ++model=convnet"),
        ("lenet", 15, "dvc exp run -S ++train.max_epochs=30"),
    ],
)
def test_next_command_asks_for_more_epochs_only_where_they_ran_out(
    inputs: ReportInputs, name: str, epochs: int, command: str
) -> None:
    config = {**inputs.run.config, "model": {"name": name}}
    run = inputs.run.model_copy(update={"epochs": epochs, "config": config})
    diagnosis = inputs.diagnosis.model_copy(update={"prescriptions": []})
    assert summary.next_command(replace(inputs, run=run, diagnosis=diagnosis)) == command


@pytest.mark.long
@pytest.mark.parametrize(
    "override",
    [
        *(
            "augment=standard",
            "augment.strength=1.5",
            "regularization.l2=0.1",
            "model.dropout=0.5",
            "model.normalization=group",
        ),
        *("optimizer.lr=auto", "scheduler.warmup_fraction=0.1", "prepare.size=48", "train.gradient_clip_norm=1"),
        *("train.early_stopping={patience: 3, restore_best: true}", "train.max_epochs=40", "model=resnet"),
    ],
)
def test_a_printed_command_can_be_typed_twice(override: str, tmp_path: Path) -> None:
    params = Path(shutil.copy2(ROOT / "params.yaml", tmp_path))
    params.write_text(params.read_text().replace("name: lenet", "name: convnet"))
    *command, option, argument = shlex.split(experiment(override))
    assert (command, option) == (["dvc", "exp", "run"], "-S")
    apply_overrides(str(params), [argument])
    once = params.read_text()
    apply_overrides(str(params), [argument])
    assert params.read_text() == once
    wanted = composition.compose(ROOT / "conf", ROOT / "params.yaml", ["model=convnet", override])
    assert composition.compose(ROOT / "conf", params, []) == wanted


def test_next_command_is_what_was_prescribed(inputs: ReportInputs) -> None:
    first = Prescribed(remedy="stop early", override="train.early_stopping={patience: 3}", strengths=[])
    prescribed = replace(inputs, diagnosis=inputs.diagnosis.model_copy(update={"prescriptions": [first]}))
    assert summary.next_command(prescribed) == "dvc exp run -S '++train.early_stopping={patience: 3}'"
