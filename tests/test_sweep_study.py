"""Sweeps that learn: what is searched, what a kill leaves of a study, what is pruned, and the whole from the terminal."""

import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from optuna import Study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from pipeline.errors import ConfigError, DataError
from pipeline.metrics import history
from pipeline.sweep import pruning, study, sweepers
from tests.conftest import command_runner
from tests.sweep_probe import board, copy_probe, statuses, sweep_folder, trace, wait_until
from tests.test_train import started

CONFIG = OmegaConf.create({"model": {"dropout": 0.0, "depth": 1}, "augment": {"copies": 4}})
SPACE = {"model.dropout": FloatDistribution(0.0, 0.6), "model.depth": IntDistribution(1, 4)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_probe(tmp_path / "project")


def space_of(*arguments: str, params: dict[str, str] | None = None, from_file: tuple[str, ...] = ()) -> Any:
    return study.search_space(params or {}, [*from_file, *arguments], frozenset(from_file), CONFIG)


def test_the_command_line_wins_over_the_sweeper_and_the_sweeper_over_params_yaml() -> None:
    space, fixed = space_of(
        "++model.dropout=interval(0.1,0.2)", "++model.depth=3",
        params={"model.dropout": "interval(0.0,0.6)", "model.depth": "range(1,5)", "optimizer.lr": "choice(0.1,0.2)"},
        from_file=("++optimizer.lr=0.5", "++train.max_epochs=20"),
    )  # fmt: skip
    assert space == {
        "model.dropout": FloatDistribution(0.1, 0.2),
        "optimizer.lr": CategoricalDistribution(["0.1", "0.2"]),
    }
    assert fixed == ["++train.max_epochs=20", "++model.depth=3"]


def test_a_searched_group_drops_the_keys_that_params_yaml_gave_its_option() -> None:
    space, fixed = space_of(
        "augment=choice(none,light)", from_file=("augment=strong", "++augment.copies=9", "++seed=1")
    )
    assert list(space) == ["augment"] and fixed == ["++seed=1"]


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("++model.dropout=interval(0,1)", FloatDistribution(0, 1)),  # the key holds a fraction
        ("++model.depth=interval(1,4)", IntDistribution(1, 4)),
        ("++model.padding=int(interval(1,4))", IntDistribution(1, 4)),  # the key holds null
        ("++optimizer.lr=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("++model.depth=range(1,4)", CategoricalDistribution(["1", "2", "3"])),
        ("model=lenet,convnet", CategoricalDistribution(["lenet", "convnet"])),
    ],
)
def test_intervals_are_searched_in_the_kind_of_number_that_the_key_takes(override: str, distribution: Any) -> None:
    (found,) = space_of(override)[0].values()
    assert found == distribution


def test_a_search_for_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must search something; got no interval, range or choice\. Give one, such"):
        space_of("++model.dropout=0.1")


def test_without_optuna_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ConfigError, match=r"hydra/sweeper must be basic without Optuna; .* `pip install -e '\.\[optuna\]'`"
    ):
        study.open_study(tmp_path, history.VAL_LOSS)


def search(folder: Path, num_trials: int) -> list[dict[str, Any]]:
    """Trials of a study that is opened anew for each, as after a kill; the values of all so far."""
    for number in range(num_trials):
        opened = study.open_study(folder, history.VAL_LOSS)
        if number < len(opened.trials):
            continue
        study.propose(opened, SPACE, TPESampler(seed=number, n_startup_trials=3))
        params = opened.trials[number].params
        opened.tell(number, (params["model.dropout"] - 0.2) ** 2 + params["model.depth"])
    return [trial.params for trial in study.open_study(folder, history.VAL_LOSS).trials]


def test_a_study_that_was_left_and_taken_up_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    search(tmp_path / "a", 5)
    assert search(tmp_path / "a", 12) == search(tmp_path / "b", 12)


def test_a_kill_while_a_trial_is_drawn_leaves_it_whole_or_out(tmp_path: Path) -> None:
    search(tmp_path, 2)
    opened = study.open_study(tmp_path, history.VAL_LOSS)
    before = (tmp_path / "study.log").read_text()
    study.propose(opened, SPACE, TPESampler(seed=9))
    added = (tmp_path / "study.log").read_text().removeprefix(before)
    assert added.count("\n") == 1, "more than one entry of the journal: a kill between them would leave half a trial"
    assert opened.trials[2].state == TrialState.RUNNING and opened.trials[2].params.keys() == SPACE.keys()


@pytest.mark.parametrize("content", [b"\x80\x04K\x01.", b"[]\n", b'{"op_code": 99}\n', b"\xff\xfe noise \n"])
def test_a_damaged_journal_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.log").write_bytes(content)
    message = r"study\.log must be the journal of a study; it cannot be read: \w+ \(.+\)\. .* again without --resume"
    with pytest.raises(DataError, match=message):
        study.open_study(tmp_path, history.VAL_LOSS)


def test_trials_that_a_kill_interrupted_come_before_new_ones(tmp_path: Path) -> None:
    sweeper = sweepers.OptunaSweeper(num_trials=5, at_once=2, sampler="tpe", seed=0, pruning=None, params={})
    sweeper.at_once = 2
    opened = study.open_study(tmp_path, history.VAL_LOSS)
    assert sweeper._next(opened, SPACE) == [0, 1]
    opened.tell(0, 0.5)
    assert sweeper._next(opened, SPACE) == [1]
    opened.tell(1, state=TrialState.FAIL)
    assert sweeper._next(opened, SPACE) == [2, 3]
    opened.tell(2, 0.5)
    opened.tell(3, 0.5)
    assert sweeper._next(opened, SPACE) == [4], "num_trials counts all, failures included"
    opened.tell(4, 0.5)
    assert sweeper._next(opened, SPACE) == []


