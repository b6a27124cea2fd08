"""The README keeps its word: its commands run, its keys exist, its links lead somewhere."""

import re
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from pipeline.config import validation
from pipeline.config.composition import compose
from pipeline.config.schema import Config
from tests.conftest import ROOT, command_runner
from tests.loopback import free_port
from tests.test_own_images import write_digits
from tests.test_train import started

README = (ROOT / "README.md").read_text()


def commands() -> list[list[str]]:
    """The words of every line in the README's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = (shlex.split(line, comments=True) for block in blocks for line in block.splitlines())
    return [words for words in lines if words]


def flat(values: dict[str, Any], prefix: str = "") -> set[str]:
    keys = {f"{prefix}{key}" for key in values}
    return keys.union(*(flat(value, f"{prefix}{key}.") for key, value in values.items() if isinstance(value, dict)))


def test_every_target_of_make_exists() -> None:
    targets = {words[1] for words in commands() if words[0] == "make"}
    assert {"run", "test"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_every_key_exists() -> None:
    configurations = [compose(ROOT / "conf", ROOT / "params.yaml", [f"model={name}"]) for name in ("lenet", "convnet")]
    known = set().union(*(flat(yaml.safe_load(validation.as_yaml(config))) for config in configurations))
    sections = "|".join(Config.model_fields)
    named = set(re.findall(rf"`((?:{sections})(?:\.\w+)+)(?:=[^`]*)?`", README))
    assert len(named) > 10 and named <= known, f"the README names {sorted(named - known)}"


def test_every_link_leads_to_a_file() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets and all((ROOT / target).exists() for target in targets)


def test_every_command_runs(ready: Path) -> None:
    run, port = command_runner(ready), str(free_port())
    write_digits(ready / "photos", limit=400)
    ran = 0
    for program, *arguments in commands():
        if program in ("make", "source"):  # `make run` and `make test` stand in .ci/run
            continue
        ran += 1
        if [program, *arguments] == ["mlflow", "ui"]:
            wait_for_page(ready, port)
        elif program == "python":
            assert arguments[0] == "-m"
            run(*arguments[1:])
        else:
            run(program, *arguments)
    assert ran > 8
    assert (ready / "multirun").exists() and (ready / "outputs").exists()


def wait_for_page(project: Path, port: str) -> None:
    with started(project, "mlflow", "ui", "--port", port) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                assert requests.get(f"http://127.0.0.1:{port}", timeout=5).ok
            except requests.ConnectionError:
                time.sleep(0.2)
            else:
                process.send_signal(signal.SIGTERM)
                return
    pytest.fail("mlflow ui gave no page within a minute")
