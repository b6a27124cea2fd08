from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import model
from pipeline.config.errors import TrainingError
from pipeline.fit import history
from pipeline.training import callbacks
from pipeline.training.batches import ImageBatches
from pipeline.training.fit import Outcome, fit
from pipeline.training.module import Fit

Train = Callable[..., Outcome]


class Crash(Exception):
    """Stands for a power cut."""


@pytest.fixture
def train(make_prepared: Callable[..., Path], make_augmented: Callable[..., Path], tmp_path: Path) -> Train:
    prepared = make_prepared()
    augmented = make_augmented(prepared)

    def run(folder: str, lr: float = 3e-3, loader_workers: int = 0, seed: int = 0, **settings: Any) -> Outcome:
        torch.manual_seed(seed)
        network = model.build("lenet", num_classes=3, channels=1, size=32, mean=[0.25], std=[0.2], dropout=0.5)
        optimizer = {"name": "adamw", "lr": lr, "beta1": 0.9, "beta2": 0.999}
        module = Fit(network, optimizer=optimizer, scheduler={"name": "one_cycle", "warmup_fraction": 0.25})
        batches = ImageBatches(prepared, augmented, batch_size=16, seed=seed, loader_workers=loader_workers)
        working = tmp_path / folder
        working.mkdir(exist_ok=True)
        return fit(module, batches, working, seed=seed, accelerator="cpu", **{"max_epochs": 5, **settings})

    return run


def without_seconds(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def assert_same(first: Outcome, second: Outcome) -> None:
    assert without_seconds(first.rows) == without_seconds(second.rows)
    assert first.best_epoch == second.best_epoch and first.stop_reason == second.stop_reason
    assert all(torch.equal(weight, second.state[name]) for name, weight in first.state.items())


def crash_after(epoch: int) -> callbacks.OnRow:
    def on_row(row: dict[str, float], time_ms: int) -> None:
        if row["epoch"] == epoch:
            raise Crash

    return on_row


def test_the_same_seed_gives_the_same_weights_bit_for_bit(train: Train) -> None:
    first, second = train("first"), train("second")
    assert_same(first, second)
    assert [row["epoch"] for row in first.rows] == [1, 2, 3, 4, 5]
    assert without_seconds(train("other", seed=1).rows) != without_seconds(first.rows)


@pytest.mark.parametrize("loader_workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_training_that_crashed_twice_ends_as_one_that_did_not(train: Train, loader_workers: int) -> None:
    undisturbed = train("undisturbed")
    passed_on: list[tuple[float, int]] = []
    for epoch in (1, 3):
        with pytest.raises(Crash):
            train("crashed", loader_workers=loader_workers, on_row=crash_after(epoch))
    resumed = train(
        "crashed", loader_workers=loader_workers, on_row=lambda row, time_ms: passed_on.append((row["epoch"], time_ms))
    )
    assert_same(undisturbed, resumed)
    assert passed_on == list(zip([1, 2, 3, 4, 5], resumed.times_ms, strict=True))


def test_a_finished_training_trains_nothing_more(train: Train) -> None:
    first = train("run")
    assert_same(first, train("run"))


def test_a_training_that_had_stopped_early_trains_nothing_more(train: Train) -> None:
    stopped = train("run", max_epochs=30, patience=1, min_delta=10.0)
    assert len(stopped.rows) == 2 and stopped.stop_reason == "val/loss had not improved for 1 epochs"
    again = train("run", max_epochs=30, patience=1, min_delta=10.0)
    assert_same(stopped, again)


def test_the_best_weights_are_kept_not_the_last(train: Train) -> None:
    outcome = train("run", max_epochs=6, lr=0.05)
    losses = [row[history.VAL_LOSS] for row in outcome.rows]
    assert losses[outcome.best_epoch - 1] == min(losses)
    assert outcome.stop_reason == "it reached train.max_epochs"


def test_epochs_that_gain_nothing_are_kept_and_counted(train: Train) -> None:
    never_gains = history.PENALTY  # 0 in every epoch
    whole = train("whole", monitor=never_gains)
    assert len(whole.rows) == 5 and whole.best_epoch == 1
    stopped = train("stopped", monitor=never_gains, patience=2)
    assert len(stopped.rows) == 3 and stopped.stop_reason == "train/penalty had not improved for 2 epochs"
    with pytest.raises(Crash):
        train("crashed", monitor=never_gains, patience=2, on_row=crash_after(2))
    assert_same(stopped, train("crashed", monitor=never_gains, patience=2))
    assert_same(stopped, train("crashed", monitor=never_gains, patience=2))


def test_an_accuracy_is_maximised(train: Train) -> None:
    outcome = train("run", monitor=history.VAL_ACCURACY)
    accuracies = [row[history.VAL_ACCURACY] for row in outcome.rows]
    assert accuracies[outcome.best_epoch - 1] == max(accuracies) > min(accuracies)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(train: Train, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"must be finite; it became .* epoch \d+\..* Lower optimizer\.lr \(it is 1e\+30"
    ):
        train("run", lr=1e30)


def test_the_last_good_weights_outlive_a_loss_that_is_not_finite(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Fit.training_step

    def poisoned(self: Fit, batch: Any, batch_index: int) -> torch.Tensor:
        loss = step(self, batch, batch_index)
        return loss * float("nan") if self.current_epoch == 2 and batch_index == 1 else loss

    monkeypatch.setattr(Fit, "training_step", poisoned)
    message = r"became nan at step 10, batch 2 of epoch 3\. The weights of epoch 2 are in .*best\.ckpt"
    with pytest.raises(TrainingError, match=message):
        train("run")
    kept = torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)
    assert kept["epoch"] == 1 and all(torch.isfinite(weight).all() for weight in kept["state_dict"].values())


def test_a_damaged_checkpoint_is_named(train: Train, tmp_path: Path) -> None:
    train("run", max_epochs=1)
    path = tmp_path / "run" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"last\.ckpt must be a whole checkpoint; .* Delete .*run to train from"):
        train("run", max_epochs=1)


def test_history_reads_back_bit_for_bit(train: Train, tmp_path: Path) -> None:
    outcome = train("run", max_epochs=2)
    assert history.read_csv(tmp_path / "run" / "history.csv") == outcome.rows
