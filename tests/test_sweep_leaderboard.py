"""The ranking of a sweep: repetitions over seeds are one entry, and what did not finish comes last."""

import csv
import io
from pathlib import Path
from statistics import stdev

import pytest

from pipeline.metrics import history
from pipeline.sweep import leaderboard
from pipeline.sweep.records import JobResult
from pipeline.sweep.summary import print_table


def job(number: int, *overrides: str, loss: float | None = None, status: str = "finished") -> JobResult:
    best = None
    if loss is not None:
        best = {**dict.fromkeys(history.COLUMNS, 0.0), "epoch": 1, history.VAL_LOSS: loss, history.VAL_ACCURACY: loss}
    return JobResult(number, Path(str(number)), overrides, status, None if best else "why", 1.0, best)


def table(*jobs: JobResult, monitor: str = history.VAL_LOSS) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(leaderboard.to_csv(jobs, monitor))))


def test_jobs_that_differ_in_their_seed_alone_are_one_entry_with_mean_and_spread() -> None:
    first, second = leaderboard.rank(
        [
            job(0, "model.dropout=0", "seed=1", loss=0.5),
            job(1, "model.dropout=0.3", "seed=1", loss=0.2),
            job(2, "model.dropout=0", "seed=2", loss=0.7),
            job(3, "model.dropout=0.3", "seed=2", loss=0.3),
            job(4, "model.dropout=0.3", "seed=3", loss=0.7),
        ],
        history.VAL_LOSS,
    )
    assert first.overrides == ("model.dropout=0.3",) and [each.number for each in first.jobs] == [1, 3, 4]
    assert first.mean(history.VAL_LOSS) == pytest.approx(0.4)
    assert first.spread(history.VAL_LOSS) == pytest.approx(stdev([0.2, 0.3, 0.7]))
    assert second.mean(history.VAL_LOSS) == pytest.approx(0.6)


def test_a_single_job_has_no_spread() -> None:
    (entry,) = leaderboard.rank([job(0, "seed=1", loss=0.5)], history.VAL_LOSS)
    assert entry.spread(history.VAL_LOSS) is None
    (row,) = table(job(0, "seed=1", loss=0.5))
    assert (row["val/loss"], row["val/loss_sd"], row["n"]) == ("0.5", "", "1")


def test_the_same_values_with_the_same_seed_are_no_second_repetition() -> None:
    tried_twice = [job(0, "model.depth=2", loss=0.5), job(1, "model.depth=2", loss=0.5)]
    (entry,) = leaderboard.rank(tried_twice, history.VAL_LOSS)
    assert entry.spread(history.VAL_LOSS) is None
    (row,) = table(*tried_twice)
    assert (row["jobs"], row["n"], row["val/loss_sd"]) == ("0 1", "1", "")


def test_the_best_mean_leads_whichever_way_the_metric_points() -> None:
    jobs = [job(0, "model.dropout=0", loss=0.4), job(1, "model.dropout=0.3", loss=0.9)]
    assert [entry.jobs[0].number for entry in leaderboard.rank(jobs, history.VAL_LOSS)] == [0, 1]
    assert [entry.jobs[0].number for entry in leaderboard.rank(jobs, history.VAL_ACCURACY)] == [1, 0]


def test_equal_means_stay_in_the_order_of_the_jobs() -> None:
    jobs = [job(2, "model.dropout=0.3", loss=0.4), job(1, "model.dropout=0", loss=0.4)]
    assert [entry.jobs[0].number for entry in leaderboard.rank(jobs, history.VAL_LOSS)] == [1, 2]


def test_a_failed_seed_leaves_its_group_and_comes_last_with_how_it_ended() -> None:
    rows = table(
        job(1, "model.dropout=0", "seed=2", loss=0.7),
        job(3, "model.dropout=0.3", "seed=2", loss=0.9),
        job(0, "model.dropout=0", "seed=1", status="failed"),
        job(2, "model.dropout=0.3", "seed=1", status="pruned"),
    )
    assert [(row["rank"], row["jobs"], row["status"]) for row in rows] == [
        ("1", "1", "finished"), ("2", "3", "finished"), ("", "0", "failed"), ("", "2", "pruned"),
    ]  # fmt: skip
    assert [row["model.dropout"] for row in rows] == ["0", "0.3", "0", "0.3"]
    assert rows[2]["val/loss"] == ""


def test_the_csv_has_a_column_for_each_varied_key_and_reads_back_bit_for_bit() -> None:
    loss = 0.1 + 0.2
    transforms = "augment.transforms=[{HorizontalFlip:{p:0.5}},{Pad:{padding:size/16}}]"
    first, second = table(
        job(0, "train.max_epochs=2", transforms, loss=loss), job(1, "train.max_epochs=2", "augment=none", loss=0.5)
    )
    assert "train.max_epochs" not in first, "it was the same for all jobs"
    assert first["augment.transforms"] == "[{HorizontalFlip:{p:0.5}},{Pad:{padding:size/16}}]"
    assert (second["augment.transforms"], second["augment"]) == ("", "none")
    assert float(first["val/loss"]) == loss


def test_a_sweep_without_a_finished_job_has_no_winner() -> None:
    assert leaderboard.rank([job(0, "seed=1", status="stopped")], history.VAL_LOSS) == []
    assert leaderboard.settings([]) == {}


@pytest.mark.parametrize(
    ("varied", "words"),
    [
        (["seed=1", "seed=2"], "over seeds"),
        (["prepare.fold=0", "prepare.fold=1"], "over folds"),
        (["seed=1 prepare.fold=0", "seed=2 prepare.fold=1"], "over seeds and folds"),
    ],
)
def test_the_heading_says_what_the_means_are_over(
    varied: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table([job(number, *text.split(), loss=0.5) for number, text in enumerate(varied)], history.VAL_LOSS)
    assert f"mean ± sample standard deviation {words}" in " ".join(capsys.readouterr().out.split())
