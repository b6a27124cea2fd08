"""The README keeps its word: its commands run, its keys exist, its links lead somewhere, and it stays short."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import requests

from tests.conftest import ROOT, command_runner
from tests.loopback import free_port
from tests.test_own_images import write_digits
from tests.test_train import started

README = (ROOT / "README.md").read_text(encoding="utf-8")

SMALL = {
    "pipeline.train": ["train.max_epochs=1"],
    "pipeline.cure": ["prepare.val_fraction=0.2", "cure.seeds=1", "cure.confirm_seeds=3", "cure.max_runs=2"],
    "pipeline.ablate": ["prepare.val_fraction=0.2", "ablate.seeds=2", "ablate.only=[early_stopping,dropout]"],
}
"""Overrides that shorten a command; they follow the README's own, of which all are composed."""
for command in ("pipeline.cure", "pipeline.ablate"):
    SMALL[command] += ["data=digits", "prepare.limit=60", "train.max_epochs=1", "hydra/launcher=basic"]


def fences(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every line in the README's shell blocks, without comments."""
    lines = (shlex.split(line, comments=True) for block in fences("sh") for line in block.splitlines())
    return [words for words in lines if words]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 110 and len(README.split()) <= 850


def test_every_target_of_make_exists() -> None:
    targets = {words[1] for words in commands() if words[0] == "make"}
    assert {"run", "test"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_every_link_leads_to_a_file() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets and all((ROOT / target).exists() for target in targets)


def test_the_picture_of_the_report_loads_fast() -> None:
    [picture] = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert (ROOT / picture).stat().st_size <= 200_000


def test_the_callback_is_made_as_shown() -> None:
    import pytorch_lightning as pl

    [block] = fences("python")
    names = {"Trainer": lambda callbacks: callbacks}
    exec(block, names)
    assert all(isinstance(callback, pl.Callback) for callback in names["trainer"])  # type: ignore[attr-defined]


LONG = ("pipeline.cure", "pipeline.ablate")
"""Commands of many trainings, which tests of their own run too; `test_docs` composes what the README gives them."""


@pytest.mark.parametrize(
    "long", [pytest.param(False, marks=pytest.mark.long), pytest.param(True, marks=pytest.mark.slow)]
)
def test_every_command_runs(ready: Path, long: bool) -> None:
    """The pipeline's commands run shortened, in forks of one process; the others run as they stand."""
    run = command_runner(ready)
    write_digits(ready / "photos", limit=400)
    shutil.copy(ROOT / "tests" / "histories" / "keras.csv", ready / "log.csv")
    write_new(ready / "new")
    ran = set()
    for program, *arguments in commands():
        if program == "make" or (program == "python" and arguments[1] in LONG) != long:
            continue  # `make run` and `make test` stand in .ci/run
        if [program, *arguments] == ["mlflow", "ui"]:
            wait_for_page(ready, str(free_port()))
            continue
        if program == "curl":
            continue  # asks the server, which `served` starts
        if arguments[-1] == "&":
            [question] = [words for words in commands() if words[0] == "curl"]
            served(ready, arguments[:-1], question)
            ran.add(arguments[1])
            continue
        if program == "python":
            ran.add(arguments[1])
            arguments = [*arguments, *SMALL.get(arguments[1], [])]
        arguments = [last_run(ready) if word == "3f2a…" else word for word in arguments]
        done = run(program, *arguments, check=False)
        expected = (0, 3) if "--fail-on" in arguments or "pipeline.predict" in arguments else (0,)
        assert done.returncode in expected, f"{program} {arguments} failed:\n{done.stdout}\n{done.stderr}"
    assert (
        ran == {*LONG} if long else ran == {"pipeline.diagnose", "pipeline.predict", "pipeline.serve", *SMALL} - {*LONG}
    )
    assert (ready / "multirun").exists()


def write_new(folder: Path) -> None:
    """One image, and one that was cut off."""
    folder.mkdir()
    shutil.copy(next(folder.parent.glob("photos/4/*.png")), folder / "four.png")
    (folder / "broken.png").write_bytes((folder / "four.png").read_bytes()[:40])


def served(project: Path, server: list[str], question: list[str]) -> None:
    """The server of the README is asked what the README asks it, on another port."""
    port = str(free_port())
    with started(project, "python", *server, "--port", port):
        asked = [word.replace(":8000/", f":{port}/") for word in question]
        answer = subprocess.run(
            [*asked, "--retry", "60", "--retry-delay", "1", "--retry-connrefused"], cwd=project, capture_output=True,
            text=True, timeout=150, check=True,
        )  # fmt: skip
    [prediction] = json.loads(answer.stdout)["predictions"]
    assert prediction["name"] == "four.png" and prediction["error"] is None and 0 < prediction["probability"] <= 1


def last_run(project: Path) -> str:
    """The id in MLflow of the training in build/train."""
    return str(json.loads((project / "build" / "train" / "run.json").read_text())["mlflow_run_id"])


def wait_for_page(project: Path, port: str) -> None:
    alone = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # without a dozen processes for jobs that nobody sends
    with started(project, "mlflow", "ui", "--port", port, "--workers", "1", **alone) as process:
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline and process.poll() is None:
            try:
                assert requests.get(f"http://127.0.0.1:{port}", timeout=5).ok
            except requests.ConnectionError:
                time.sleep(0.2)
            else:
                process.send_signal(signal.SIGTERM)
                return
    pytest.fail("mlflow ui gave no page within 150 seconds")
