import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.schema import AdamW, WarmupScheduler
from pipeline.errors import TrainingError
from pipeline.metrics import history
from pipeline.metrics.early_stopping import StoppingRule
from pipeline.training import callbacks, checkpoints, mixing
from pipeline.training.batches import ImageBatches
from pipeline.training.loop import Outcome, train_epochs
from pipeline.training.module import TrainingModule
from tests.networks import network as build
from tests.records import flip_byte

Train = Callable[..., Outcome]


class Crash(Exception):
    """Stands for a power cut."""


@pytest.fixture
def train(make_prepared: Callable[..., Path], make_augmented: Callable[..., Path], tmp_path: Path) -> Train:
    prepared = make_prepared()
    augmented = make_augmented(prepared)

    def run(
        folder: str,
        lr: float = 3e-3,
        loader_workers: int = 0,
        seed: int = 0,
        name: str = "lenet",
        regularization: dict[str, Any] | None = None,
        balanced: bool = False,
        **settings: Any,
    ) -> Outcome:
        torch.manual_seed(seed)
        network = build(name, num_classes=3, dropout=0.5)
        optimizer = AdamW(name="adamw", lr="auto", beta1=0.9, beta2=0.999, layer_decay=1.0)
        schedule = WarmupScheduler(name="one_cycle", warmup_fraction=0.25)
        module = TrainingModule(network, optimizer=optimizer, scheduler=schedule, lr=lr, **(regularization or {}))
        loading = {"loader_workers": loader_workers, "balanced": balanced}
        batches = ImageBatches(prepared, augmented, batch_size=16, seed=seed, **loading)
        working = tmp_path / folder
        working.mkdir(exist_ok=True)
        settings = {"max_epochs": 5, "accelerator": "cpu", **settings}
        return train_epochs(module, batches, working, seed=seed, **settings)

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
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # where there is one core
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


EVERYTHING = {
    "name": "resnet", "ema_decay": 0.9, "gradient_clip_norm": 0.5, "balanced": True,
    "regularization": {
        "l1": 1e-3, "l2": 1e-2, "label_smoothing": 0.1, "class_weights": torch.tensor([0.5, 1.0, 3.0]),
        "mix": partial(mixing.mix, num_classes=3, mixup=0.4, cutmix=0.4, erasing=0.3),
    },
}  # fmt: skip


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_training_with_every_remedy_goes_on_bit_for_bit(train: Train, precision: str) -> None:
    undisturbed = train("undisturbed", precision=precision, **EVERYTHING)
    for epoch in (1, 3):
        with pytest.raises(Crash):
            train("crashed", precision=precision, on_row=crash_after(epoch), **EVERYTHING)
    assert_same(undisturbed, train("crashed", precision=precision, **EVERYTHING))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "settings", [{}, EVERYTHING, EVERYTHING | {"precision": "bf16-mixed"}], ids=["plain", "all", "bf16"]
)
def test_a_training_on_a_gpu_goes_on_bit_for_bit(train: Train, settings: dict[str, Any]) -> None:
    undisturbed = train("undisturbed", accelerator="gpu", **settings)
    assert_same(undisturbed, train("again", accelerator="gpu", **settings))
    for epoch in (1, 3):
        with pytest.raises(Crash):
            train("crashed", accelerator="gpu", on_row=crash_after(epoch), **settings)
    assert_same(undisturbed, train("crashed", accelerator="gpu", **settings))


@pytest.mark.gpu
def test_a_gpu_trains_as_the_cpu_does_but_for_rounding(train: Train) -> None:
    cpu, gpu = (train(name, accelerator=name, max_epochs=1).rows[0] for name in ("cpu", "gpu"))
    assert gpu[history.VAL_LOSS] == pytest.approx(cpu[history.VAL_LOSS], rel=0.05)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # where there is one core
