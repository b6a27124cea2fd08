"""MLflow's own pages of a finished project in a real browser, at desktop width: what its run, model and version tell.

Screenshots lie in the folder that GOODFIT_SCREENSHOTS names. Needs Debian's chromium: apt-get install chromium.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.artefacts.evaluation import EvaluationRecord
from tests.conftest import command_runner
from tests.loopback import free_port
from tests.registered import MlflowServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SECONDS = 60
"""Time that a page of MLflow's may take to show a text, on a busy machine."""


@dataclass(frozen=True)
class Shown:
    """A project whose package is champion, and MLflow's server of its store."""

    project: Path
    url: str
    run_id: str
    model_id: str
    experiment_id: str


@pytest.fixture(scope="module")
def shown(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    project = Path(shutil.copytree(finished_project, tmp_path_factory.mktemp("shown") / "project", symlinks=True))
    said = command_runner(project)("pipeline.register", "register.refused_verdicts=[]").stdout
    assert said.startswith("digits version 1 is @champion: "), said
    server = MlflowServer(f"http://127.0.0.1:{free_port()}", project)
    try:
        server.start()
        client = MlflowClient(server.url)
        version = client.get_model_version_by_alias("digits", "champion")
        run = client.get_run(str(version.run_id)).info
        model_id = str(version.source).removeprefix("models:/")
        yield Shown(project, server.url, run.run_id, model_id, run.experiment_id)
    finally:
        server.kill()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(1000 * SECONDS)
    yield context.new_page()
    context.close()


def read(page: "Page", address: str, until: str, name: str) -> list[str]:
    """The lines of a page, once it shows a text: it is drawn by scripts, which ask the server for each part."""
    page.goto(address)
    page.get_by_text(until).first.wait_for()
    page.wait_for_timeout(1000)
    if folder := os.environ.get("GOODFIT_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/mlflow-{name}.png", full_page=True)
    text = page.locator("body").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


def after(lines: list[str], name: str, count: int = 1) -> list[str]:
    """The lines below the last one that is this name."""
    index = len(lines) - 1 - lines[::-1].index(name)
    return lines[index + 1 : index + 1 + count]


def verdict_of(shown: Shown) -> str:
    return DiagnosisRecord.read(shown.project / "build" / "diagnose").verdict


def accuracy_of(shown: Shown) -> str:
    return str(EvaluationRecord.read(shown.project / "build" / "evaluate").scores.accuracy)


def test_the_page_of_a_run_tells_its_verdict_metrics_dataset_and_version(shown: Shown, page: "Page") -> None:
    lines = read(
        page, f"{shown.url}/#/experiments/{shown.experiment_id}/runs/{shown.run_id}", "Registered models", "run"
    )
    title = verdict_of(shown).replace("_", " ").capitalize()
    (told,) = after(lines, "Description")
    assert told.startswith(f"{title}; concerns: ") and f"accuracy: {accuracy_of(shown)} on test images" in told
    assert f"python -m pipeline.predict FOLDER --model models:/{shown.model_id}" in lines
    (metrics,) = (line for line in lines if line.startswith("Metrics ("))
    assert int(metrics.removeprefix("Metrics (").rstrip(")")) > 30 and "test/accuracy" in lines
    (dataset,) = after(lines, "Datasets")
    assert dataset.startswith("digits (") and "Logged models (1)" in lines
    tags = after(lines, "Tags", 60)
    for name, value in (("verdict", verdict_of(shown)), ("data", "digits"), ("model", "lenet")):
        assert tags[tags.index(name) + 1] == f": {value}"
    assert after(lines, "Registered models", 2) == ["digits", "v1"]


def test_the_page_of_a_model_tells_its_metrics_dataset_and_version(shown: Shown, page: "Page") -> None:
    address = f"{shown.url}/#/experiments/{shown.experiment_id}/models/{shown.model_id}"
    lines = read(page, address, "About this logged model", "model")
    (metrics,) = (line for line in lines if line.startswith("Metrics ("))
    assert int(metrics.removeprefix("Metrics (").rstrip(")")) > 5
    dataset, run, value = after(lines, "test/accuracy", 3)
    assert dataset.startswith("digits (#") and run.startswith("lenet-digits-")
    scores = EvaluationRecord.read(shown.project / "build" / "evaluate").scores
    assert float(value) == pytest.approx(scores.accuracy.value)
    assert after(lines, "Datasets used")[0].startswith("digits (#") and after(lines, "Model versions", 2) == [
        "digits",
        "v1",
    ]
    assert "Not registered" not in lines and "No description" not in lines
    assert f"python -m pipeline.register register.package=models:/{shown.model_id}" in lines


def test_the_page_of_a_registered_version_tells_its_alias_and_its_card(shown: Shown, page: "Page") -> None:
    lines = read(page, f"{shown.url}/#/models/digits/versions/1", "test_accuracy", "version")
    assert after(lines, "Aliases", 2) == [":", "@ champion"]
    card = (shown.project / "build" / "package" / "card.md").read_text(encoding="utf-8")
    assert lines[lines.index("Edit") + 1] == card.splitlines()[0].removeprefix("# ")
    assert "Licence: CC BY 4.0" in lines and any(line.endswith(accuracy_of(shown)) for line in lines)
    table = after(lines, "Tags", 60)
    scores = EvaluationRecord.read(shown.project / "build" / "evaluate").scores
    for name, value in (("verdict", verdict_of(shown)), ("test_accuracy", f"{scores.accuracy.value:.4f}")):
        assert table[table.index(name) + 1] == value


def test_the_experiment_opens_on_runs_at_the_documented_address(shown: Shown, page: "Page") -> None:
    assert shown.experiment_id == "1"
    address = f"{shown.url}/#/experiments/1?workflowType=machine_learning"
    lines = read(page, address, "1 matching run", "experiment")
    assert "lenet-digits-light-seed0" in lines and "Prompts" not in lines
