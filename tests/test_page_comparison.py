"""Two trainings side by side on one page."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from pipeline.artefacts.predictions import Predictions
from pipeline.config.schema import Tracking
from pipeline.errors import DataError
from pipeline.metrics import history
from pipeline.metrics.paired import paired_shares
from pipeline.page import comparison
from pipeline.page.comparison import Side, compared, differing, headline, read_side
from pipeline.report import command
from pipeline.tracking.store import connect
from tests.page_artefacts import CLASSES, make_evaluated, rows
from tests.records import rewrite_record
from tests.test_report import read, section

KEYS = ("report.training", "report.evaluation", "report.diagnosis")
NAMES = ("training", "evaluation", "diagnosis")
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return make_evaluated(tmp_path_factory.mktemp("made"))


@pytest.fixture
def other(folders: Folders, tmp_path: Path) -> Folders:
    """Another training on the same images, right on nine of ten, of four epochs, with a password in its configuration."""
    return another(folders, tmp_path / "other")


def another(folders: Folders, root: Path) -> Folders:
    mine = {name: Path(shutil.copytree(folders[name], root / name)) for name in NAMES}
    config = {
        **side(folders).run.config, "model": {"name": "lenet", "width": 2.0},
        "tracking": {"uri": "https://bob:sesame@elsewhere.org"},
    }  # fmt: skip
    rewrite_record(mine["training"] / "run.json", id="9e9e", name="other", config=config, epochs=4, best_epoch=4)
    (mine["training"] / "history.csv").write_text(history.to_csv(rows(4)))
    for file in (mine["evaluation"] / "details.json", mine["diagnosis"] / "diagnosis.json"):
        rewrite_record(file, training="9e9e")
    predictions = Predictions.read(mine["evaluation"])
    guesses = np.where(np.arange(30) % 10, predictions.labels, (predictions.labels + 1) % 3)
    order = np.arange(30)[::-1]  # the order of the rows must not matter
    Predictions(
        [predictions.ids[index] for index in order], predictions.labels[order],
        (0.8 * np.eye(3, dtype=np.float32)[guesses] + np.float32(0.2 / 3))[order],
    ).write(mine["evaluation"])  # fmt: skip
    return mine


def side(made: Folders, place: str = "somewhere") -> Side:
    return read_side(place, made["training"], made["evaluation"], made["diagnosis"], KEYS)


def test_accuracies_on_the_same_images_are_compared_image_by_image(folders: Folders, other: Folders) -> None:
    first, second = side(folders), side(other)
    assert first.predictions is not None
    right = first.predictions.predicted == first.predictions.labels
    expected = paired_shares(right, np.arange(30) % 10 > 0)
    assert compared(first, second) == expected and expected.lost > expected.gained
    text = headline(first, second)
    assert text.startswith("On the same 30 test images made is right on 0.") and f"p = {expected.p:.2g}" in text
    assert f"{expected.difference:+.3f} [{expected.low:+.3f}, {expected.high:+.3f}]" in text
    assert text.endswith("the difference is clear.")


@pytest.mark.parametrize("change", ["ids", "labels", "dataset", "classes"])
def test_on_other_images_the_difference_is_that_of_two_samples(folders: Folders, other: Folders, change: str) -> None:
    predictions = Predictions.read(other["evaluation"])
    if change == "ids":
        predictions.ids[0] = "test/another"
    if change == "labels":
        predictions = replace(predictions, labels=(predictions.labels + 1) % 3)
    predictions.write(other["evaluation"])
    if change == "dataset":
        dataset = side(folders).run.dataset.model_dump()
        rewrite_record(other["training"] / "run.json", dataset={**dataset, "name": "another"})
    if change == "classes":
        path = other["evaluation"] / "per_class.csv"
        path.write_text(path.read_text().replace("circle", "disc"))
    first, second = side(folders), side(other)
    assert compared(first, second) is None
    assert "measured on different images" in headline(first, second) and "Newcombe" in headline(first, second)
    assert 'id="classes"' not in comparison.render(first, second, "again")


def test_a_training_without_an_evaluation_is_compared_by_its_curves(folders: Folders, other: Folders) -> None:
    second = read_side("there", other["training"], None, None, KEYS)
    text = headline(side(folders), second)
    assert text == "Without an evaluation of other, only curves and configurations are compared."
    page = comparison.render(side(folders), second, "again")
    assert "Not diagnosed." in section(page, "verdicts") and "test accuracy" not in section(page, "scores")
    assert "validation accuracy0.8120.812+0.000" in section(page, "scores")


def test_page_shows_what_differs_and_no_password(folders: Folders, other: Folders) -> None:
    page = comparison.render(side(folders), side(other), "python -m pipeline.report --against x")
    text = section(page, "configuration")
    assert "model.nameconvnetlenet" in text and "model.width–2.0" in text
    assert "optimizer.lr" not in text, "the same in both"
    assert "example.org" in text and "sesame" not in page and "secret" not in page
    assert "python -m pipeline.report --against x" in section(page, "again")


def test_page_draws_both_curves_in_the_same_axes_and_is_closed(folders: Folders, other: Folders) -> None:
    page = comparison.render(side(folders), side(other), "again")
    elements = read(page).elements
    drawn = [attrs for tag, attrs in elements if tag == "polyline"]
    assert [attrs["class"] for attrs in drawn] == 2 * ["first clean", "first val", "second clean", "second val"]
    assert [len(attrs["points"].split()) for attrs in drawn] == 2 * [6, 6, 4, 4]
    longest, shortest = (drawn[place]["points"].split()[3].split(",")[0] for place in (0, 2))
    assert longest == shortest, "the fourth epoch stands at one place"
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in elements if tag == "th")


def test_classes_stand_by_their_change_with_a_paired_interval(folders: Folders, other: Folders) -> None:
    first, second = side(folders), side(other)
    page = comparison.render(first, second, "again")
    assert CLASSES[2] not in page
    (table,) = re.findall(r'aria-label="Recall of each class">(.*?)</table>', page, re.S)
    found = [float(text) for text in re.findall(r"<span[^>]*>([+-]\d\.\d{3}) \[", table)]
    assert len(found) == 3 and found == sorted(found, reverse=True)
    assert first.predictions is not None
    hits = first.predictions.predicted == first.predictions.labels
    recalls = [hits[first.predictions.labels == label].mean() for label in range(3)]
    theirs = [(np.arange(30) % 10 > 0)[np.arange(30) % 3 == label].mean() for label in range(3)]
    expected = [one - other for one, other in zip(recalls, theirs, strict=True)]
    assert found == pytest.approx(sorted(expected, reverse=True), abs=1e-3)


def test_runs_of_one_name_are_told_apart_by_their_ids(folders: Folders, other: Folders) -> None:
    rewrite_record(other["training"] / "run.json", name="made")
    assert comparison.titles(side(folders), side(other)) == ("made (6d1f)", "made (9e9e)")


def test_differing_lists_are_told_as_yaml() -> None:
    assert differing({"a": [1, {"b": 2}]}, {"a": [1]}) == [("a", "[1, {b: 2}]", "[1]")]
    assert differing({"a": {}}, {"a": {"b": None}}) == [("a", "{}", "–"), ("a.b", "–", "null")]


def test_outputs_of_another_training_are_refused(folders: Folders, other: Folders) -> None:
    with pytest.raises(
        DataError, match=r"report.evaluation must be an output of evaluate for the training in 'x'; got"
    ):
        read_side("x", folders["training"], other["evaluation"], None, KEYS)
    with pytest.raises(DataError, match=r"report.diagnosis must be an output of diagnose for the training in 'x'; got"):
        read_side("x", folders["training"], None, other["diagnosis"], KEYS)


@pytest.fixture
def compare(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command for the training in `folders`; gives what it prints."""

    def run(*arguments: str, **overrides: Any) -> str:
        mine = [f"report.{name}={folders[name]}" for name in NAMES]
        command(
            [
                *arguments,
                "--out",
                str(tmp_path / "page"),
                *mine,
                *(f"{key}={value}" for key, value in overrides.items()),
            ]
        )
        return capsys.readouterr().out

    return run


