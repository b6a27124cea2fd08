"""The workflow for pull requests: it keeps to GitHub's schema, asks for little, and its scripts do what they say.

GitHub itself is not run: the scripts run here in their order, with a stand-in for `gh` that notes what it was told, and the
actions of GitHub (checkout, cache, upload) are left out.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.page.comment import MARK
from tests.conftest import ROOT, command_runner, environment, forked

PATH = ROOT / ".github" / "workflows" / "pull-request.yml"
TEXT = PATH.read_text(encoding="utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOB: dict[str, Any] = WORKFLOW["jobs"]["pipeline"]
STEPS: list[dict[str, Any]] = JOB["steps"]
SCRIPTS = [step for step in STEPS if "run" in step]

TRIGGERS: dict[str, Any] = WORKFLOW[True]  # YAML 1.1 takes the word `on` for true


def test_workflow_keeps_to_the_schema() -> None:
    check = ["check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(PATH)]
    done = subprocess.run([sys.executable, "-m", *check], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflow_asks_for_no_more_than_it_uses() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert JOB["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert set(TRIGGERS) == {"pull_request", "push"}, "pull_request_target would give the code of a fork our token"
    checkout = STEPS[0]
    assert checkout["uses"].startswith("actions/checkout@") and checkout["with"]["persist-credentials"] is False
    assert re.findall(r"secrets\.\w+", TEXT) == []
    (posts,) = (step for step in STEPS if "GH_TOKEN" in step.get("env", {}))
    assert "github.event.pull_request.head.repo.full_name == github.repository" in posts["if"]


def test_actions_are_github_s_own_and_pinned() -> None:
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert len(used) == 4 and all(re.fullmatch(r"actions/[\w-]+@v\d+[.\d]*", name) for name in used)


def test_scripts_take_nothing_that_a_stranger_writes_into_their_text() -> None:
    assert not [step["name"] for step in SCRIPTS if "${{" in step["run"]], "values go through the environment"


def test_scripts_use_what_the_project_has() -> None:
    text = "\n".join(step["run"] for step in SCRIPTS)
    targets = set(re.findall(r"^\s*make (\w+)", text, re.MULTILINE))
    assert targets and targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert f'startswith("{MARK}")' in text


GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$GH_CALLS"
case "$*" in
    *--paginate*) printf "$GH_FOUND" ;;
esac
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("found", "call", "with_remote"),
    [
        ("", "--method POST repos/me/it/issues/7/comments", False),
        ("12\\n13\\n", "--method PATCH repos/me/it/issues/comments/12", True),
    ],
)
def test_scripts_make_one_comment_with_what_a_change_does_to_the_metrics(
    project: Path, tmp_path: Path, found: str, call: str, with_remote: bool
) -> None:
    run = command_runner(project)
    run("git", "branch", "-M", "main")
    if with_remote:
        run("dvc", "remote", "add", "-d", "store", str(tmp_path / "remote"))
        run("git", "commit", "-qam", "Add a remote")
    run("git", "switch", "-qc", "change")
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("max_epochs: 2", "max_epochs: 3"))
    run("git", "commit", "-qam", "Train longer")
    run("git", "switch", "-q", "main")
    run("git", "merge", "-q", "--no-ff", "-m", "Merge", "change")

    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in {"gh": GH, "make": "#!/bin/sh\n"}.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    context = {"steps.report.outputs.artifact-url": "https://github.example/report", "github.token": "t",
               "github.event.pull_request.number": "7"}  # fmt: skip
    variables = {
        "GITHUB_SHA": run("git", "rev-parse", "HEAD").stdout.strip(), "GITHUB_REPOSITORY": "me/it",
        "RUNNER_TEMP": str(tmp_path), "GITHUB_PATH": str(tmp_path / "path"), "GH_CALLS": str(tmp_path / "calls"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GH_FOUND": found,
        "PATH": f"{tools}:{forked()['PATH']}",
    }  # fmt: skip
    for step in SCRIPTS:
        own = {name: context[value.strip("${} ")] for name, value in step.get("env", {}).items()}
        done = run("bash", "-e", "-c", step["run"], **variables, **own)
        assert "::warning::" not in done.stdout

    text = (tmp_path / "comment.md").read_text()
    assert text.startswith(f"{MARK}\n### ") and "Test accuracy: " in text and "stopped at epoch 3 of 3" in text
    assert re.search(r"^\| Path +\| Metric +\| goodfit-base +\| workspace +\| Change +\|$", text, re.MULTILINE)
    assert re.search(
        r"^\| build\S+metrics\.json +\| \S+ +\| -?[\d.]+ +\| -?[\d.]+ +\| -?[\d.]+ +\|$", text, re.MULTILINE
    )
    assert "[Report](https://github.example/report)" in text
    assert (tmp_path / "summary").read_text() == text
    *_, last = (tmp_path / "calls").read_text().splitlines()
    assert call in last and last.endswith(f"--field body=@{tmp_path}/comment.md")
    assert len((tmp_path / "calls").read_text().splitlines()) == 2
    assert run("git", "log", "--format=%s", "goodfit-base", "-1").stdout == "Results of the base branch\n"