def run_trial(opened: Study, judge: Any, losses: list[float]) -> int:
    """Let a judge see these losses; gives the epoch at which it prunes, 0 where it does not."""
    study.propose(opened, SPACE, TPESampler(seed=0))
    number = len(opened.trials) - 1
    look = judge(number, len(losses))
    for epoch, loss in enumerate(losses, start=1):
        try:
            look({"epoch": epoch, history.VAL_LOSS: loss})
        except pruning.Pruned:
            opened.tell(number, state=TrialState.PRUNED)
            return epoch
    opened.tell(number, min(losses))
    return 0


def test_a_job_worse_than_the_median_is_pruned_after_the_warm_up_and_not_at_its_end(tmp_path: Path) -> None:
    opened = study.open_study(tmp_path, history.VAL_LOSS)
    judge = partial(study.make_judge, tmp_path, history.VAL_LOSS, 2, 3)
    assert run_trial(opened, judge, [9, 9, 9, 9, 9]) == 0, "there was nothing to compare it with"
    assert run_trial(opened, judge, [1, 1, 1, 1, 1]) == 0, "only one has finished"
    assert run_trial(opened, judge, [8, 8, 8, 8, 8]) == 4
    assert run_trial(opened, judge, [2, 2, 2, 2, 2]) == 0
    assert run_trial(opened, judge, [8, 8, 8, 1, 8]) == 0, "its best so far counts"
    assert run_trial(opened, judge, [8, 8, 8]) == 0
    late = run_trial(opened, partial(study.make_judge, tmp_path, history.VAL_LOSS, 2, 4), [1, 1, 1, 1, 8])
    assert late == 0, "the last epoch is over: there is nothing to save"


def test_a_training_that_goes_on_after_a_kill_shows_its_epochs_again(tmp_path: Path) -> None:
    opened = study.open_study(tmp_path, history.VAL_LOSS)
    study.propose(opened, SPACE, TPESampler(seed=0))
    for _ in range(2):
        look = study.make_judge(tmp_path, history.VAL_LOSS, 2, 3, 0, 5)
        look({"epoch": 1, history.VAL_LOSS: 0.5})
    look({"epoch": 2, history.VAL_LOSS: 0.4})
    assert study.open_study(tmp_path, history.VAL_LOSS).trials[0].intermediate_values == {1: 0.5, 2: 0.4}


SEARCH = (
    "-m", "hydra/sweeper=optuna", "model.dropout=interval(0,0.6)", "hydra.sweeper.num_trials=10",
    "train.max_epochs=4", "hydra.sweeper.pruning.startup_trials=2", "hydra.sweeper.pruning.warmup_epochs=1",
)  # fmt: skip


@pytest.mark.long
def test_a_search_finds_the_best_prunes_the_hopeless_and_is_resumed_after_a_kill_to_the_same_table(
    project: Path,
) -> None:
    run = command_runner(project)
    done = run("pipeline.probe", *SEARCH)
    folder = sweep_folder(project)
    rows = board(folder)
    assert {row["status"] for row in rows} == {"finished", "pruned"} and len(rows) == 10
    assert abs(float(rows[0]["model.dropout"]) - 0.2) < 0.1
    assert re.search(r"pruned: val/loss was worse than the median of the others at epoch [23]\n", done.stdout)
    assert f"dvc exp run -S '++model={{name:lenet,dropout:{rows[0]['model.dropout']}}}'" in done.stdout
    undisturbed = (folder / "leaderboard.csv").read_text()
    shutil.rmtree(project / "multirun")
    (project / "trace").unlink()
    with started(project, "python", "-m", "pipeline.probe", *SEARCH, "+tracking.tags.sleep='0.1'") as process:
        wait_until(lambda: len(trace(project)) >= 5)
        process.kill()
        process.wait()
    folder = sweep_folder(project)
    finished = statuses(folder)
    assert 4 <= len(finished) < 10
    run("pipeline.probe", f"--resume={folder}")
    assert (folder / "leaderboard.csv").read_text() == undisturbed


@pytest.mark.long
def test_a_search_side_by_side_proposes_as_many_as_run_at_once_and_counts_failures(project: Path) -> None:
    done = command_runner(project)(
        "pipeline.probe", "-m", "hydra/sweeper=optuna", "optimizer.lr=choice(0.1,10)", "hydra.sweeper.num_trials=6",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", check=False,
    )  # fmt: skip
    ended = statuses(sweep_folder(project))
    assert len(ended) == 6 and set(ended) == {"finished", "failed"}
    assert done.returncode == 1
    assert re.search(r"error: every job of the sweep must finish; .* The search went on without them\.", done.stderr)
    assert len({pid for _, _, pid in trace(project)}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"a sweep with Optuna must search something; got no interval"),
        (("seed=1,2", "hydra.sweeper.sampler=best"), r"hydra\.sweeper\.sampler must be one of tpe, random; got 'best'"),
    ],
)
def test_what_cannot_be_searched_leaves_nothing_behind(project: Path, arguments: tuple[str, ...], message: str) -> None:
    done = command_runner(project)("pipeline.probe", "-m", "hydra/sweeper=optuna", *arguments, check=False)
    assert done.returncode == 1 and re.search(f"^error: {message}", done.stderr, re.MULTILINE), done.stderr
    assert not list(project.glob("multirun/probe/[0-9]*"))


def test_a_search_without_optuna_is_refused_in_one_sentence(project: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "optuna.py").write_text("raise ImportError('hidden')\n")
    done = command_runner(project)("pipeline.probe", *SEARCH, check=False, PYTHONPATH=str(tmp_path / "hidden"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"^error: hydra/sweeper must be basic without Optuna", done.stderr, re.MULTILINE), done.stderr
