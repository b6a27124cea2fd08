"""A cure as a user runs it: on digits, real trainings, its refusals, its page, its runs, and after a kill."""

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.rounds import RoundsRecord
from pipeline.artefacts.run import RunRecord
from pipeline.stage.inputs import input_folder
from tests.conftest import command_runner, copy_project, environment, forked
from tests.test_ablate import num_trained, runs
from tests.test_sweep import wait_until
from tests.test_train import started

UNFINISHED = (
    "data=digits", "augment=none", "prepare.limit=300", "train.max_epochs=4", "train.batch_size=30", "optimizer.lr=0.0003",
    "scheduler=constant", "cure.seeds=1", "cure.confirm_seeds=3", "cure.max_runs=14", "hydra.launcher.n_jobs=2",
)  # fmt: skip
"""A training that ends long before it has settled; one round fits into the budget."""


BASIC = "hydra/launcher=basic"
"""Trains in the process of the command, whose libraries are imported already."""


def result(project: Path) -> RoundsRecord:
    [path] = project.glob("multirun/cure/*/rounds.json")
    return RoundsRecord.read(path.parent)


@pytest.mark.slow
def test_what_ends_too_early_is_trained_longer_and_the_change_is_written(project: Path) -> None:
    run = command_runner(project)
    printed = run("pipeline.cure", *UNFINISHED, "--apply").stdout
    cure = result(project)
    assert cure.rounds[0].verdict == "still_learning"
    assert cure.adopted and cure.rounds[0].adopted
    assert cure.rounds[0].confirmation is not None and cure.rounds[0].confirmation.accuracy.low > 0
    assert re.search(r"^round 1: still learning; .* adopted: accuracy \+", printed, re.MULTILINE)
    assert re.search(r"It ended because cure\.max_runs=14 is spent", printed)
    assert "written into params.yaml" in printed

    [folder] = project.glob("multirun/cure/[0-9]*")
    original = (folder / ".source" / "params.yaml").read_text()
    changed = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(original)
    subprocess.run(["patch", "-p1"], input=(folder / "params.patch").read_text(), text=True, cwd=project, check=True)
    assert (project / "params.yaml").read_text() == changed != original
    composed = run("pipeline.compose").stdout
    key, value = cure.adopted[0].split("=")
    assert re.search(rf"^ *{key.rsplit('.', 1)[-1]}: {re.escape(value)}$", composed, re.MULTILINE)

    page = (folder / "index.html").read_text()
    assert cure.adopted[0] in page and "Before and after" in page
    named = {name: parent for name, _, parent in runs(project)}
    assert named["round-1"] is not None and named["round-1"] in set(named.values())

    before = num_trained(project)
    again = run("pipeline.cure", "--resume", str(folder)).stdout
    assert num_trained(project) == before and result(project) == cure
    assert [name for name, _, _ in runs(project)].count("round-1") == 1
    assert "Adopted" in again


@pytest.mark.long
def test_labels_without_meaning_are_refused_with_pictures(project: Path) -> None:
    noise = ("data=digits", "experiment=random_labels", "prepare.limit=200", "prepare.val_fraction=0.2", "cure.seeds=1")
    printed = command_runner(project)("pipeline.cure", *noise, "train.max_epochs=40", "model.width=16", BASIC).stdout
    cure = result(project)
    assert not cure.rounds and not cure.adopted
    assert "It ended because no signal is a fault of the data, which no change of the training cures" in printed
    assert re.search(r"Of 200 training images, \d\d% look as if they were of another class", printed)
    [page] = project.glob("multirun/cure/*/index.html")
    assert "Look at these" in page.read_text() and not list(project.glob("multirun/cure/*/params.patch"))


@pytest.mark.slow
def test_a_terminal_shows_the_trainings_and_a_file_takes_what_they_print(project: Path) -> None:
    small = (
        "data=digits",
        "augment=none",
        "prepare.limit=100",
        "train.max_epochs=1",
        "cure.seeds=1",
        "cure.max_runs=1",
    )
    ours, theirs = pty.openpty()
    command = ("python", "-m", "pipeline.cure", *small, "hydra.launcher.n_jobs=2", "tracking.enabled=false")
    variables = {**environment(), **forked()}
    with subprocess.Popen(command, cwd=project, env=variables, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    assert b"0 of 1 trainings are over; what they print is in" in shown and b"epoch   1/1" not in shown
    [log] = project.glob("multirun/cure/*/jobs.log")
    assert "[0] epoch   1/1" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("prepare.confirm_fraction=0", "cure.folds=null"),
            r"prepare\.confirm_fraction must be above 0 with cure\.folds=null, .*; got 0\.",
        ),
        (("cure.confirm_seeds=2",), r"cure\.confirm_seeds must be a whole number >= 3; got 2"),
        (("cure.max_runs=2",), r"cure\.max_runs must allow the cure\.seeds=3 trainings of a diagnosis; got 2"),
        (("--resume", "nowhere"), r"--resume must name the folder of a sweep of cure; got '.*nowhere'"),
        (("diagnose.thresholds.gop=1",), r"diagnose\.thresholds must name thresholds; gop is none"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(
    project: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command_runner(project)("pipeline.cure", *arguments, check=False)
    assert done.returncode == 1 and re.search(f"^error: {message}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr and num_trained(project) == 0


@pytest.mark.long
def test_few_images_are_judged_on_all_folds_together(project: Path) -> None:
    fractions = ("prepare.test_fraction=0.9", "prepare.confirm_fraction=0.1")  # 18 of 180 images are to confirm on
    budget = ("cure.folds=3", "cure.max_runs=3", "train.max_epochs=2", BASIC)
    printed = command_runner(project)("pipeline.cure", "data=digits", *fractions, *budget).stdout
    told = re.search(
        r"^(\d+) images to confirm on are few: each configuration is judged on 3 folds of the (\d+) images",
        printed,
        re.M,
    )
    assert told is not None and int(told[1]) < 100
    assert re.search(r"^diagnosis of 3 folds together: ", printed, re.MULTILINE)
    cure = result(project)
    assert cure.folds == 3 and cure.trainings == 3 and len(cure.before) == 1 and not cure.rounds
    records = [RunRecord.read(path.parent) for path in sorted(project.glob("multirun/cure/*/[0-9]*/run.json"))]
    assert sorted(record.config["prepare"]["fold"] for record in records) == [0, 1, 2]
    counts = [DatasetRecord.read(input_folder(record, "prepare")).counts for record in records]
    assert sum(sum(each["val"]) for each in counts) == int(told[2])
    assert all(sum(each["confirm"]) == 0 for each in counts)
    [page] = project.glob("multirun/cure/*/index.html")
    assert "the 3 folds of a cross-validation of all images outside of test" in " ".join(page.read_text().split())


@pytest.mark.slow
def test_a_killed_cure_goes_on_to_the_same_rounds(project: Path, tmp_path: Path) -> None:
    command_runner(project)("pipeline.cure", *UNFINISHED)
    undisturbed = result(project)
    other = tmp_path / "other"
    copy_project(other)
    with started(other, sys.executable, "-m", "pipeline.cure", *UNFINISHED) as process:
        wait_until(lambda: num_trained(other) >= 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    [folder] = other.glob("multirun/cure/[0-9]*")
    command_runner(other)("pipeline.cure", "--resume", str(folder))
    assert result(other) == undisturbed
