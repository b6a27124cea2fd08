from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from pipeline import model
from pipeline.fit import history
from pipeline.training.batches import ImageBatches
from pipeline.training.module import Fit, _DeadUnits, _scheduler

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False}
CONSTANT = {"name": "constant"}


def network() -> model.Classifier:
    torch.manual_seed(0)
    return model.build("lenet", num_classes=3, channels=1, size=32, mean=[0.25], std=[0.2], dropout=0.0)


def run_epochs(fit: Fit, batches: ImageBatches, folder: Path, epochs: int = 1) -> dict[str, float]:
    rows: list[dict[str, float]] = []

    class Collect(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
            rows.append(module.epoch_row())

    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=[Collect()], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, accelerator="cpu", default_root_dir=folder,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(fit, batches)
    return rows[-1]


@pytest.fixture
def batches(make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]) -> ImageBatches:
    prepared = make_prepared()
    return ImageBatches(prepared, make_augmented(prepared, 0), batch_size=64, seed=0)


quiet = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*many workers.*", "ignore:.*GPU.*")


@quiet
def test_the_row_holds_what_the_weights_give_in_evaluation_mode(batches: ImageBatches, tmp_path: Path) -> None:
    fit = Fit(network(), optimizer={**SGD, "lr": 0.01}, scheduler=CONSTANT)
    row = run_epochs(fit, batches, tmp_path)
    fit.network.eval()
    for name, images in (("val", batches.val), ("train_clean", batches.probe)):
        pixels, labels = images[0]
        with torch.no_grad():
            logits = fit.network(pixels)
        assert row[f"{name}/loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
        assert row[f"{name}/accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    assert set(row) == set(history.METRICS)
    assert row[history.GRADIENT_NORM] > 0 and 0 < row[history.UPDATE_RATIO] < 1 and 0 <= row[history.DEAD_RELU] < 1


@quiet
def test_decoupled_decay_shrinks_weights_and_nothing_else(batches: ImageBatches, tmp_path: Path) -> None:
    plain, decayed = network(), network()
    run_epochs(Fit(plain, optimizer=SGD, scheduler=CONSTANT), batches, tmp_path)
    run_epochs(Fit(decayed, optimizer=SGD, scheduler=CONSTANT, l2=0.5), batches, tmp_path)
    start = dict(network().named_parameters())
    penalized = {id(weight) for weight in model.penalized(decayed)}
    for (name, with_decay), without in zip(decayed.named_parameters(), plain.parameters(), strict=True):
        expected = without - 0.1 * 0.5 * start[name] if id(with_decay) in penalized else without
        assert torch.allclose(with_decay, expected, atol=1e-6), name


@quiet
def test_penalties_are_reported_apart_from_the_data_loss(batches: ImageBatches, tmp_path: Path) -> None:
    start = network()
    weights = [weight.detach().double() for weight in model.penalized(start)]
    absolute = sum(weight.abs().sum().item() for weight in weights)
    squared = sum((weight**2).sum().item() for weight in weights)
    without = run_epochs(Fit(network(), optimizer=SGD, scheduler=CONSTANT), batches, tmp_path)
    row = run_epochs(
        Fit(start, optimizer=SGD, scheduler=CONSTANT, l1=1e-3, l2=1e-2, l2_as="penalty"), batches, tmp_path
    )
    assert row[history.PENALTY] == pytest.approx(1e-3 * absolute + 1e-2 * squared / 2, rel=1e-4)
    assert row[history.TRAIN_LOSS] == pytest.approx(without[history.TRAIN_LOSS], rel=1e-6)
    assert without[history.PENALTY] == 0


def test_dead_units_are_counted() -> None:
    layer = nn.Sequential(nn.Linear(1, 4), nn.ReLU())
    with torch.no_grad():
        layer[0].weight.fill_(0.0)
        layer[0].bias.copy_(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    with _DeadUnits(layer, watch=True) as dead:
        layer(torch.zeros(5, 1))
    assert dead.share is not None and dead.share.item() == 0.5


@pytest.mark.parametrize(
    ("settings", "first", "peak_at", "last"),
    [
        ({"name": "constant"}, 1.0, 0, 1.0),
        ({"name": "one_cycle", "warmup_fraction": 0.25}, 1 / 25, 25, 1e-5),
        ({"name": "cosine", "final_fraction": 0.01}, 1.0, 0, 0.01),
    ],
)
def test_schedules_go_where_their_names_say(settings: dict[str, Any], first: float, peak_at: int, last: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = _scheduler(optimizer, 100, **settings)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < 100:
            scheduler.step()
    assert rates[0] == pytest.approx(first) and max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates.index(max(rates)) == peak_at and rates[-1] == pytest.approx(last, abs=2e-3)