def test_the_command_compares_with_a_folder_of_a_training(
    compare: Callable[..., str], other: Folders, tmp_path: Path
) -> None:
    named = ["--against-evaluation", str(other["evaluation"]), "--against-diagnosis", str(other["diagnosis"])]
    printed = compare("--against", str(other["training"]), *named)
    assert printed.startswith("On the same 30 test images made is right on") and "Look at" in printed
    page = (tmp_path / "page" / "index.html").read_text()
    assert "made" in page and str(other["training"]) in section(page, "verdicts")
    assert "only curves and configurations are compared" in compare("--against", str(other["training"]))


def test_the_command_compares_with_a_folder_of_all_stages(
    compare: Callable[..., str], other: Folders, tmp_path: Path
) -> None:
    for name, stage in zip(NAMES, ("train", "evaluate", "diagnose"), strict=True):
        shutil.copytree(other[name], tmp_path / "build" / stage)
    assert compare("--against", str(tmp_path / "build")).startswith("On the same 30 test images")


def test_a_folder_without_a_training_is_refused(compare: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"--against must be a run in MLflow, a folder of a training \(with run.json\), or"
    ):
        compare("--against", str(tmp_path))


def test_the_command_compares_with_a_run_in_mlflow(
    compare: Callable[..., str], other: Folders, settings: Tracking, tmp_path: Path
) -> None:
    store, artefacts = connect(settings), str(tmp_path / "artefacts")
    client: MlflowClient = store.client
    client.create_experiment("elsewhere", artifact_location=artefacts)
    experiment = client.get_experiment_by_name("elsewhere")
    assert experiment is not None
    run, empty = (client.create_run(experiment.experiment_id).info.run_id for _ in range(2))
    for name, folder in zip(NAMES, ("training", "evaluate", "diagnose"), strict=True):
        client.log_artifacts(run, str(other[name]), folder)
    place = f"'{settings.uri}'"
    printed = compare("--against", run, **{"tracking.uri": place})
    assert printed.startswith("On the same 30 test images made is right on")
    assert f"{run}, training 9e9e" in section((tmp_path / "page" / "index.html").read_text(), "verdicts")
    with pytest.raises(DataError, match=r"--against must be the run of a training of goodfit; '.*' in .* holds none"):
        compare("--against", empty, **{"tracking.uri": place})
    with pytest.raises(DataError, match=r"--against must be a run of sqlite:.*; got 'nosuch': "):
        compare("--against", "nosuch", **{"tracking.uri": place})
