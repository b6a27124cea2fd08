"""An ablation as a user runs it: real trainings on digits, each once, stopped and taken up again, its page and its run."""

import csv
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import Command, command_runner, copy_project
from tests.test_sweep import wait_until
from tests.test_train import all_runs, started

SMALL = ("train.max_epochs=2", "ablate.seeds=2", "augment=none", "prepare.limit=300", "hydra/launcher=basic")


def results(project: Path) -> Path:
    return max(project.glob("multirun/ablate/*/index.html")).parent


def num_trained(project: Path) -> int:
    return len(list(project.glob("build/cache/trained-*")))


def runs(project: Path) -> list[tuple[str, str, str | None]]:
    """Name, status and parent of each run."""
    return [(run.info.run_name, run.info.status, run.data.tags.get("mlflow.parentRunId")) for run in all_runs(project)]


def run_small(run: Command, *arguments: str) -> str:
    return run("pipeline.ablate", *SMALL, "ablate.only=[early_stopping,dropout]", *arguments).stdout


@pytest.mark.long
def test_an_ablation_trains_each_configuration_once_and_tells_what_came_of_it(project: Path) -> None:
    run = command_runner(project)
    printed = run_small(run)
    assert num_trained(project) == 4, "early stopping is read off the baseline's curves"
    assert re.search(r"3 arms, means of 2 seeds", printed)
    assert re.search(r"^dropout: ", printed, re.MULTILINE)
    assert re.search(r"Look at multirun/ablate/.*/index\.html$", printed, re.MULTILINE)
    with (results(project) / "effects.csv").open(newline="") as file:
        assert [row["arm"] for row in csv.DictReader(file)] == ["early_stopping", "dropout"]
    with (results(project) / "readings.csv").open(newline="") as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["1", "2"] * 3
    parents = [run for run in runs(project) if run[2] is None]
    assert [(name[:7], status) for name, status, _ in parents] == [("ablate-", "FINISHED")]
    assert sum(parent is not None for _, _, parent in runs(project)) >= 4

    before = num_trained(project)
    again = run("pipeline.ablate", *SMALL, "ablate.only=[dropout]").stdout
    assert "trained before" in again and num_trained(project) == before
    assert [line for line in again.splitlines() if line.startswith("dropout:")] == [
        line for line in printed.splitlines() if line.startswith("dropout:")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ("ablate.only=[droput]",),
            r"ablate\.only must name arms, .*; got 'droput'\. Did you mean 'dropout'",
            marks=pytest.mark.slow,  # it composes all arms; `test_lab_arms` has the words
        ),
        (("ablate.seeds=1",), r"ablate\.seeds must be a whole number >= 2; got 1"),
        (
            ("prepare.test_fraction=0",),
            r"prepare\.test_fraction must be > 0, as an ablation ends with the test split; got 0",
        ),
        pytest.param(
            ("ablate.tuned=nowhere",),
            r"ablate\.tuned must be the folder of a tuning that finished; got 'nowhere'",
            marks=pytest.mark.slow,  # it composes all arms; `test_lab_tuning` has the words
        ),
        (("--resume", "nowhere"), r"--resume must name the folder of a sweep of ablate; got '.*nowhere'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(
    project: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command_runner(project)("pipeline.ablate", *arguments, check=False)
    assert done.returncode == 1 and re.search(f"^error: {message}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr and num_trained(project) == 0


@pytest.mark.slow
def test_a_killed_ablation_goes_on_to_the_same_numbers(project: Path, tmp_path: Path) -> None:
    run = command_runner(project)
    run_small(run)
    undisturbed = (results(project) / "readings.csv").read_text()
    other = tmp_path / "other"
    copy_project(other)
    command = (sys.executable, "-m", "pipeline.ablate", *SMALL, "ablate.only=[early_stopping,dropout]")
    with started(other, *command) as process:
        wait_until(lambda: num_trained(other) >= 1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    [folder] = other.glob("multirun/ablate/[0-9]*")
    command_runner(other)("pipeline.ablate", "--resume", str(folder))
    assert (results(other) / "readings.csv").read_text() == undisturbed


@pytest.mark.slow
def test_a_tuning_chooses_strengths_that_an_ablation_then_takes(project: Path) -> None:
    run = command_runner(project)
    tuned = run("pipeline.ablate", *SMALL, "--tune", "ablate.only=[dropout]", "ablate.tune_seeds=1").stdout
    chosen = re.search(r"^dropout: (model\.dropout=0\.\d)$", tuned, re.MULTILINE)
    command = re.search(r"^    python -m (pipeline\.ablate .*ablate\.tuned=\S+)$", tuned, re.MULTILINE)
    assert chosen and command
    program, *arguments = shlex.split(command[1])
    run(program, *arguments)
    with (results(project) / "effects.csv").open(newline="") as file:
        assert [row["overrides"] for row in csv.DictReader(file)] == [chosen[1]]
    assert 'id="doses"' in (results(project) / "index.html").read_text()


@pytest.mark.slow
def test_a_budget_plans_the_seeds(project: Path) -> None:
    run = command_runner(project)
    printed = run("pipeline.ablate", *SMALL, "ablate.only=[dropout]", "--budget", "1").stdout
    planned = re.search(r"One seed of all arms takes \d+ s: (\d+) seeds fit into 1 minutes", printed)
    assert planned and f"2 arms, means of {planned[1]} seeds" in printed
    refused = run("pipeline.ablate", *SMALL, "ablate.only=[dropout]", "--budget", "0.001", check=False)
    assert re.search(
        r"error: ablate\.budget_minutes must allow two seeds, and one takes \d+ s; got 0\.001", refused.stderr
    )