def test_a_training_whose_draws_are_balanced_goes_on_bit_for_bit_whoever_loads_them(train: Train) -> None:
    undisturbed = train("undisturbed", balanced=True)
    with pytest.raises(Crash):
        train("crashed", balanced=True, loader_workers=2, on_row=crash_after(2))
    assert_same(undisturbed, train("crashed", balanced=True, loader_workers=2))


def test_without_restoring_the_best_the_last_weights_are_kept(train: Train) -> None:
    rising = history.WEIGHTS_NORM  # its best is the first epoch
    best, last = (train(str(restore), rule=StoppingRule(rising, restore_best=restore)) for restore in (True, False))
    assert without_seconds(best.rows) == without_seconds(last.rows)
    assert (best.best_epoch, last.best_epoch) == (1, 5)
    assert any(not torch.equal(weight, last.state[name]) for name, weight in best.state.items())


def test_what_is_kept_of_an_average_is_what_was_measured(
    train: Train, make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    outcome = train("run", name="resnet", ema_decay=0.9)
    network = build("resnet", num_classes=3, dropout=0.5).eval()
    network.load_state_dict(outcome.state)
    images, labels = (torch.from_numpy(np.load(tmp_path / f"prepare/val/{name}.npy")) for name in ("images", "labels"))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(network(images), labels)
    assert float(loss) == pytest.approx(outcome.rows[outcome.best_epoch - 1][history.VAL_LOSS], rel=1e-4)
    raw = train("raw", name="resnet")
    assert without_seconds(raw.rows) != without_seconds(outcome.rows)
    assert raw.rows[0][history.TRAIN_LOSS] == outcome.rows[0][history.TRAIN_LOSS], "the average never trains"


def test_an_average_follows_its_formula() -> None:
    weights = torch.nn.Linear(1, 1, bias=False)
    average = callbacks.Average(0.7)
    averaged = torch.optim.swa_utils.AveragedModel(weights, **average._kwargs)
    expected = 0.0
    for number, value in enumerate([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]):
        with torch.no_grad():
            weights.weight.fill_(value)
        averaged.update_parameters(weights)
        decay = min(0.7, (1 + number) / (10 + number))
        expected = value if number == 0 else decay * expected + (1 - decay) * value
    assert averaged.module.weight.item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_clipped_to_the_norm_and_reported_as_they_were(train: Train) -> None:
    free, clipped = train("free", max_epochs=1), train("clipped", max_epochs=1, gradient_clip_norm=1e-12)
    assert clipped.rows[0][history.GRADIENT_NORM] > 0.01, "measured before it was clipped"
    assert clipped.rows[0][history.UPDATE_RATIO] < 0.01 * free.rows[0][history.UPDATE_RATIO]


def test_early_stopping_waits_for_its_warm_up_and_says_what_it_saved(train: Train) -> None:
    stopped = train("run", max_epochs=30, rule=StoppingRule(history.VAL_LOSS, 1, min_delta=10.0, warmup_epochs=3))
    assert len(stopped.rows) == 4 and stopped.saved_epochs == 26
    seconds = sorted(row["seconds"] for row in stopped.rows)
    assert stopped.saved_seconds == pytest.approx(26 * (seconds[1] + seconds[2]) / 2, abs=1e-3)
    whole = train("whole", max_epochs=2)
    assert (whole.saved_epochs, whole.saved_seconds) == (0, 0)


def test_a_finished_training_trains_nothing_more(train: Train) -> None:
    first = train("run")
    assert_same(first, train("run"))


def test_a_training_that_had_stopped_early_trains_nothing_more(train: Train) -> None:
    never_gains = StoppingRule(history.VAL_LOSS, 1, min_delta=10.0)
    stopped = train("run", max_epochs=30, rule=never_gains)
    assert len(stopped.rows) == 2 and stopped.stop_reason == "val/loss had not improved for 1 epoch"
    again = train("run", max_epochs=30, rule=never_gains)
    assert_same(stopped, again)


def test_the_best_weights_are_kept_not_the_last(train: Train) -> None:
    outcome = train("run", max_epochs=6, lr=0.05)
    losses = [row[history.VAL_LOSS] for row in outcome.rows]
    assert losses[outcome.best_epoch - 1] == min(losses)
    assert outcome.stop_reason == "it reached train.max_epochs"


def test_epochs_that_gain_nothing_are_kept_and_counted(train: Train) -> None:
    never_gains = history.PENALTY  # 0 in every epoch
    whole = train("whole", rule=StoppingRule(never_gains, restore_best=True))
    assert len(whole.rows) == 5 and whole.best_epoch == 1
    impatient = StoppingRule(never_gains, 2)
    stopped = train("stopped", rule=impatient)
    assert len(stopped.rows) == 3 and stopped.stop_reason == "train/penalty had not improved for 2 epochs"
    with pytest.raises(Crash):
        train("crashed", rule=impatient, on_row=crash_after(2))
    assert_same(stopped, train("crashed", rule=impatient))
    assert_same(stopped, train("crashed", rule=impatient))


def test_an_accuracy_is_maximised(train: Train) -> None:
    outcome = train("run", lr=1e-3, rule=StoppingRule(history.VAL_ACCURACY, restore_best=True))
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
    step = TrainingModule.training_step

    def poisoned(self: TrainingModule, batch: Any, batch_index: int) -> torch.Tensor:
        loss = step(self, batch, batch_index)
        return loss * float("nan") if self.current_epoch == 2 and batch_index == 1 else loss

    monkeypatch.setattr(TrainingModule, "training_step", poisoned)
    message = r"became nan at step 10, batch 2 of epoch 3\. The weights of epoch 2 are in .*best\.ckpt"
    with pytest.raises(TrainingError, match=message):
        train("run")
    kept = torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)
    assert kept["epoch"] == 1 and all(torch.isfinite(weight).all() for weight in kept["state_dict"].values())


