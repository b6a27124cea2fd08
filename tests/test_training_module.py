from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from pipeline import model
from pipeline.config.schema import SGD, WarmupScheduler
from pipeline.metrics import history, scores
from pipeline.training.batches import ImageBatches
from pipeline.training.module import TrainingModule, _watched_relus
from tests.networks import network as build

PLAIN_SGD = {
    "optimizer": SGD(name="sgd", lr="auto", momentum=0.0, nesterov=False, layer_decay=1.0),
    "scheduler": WarmupScheduler(name="constant", warmup_fraction=0.0),
}


def network() -> model.Network:
    torch.manual_seed(0)
    return build("lenet", num_classes=3)


def run_epochs(module: TrainingModule, batches: ImageBatches, folder: Path, epochs: int = 1) -> dict[str, float]:
    rows: list[dict[str, float]] = []

    class Collect(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
            rows.append(module.epoch_row())

    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=[Collect()], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, accelerator="cpu", default_root_dir=folder,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, batches)
    return rows[-1]


@pytest.fixture
def batches(make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]) -> ImageBatches:
    prepared = make_prepared()
    return ImageBatches(prepared, make_augmented(prepared, 0), batch_size=64, seed=0)


quiet = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*many workers.*", "ignore:.*GPU.*")


@quiet
def test_the_row_holds_what_the_weights_give_in_evaluation_mode(batches: ImageBatches, tmp_path: Path) -> None:
    module = TrainingModule(network(), lr=0.01, **PLAIN_SGD)
    row = run_epochs(module, batches, tmp_path)
    module.network.eval()
    for name, images in (("val", batches.val), ("train_clean", batches.probe)):
        pixels, labels = images[0]
        with torch.no_grad():
            logits = module.network(pixels)
        assert row[f"{name}/loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
        assert row[f"{name}/accuracy"] == (logits.argmax(1) == labels).double().mean().item()
        if name == "val":
            error = scores.expected_calibration_error(labels.numpy(), logits.softmax(1).numpy())
            assert row[history.VAL_ECE] == pytest.approx(error, rel=1e-5)
    assert set(row) == set(history.METRICS)
    assert row[history.GRADIENT_NORM] > 0 and 0 < row[history.UPDATE_RATIO] < 1 and 0 <= row[history.DEAD_RELU] < 1


@quiet
def test_decoupled_decay_shrinks_weights_and_nothing_else(batches: ImageBatches, tmp_path: Path) -> None:
    plain, decayed = network(), network()
    run_epochs(TrainingModule(plain, lr=0.1, **PLAIN_SGD), batches, tmp_path)
    run_epochs(TrainingModule(decayed, lr=0.1, **PLAIN_SGD, l2=0.5), batches, tmp_path)
    start = dict(network().named_parameters())
    penalized = {id(weight) for weight in model.penalized(decayed)}
    for (name, with_decay), without in zip(decayed.named_parameters(), plain.parameters(), strict=True):
        expected = without - 0.1 * 0.5 * start[name] if id(with_decay) in penalized else without
        assert torch.allclose(with_decay, expected, atol=1e-6), name


def weights_of(network: model.Network) -> list[torch.Tensor]:
    return [weight.detach().double() for weight in model.penalized(network)]


@quiet
@pytest.mark.parametrize("settings", [{}, {"l1_as": "subgradient", "l2_as": "penalty"}])
def test_penalties_are_reported_apart_from_the_data_loss(
    batches: ImageBatches, tmp_path: Path, settings: dict[str, str]
) -> None:
    module = TrainingModule(network(), lr=0.1, **PLAIN_SGD, l1=1e-3, l2=1e-2, **settings)
    row = run_epochs(module, batches, tmp_path)
    absolute = sum(weight.abs().sum().item() for weight in weights_of(module.network))
    squared = sum((weight**2).sum().item() for weight in weights_of(module.network))
    assert row[history.PENALTY_L1] == pytest.approx(1e-3 * absolute, rel=1e-4)
    assert row[history.PENALTY_L2] == pytest.approx(1e-2 * squared / 2, rel=1e-4)
    assert row[history.PENALTY] == row[history.PENALTY_L1] + row[history.PENALTY_L2]
    assert row[history.WEIGHTS_NORM] == pytest.approx(squared**0.5, rel=1e-4)
    without = run_epochs(TrainingModule(network(), lr=0.1, **PLAIN_SGD), batches, tmp_path)
    assert row[history.TRAIN_LOSS] == pytest.approx(without[history.TRAIN_LOSS], rel=1e-6), "one batch, one step"
    assert without[history.PENALTY] == without[history.WEIGHTS_SPARSITY] == 0


@quiet
def test_only_the_proximal_step_makes_exact_zeros_and_only_in_weights(batches: ImageBatches, tmp_path: Path) -> None:
    zeros = {}
    for way in ("proximal", "subgradient"):
        module = TrainingModule(network(), lr=0.02, **PLAIN_SGD, l1=0.05, l1_as=way)
        row = run_epochs(module, batches, tmp_path, epochs=8)
        zeros[way] = row[history.WEIGHTS_SPARSITY]
        counted = sum(int((weight == 0).sum()) for weight in weights_of(module.network))
        assert zeros[way] == counted / sum(weight.numel() for weight in weights_of(module.network))
        biases = [value for name, value in module.network.named_parameters() if name.endswith("bias")]
        assert biases[0].all(), "a bias is never thresholded"
    assert zeros["proximal"] > 0.05 and zeros["subgradient"] == 0


@quiet
def test_mixed_targets_are_learnt_and_counted_by_their_shares(batches: ImageBatches, tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    def mix(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(images)
        return images.float(), 0.75 * nn.functional.one_hot(labels, 3) + 0.25 * nn.functional.one_hot(labels * 0, 3)

    module = TrainingModule(network(), lr=0.0, **PLAIN_SGD, mix=mix)
    row = run_epochs(module, batches, tmp_path)
    pixels = torch.from_numpy(batches.train.images.copy())
    labels = torch.from_numpy(batches.train.labels)
    with torch.no_grad():
        logits = module.network.train()(pixels)
    targets = mix(pixels, labels)[1]
    assert seen[0].dtype == torch.uint8
    assert row[history.TRAIN_LOSS] == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-5)
    expected = targets.gather(1, logits.argmax(1)[:, None]).mean().item()
    assert row[history.TRAIN_ACCURACY] == pytest.approx(expected, rel=1e-6)


@quiet
def test_weights_of_classes_count_in_the_training_loss_alone(batches: ImageBatches, tmp_path: Path) -> None:
    weights = torch.tensor([0.2, 1.0, 5.0])
    weighted = run_epochs(TrainingModule(network(), lr=0.0, **PLAIN_SGD, class_weights=weights), batches, tmp_path)
    plain = run_epochs(TrainingModule(network(), lr=0.0, **PLAIN_SGD), batches, tmp_path)
    with torch.no_grad():
        logits = network().train()(torch.from_numpy(batches.train.images.copy()))
    expected = nn.CrossEntropyLoss(weight=weights)(logits, torch.from_numpy(batches.train.labels))
    assert weighted[history.TRAIN_LOSS] == pytest.approx(expected.item(), rel=1e-6)
    for key in (history.CLEAN_LOSS, history.VAL_LOSS, history.TRAIN_ACCURACY, history.VAL_ACCURACY):
        assert weighted[key] == plain[key]


def test_dead_units_are_found() -> None:
    layer = nn.Sequential(nn.Linear(1, 4), nn.ReLU())
    with torch.no_grad():
        layer[0].weight.fill_(0.0)
        layer[0].bias.copy_(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    with _watched_relus(layer, watch=True) as alive:
        layer(torch.zeros(5, 1))
    assert len(alive) == 1 and alive[0].tolist() == [True, False, False, True]
