"""What a program says of what a killed one left."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Command, command_runner

WARNING = "git: a `dvc exp run` that was killed left the checkout without its branch. `git switch {branch}` mends it"


@pytest.fixture
def detached(project: Path) -> Path:
    """A project as a killed `dvc exp run` leaves it."""
    run = command_runner(project)
    with (project / "params.yaml").open("a") as file:
        file.write("# chosen with -S\n")
    run("git", "checkout", "-q", "--detach")
    run("git", "update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    return project


def said(run: Command, **variables: str) -> str:
    return run("pipeline.sync", **variables).stderr


def test_a_detached_head_is_told_with_the_line_that_mends_it(detached: Path) -> None:
    run = command_runner(detached)
    branch = run("git", "rev-parse", "--abbrev-ref", "@{-1}").stdout.strip()
    assert WARNING.format(branch=branch) in said(run)
    run("git", "switch", "-q", branch)
    assert "git:" not in said(run) and "chosen with -S" in (detached / "params.yaml").read_text()


def test_nothing_is_told_while_an_experiment_runs(detached: Path) -> None:
    run = command_runner(detached)
    assert "git:" not in said(run, DVC_EXP_NAME="larky-tegu")
    note = {"write": {"build/train": {"pid": os.getpid(), "cmd": "/usr/bin/dvc exp run -S model=resnet"}}, "read": {}}
    (detached / ".dvc" / "tmp").mkdir(exist_ok=True)
    (detached / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(note))
    assert "git:" not in said(run)


def test_a_commit_that_the_user_chose_is_no_damage(project: Path) -> None:
    run = command_runner(project)
    run("git", "checkout", "-q", "--detach")
    assert "git:" not in said(run)