@pytest.mark.parametrize("damaged", [("last.ckpt",), ("best.ckpt",), ("last.ckpt", "best.ckpt")])
def test_a_damaged_checkpoint_costs_epochs_and_is_told(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: tuple[str, ...]
) -> None:
    undisturbed = train("undisturbed", max_epochs=3)
    with pytest.raises(Crash):
        train("run", max_epochs=3, on_row=crash_after(2))
    for name in damaged:
        flip_byte(tmp_path / "run" / name)
    refusal = (
        r"must be a whole checkpoint; its part .* does not fit its checksum\. `rm -r .*run`, and the training starts"
    )
    if "last.ckpt" in damaged:
        with pytest.raises(TrainingError, match=refusal):
            train("run", max_epochs=3)
    checkpoints.repair(tmp_path / "run")
    what = "goes on from its best epoch" if damaged == ("last.ckpt",) else "starts afresh"
    assert re.search(rf"{damaged[0]} is damaged \(its part .*: the training {what}", capsys.readouterr().out)
    assert_same(train("run", max_epochs=3), undisturbed)


@pytest.mark.parametrize("content", ["noise", "pickle", "cut", "other"])
def test_what_is_no_checkpoint_starts_a_training_afresh_without_torchs_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / "last.ckpt"
    if content == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif content == "pickle":
        torch.save({"callbacks": {"History": {}}, "code": Path("/")}, path)
    else:
        torch.save({"epoch": 1}, path)
        if content == "cut":
            path.write_bytes(path.read_bytes()[:-30])
    checkpoints.repair(tmp_path)
    told = capsys.readouterr().out
    assert "last.ckpt is damaged (it " in told and "starts afresh" in told and "weights_only" not in told
    assert not path.exists()


def test_history_reads_back_bit_for_bit(train: Train, tmp_path: Path) -> None:
    outcome = train("run", max_epochs=2)
    assert history.read_csv(tmp_path / "run" / "history.csv") == outcome.rows
