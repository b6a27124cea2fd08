"""The report as a comment on a pull request."""

import re
from dataclasses import replace

import pytest

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.diagnosis import Concern, Prescribed
from pipeline.config.grammar import experiment
from pipeline.page import summary
from pipeline.page.comment import MARK, comment
from pipeline.page.inputs import ReportInputs

HOSTILE = "'<img src=x onerror=alert(1)> | [a](https://evil.example) `@everyone` #1\n# Heading\x1b[2J'"


@pytest.fixture
def inputs(report_inputs: ReportInputs) -> ReportInputs:
    return report_inputs


def with_changes(inputs: ReportInputs, **changes: object) -> ReportInputs:
    return replace(inputs, diagnosis=inputs.diagnosis.model_copy(update=changes))


def test_a_comment_tells_verdict_accuracy_and_the_next_command(inputs: ReportInputs) -> None:
    inputs = with_test_accuracy(with_changes(inputs, concerns=[], prescriptions=[]), 0.8)
    text = comment(inputs)
    lines = text.splitlines()
    assert lines[:2] == [MARK, "### Inconclusive"] and text.endswith("```\n")
    assert lines[3].startswith(r"Inconclusive: training 0.875, validation 0.812, gap 0.062 \[\-0.")
    assert inputs.diagnosis.meaning in lines[3]
    assert lines[5].startswith("Test accuracy: 0.8") and lines[5].endswith(r"\] on 30 images.")
    assert "\nNo concerns.\n" in text
    assert lines[-2] == summary.next_command(inputs)


def with_test_accuracy(inputs: ReportInputs, value: float) -> ReportInputs:
    accuracy = Interval(value=value, low=value - 0.1, high=value + 0.1)
    scores = inputs.evaluation.scores.model_copy(update={"accuracy": accuracy})
    return replace(inputs, evaluation=inputs.evaluation.model_copy(update={"scores": scores}))


def test_a_test_accuracy_far_below_that_of_validation_is_a_concern(inputs: ReportInputs) -> None:
    low = inputs.diagnosis.interval("val_accuracy").low
    text = comment(with_test_accuracy(with_changes(inputs, concerns=[]), low - 0.11))
    assert "**Concerns**" in text and "test below validation: the test accuracy is " in text


def test_an_accuracy_on_confirm_far_below_that_of_validation_is_a_concern_too(inputs: ReportInputs) -> None:
    val = inputs.diagnosis.interval("val_accuracy")
    for far, told in ((0.01, True), (-0.01, False)):
        confirm = Interval(value=val.low - far - 0.1, low=val.low - far - 0.2, high=val.low - far)
        measured = inputs.evaluation.model_copy(update={"confirm": confirm})
        text = comment(with_test_accuracy(replace(with_changes(inputs, concerns=[]), evaluation=measured), 0.8))
        assert ("confirm below validation: the confirm accuracy is " in text) == told


def test_each_concern_stands_with_its_evidence_and_its_step(inputs: ReportInputs) -> None:
    concerns = [
        Concern(
            name="split_shift", evidence=evidence, interval=Interval(value=0.1, low=0.05, high=0.15), step="draw anew"
        )
        for evidence in ("'cat' is 30.0% of test and 20.0% of train", "another")
    ]
    text = comment(with_changes(inputs, concerns=concerns))
    first = r"\- split shift: 'cat' is 30.0% of test and 20.0% of train; draw anew."
    assert f"**Concerns**\n\n{first[1:]}\n- split shift: another" in text and "No concerns" not in text


def test_the_first_prescriptions_are_commands(inputs: ReportInputs) -> None:
    overrides = ["regularization.l2=1", "augment=standard", "train.early_stopping={patience: 3}", "model=lenet"]
    prescriptions = [Prescribed(remedy="x", override=override, strengths=[]) for override in overrides]
    lines = comment(with_changes(inputs, prescriptions=prescriptions)).splitlines()
    assert lines[-5:] == ["```sh", *map(experiment, overrides[:3]), "```"]


def test_a_name_can_be_neither_markup_nor_mention_nor_link(inputs: ReportInputs) -> None:
    concern = Concern(
        name="split_shift", evidence=HOSTILE, interval=Interval(value=0.1, low=0.0, high=0.2), step="look"
    )
    lines = comment(with_changes(inputs, concerns=[concern])).splitlines()
    (line,) = (line for line in lines if "split shift" in line)
    assert "Heading" in line and "\x1b" not in line
    assert not re.search(r"(?<!\\)[<>\[\]`|#]", line.removeprefix("- "))
    assert "@everyone" not in line and "https://" not in line and "#1" not in line
    assert [line for line in lines if line.startswith("#")] == ["### Inconclusive"]
