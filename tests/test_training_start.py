"""Tests trainings that start from weights: which layers learn, and what is computed once and kept."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import pipeline.model
from pipeline.artefacts.weights import TENSORS, WeightsRecord
from pipeline.config.composition import compose
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, DamagedError
from pipeline.evaluation.features import KeptFeatures
from pipeline.model import start
from pipeline.model.penalties import decay_
from pipeline.stage import lineage
from pipeline.training.optimizers import layer_groups
from pipeline.training.training import Inputs, train
from pipeline.weights import write
from tests.conftest import ROOT
from tests.networks import OPTIONS_OF, description, network
from tests.records import flip_byte

CONVNET = [
    "model=convnet",
    *(f"model.{key}={value}".replace("None", "null") for key, value in OPTIONS_OF["convnet"].items()),
]


def config(*overrides: str) -> Config:
    fixed = ["model.weights=elsewhere", "train.max_epochs=3", "train.batch_size=16", "train.accelerator=cpu"]
    return compose(ROOT / "conf", ROOT / "params.yaml", [*CONVNET, *fixed, *overrides])


@pytest.fixture
def inputs(tmp_path: Path, make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]) -> Inputs:
    """The folders of a training that starts from a convnet for ten classes of colour images; its own images are grey."""
    torch.manual_seed(1)
    before = network("convnet", channels=3)
    pipeline.model.save(
        tmp_path / "model.ckpt", description("convnet", channels=3), before.state_dict(), [*"0123456789"]
    )
    about = {"name": "convnet", "size": 32, **OPTIONS_OF["convnet"]}
    (tmp_path / "weights").mkdir()
    write(
        start.read(tmp_path / "model.ckpt", "it", about),
        tmp_path / "weights",
        source="elsewhere",
        sha256_of_source="",
        network="convnet",
    )
    prepared = make_prepared()
    augmented = make_augmented(prepared)
    for stage, folder in {"weights": tmp_path / "weights", "prepare": prepared, "augment": augmented}.items():
        (folder / lineage.FINGERPRINT).write_text(stage)
    from pipeline.storage import checksums

    for folder in (tmp_path / "weights", prepared, augmented):
        checksums.seal(folder)
    return Inputs(prepared, augmented, tmp_path / "weights")


@pytest.fixture
def trained(inputs: Inputs, tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Trains in a fresh working folder; gives the weights."""

    def run(*overrides: str, name: str = "out") -> dict[str, Tensor]:
        out, working = tmp_path / name, tmp_path / f"{name}, working"
        out.mkdir()
        working.mkdir()
        train(inputs, tmp_path / "cache", working, out, config(*overrides), lambda row, time_ms: None)
        state: dict[str, Tensor] = pipeline.model.load(out / "model.ckpt")[0].state_dict()
        return state

    return run


def began(inputs: Inputs) -> dict[str, Tensor]:
    model = network("convnet", channels=3, num_classes=3)
    assert inputs.weights is not None
    start.load_into(model, inputs.weights, with_last_layer=False)
    return dict(model.state_dict())


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the tensors that changed."""
    assert before.keys() == after.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_a_head_is_trained_on_features_that_the_second_training_finds(
    inputs: Inputs, trained: Callable[..., dict[str, Tensor]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = began(inputs)
    assert moved(before, trained("model.train_layers=head")) == {"head.classes.weight", "head.classes.bias"}
    assert "features of 128 images (copies) are kept" in capsys.readouterr().out
    again = trained("model.train_layers=head", "model.dropout=0.3", name="again")
    assert "features of" not in capsys.readouterr().out
    assert moved(before, again) == {"head.classes.weight", "head.classes.bias"}
    assert len([*(tmp_path / "cache").glob("features-*/features.npy")]) == 3


@pytest.mark.parametrize(
    ("changed", "computed"),
    [
        ("weights", ["64 images (train)", "32 images (val)", "128 images (copies)"]),
        ("train", ["2 images (train)"]),
        ("val", ["2 images (val)"]),
        ("copies", ["2 images (copies)"]),
    ],
)
def test_features_of_what_has_changed_are_computed_anew(
    changed: str, computed: list[str], inputs: Inputs, trained: Callable[..., dict[str, Tensor]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from pipeline.artefacts.augment import AugmentRecord
    from pipeline.artefacts.dataset import DatasetRecord
    from pipeline.storage import checksums

    before = trained("model.train_layers=head")
    capsys.readouterr()
    assert inputs.weights is not None
    if changed == "weights":
        tensors = load_file(inputs.weights / TENSORS)
        tensors["features.block_1_convolution.weight"] *= 2
        save_file(tensors, inputs.weights / TENSORS)
        WeightsRecord.read_alone(inputs.weights).model_copy(update={"sha256": "f" * 64}).write(inputs.weights)
        checksums.seal(inputs.weights)
    elif changed == "copies":
        copies = np.load(inputs.augment / "images.npy")
        copies[1, 5:7] ^= 1
        np.save(inputs.augment / "images.npy", copies)
        AugmentRecord.read_alone(inputs.augment).model_copy(update={"name": "other"}).write(inputs.augment)
        checksums.seal(inputs.augment)
    else:
        images = np.load(inputs.prepare / changed / "images.npy")
        images[5:7] ^= 1
        np.save(inputs.prepare / changed / "images.npy", images)
        DatasetRecord.read_alone(inputs.prepare).model_copy(update={"licence": "other"}).write(inputs.prepare)
        checksums.seal(inputs.prepare)
    after = trained("model.train_layers=head", name="again")
    assert re.findall(r"features of (.*) are kept", capsys.readouterr().out) == computed
    assert ("head.classes.weight" in moved(before, after)) == (changed != "val")


def test_features_found_in_another_split_are_those_computed_to_the_last_bit(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body, generator = network("convnet", channels=3), np.random.default_rng(0)
    images = generator.integers(0, 256, (90, 32, 32, 3), np.uint8)
    first = KeptFeatures(body, description("convnet", channels=3), tmp_path / "first")
    assert not first.exist()
    first.file({"prepare": inputs.prepare}, "train", images)
    assert first.exist()
    order = generator.permutation(90)[:50]
    capsys.readouterr()
    found = np.load(first.file({"prepare": inputs.prepare}, "val", images[order]))
    assert "features of" not in capsys.readouterr().out
    alone = KeptFeatures(body, description("convnet", channels=3), tmp_path / "alone")
    assert np.array_equal(found, np.load(alone.file({"prepare": inputs.prepare}, "val", images[order])))
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), body.eval().last_features(torch.from_numpy(images[order])))


def test_on_features_and_on_images_a_head_learns_the_same(trained: Callable[..., dict[str, Tensor]]) -> None:
    overrides = ("model.train_layers=head", "regularization.l2=0.1")
    on_features = trained(*overrides)
    on_images = trained(*overrides, "regularization.mixup=1e-9", name="images")  # mixing needs images
    torch.testing.assert_close(on_features["head.classes.weight"], on_images["head.classes.weight"], atol=0.05, rtol=0)
    assert moved(on_features, on_images) <= {"head.classes.weight", "head.classes.bias"}


def test_gradual_training_frees_the_other_layers_after_its_first_epochs(
    inputs: Inputs, trained: Callable[..., dict[str, Tensor]]
) -> None:
    before = began(inputs)
    never = trained("model.train_layers=gradual", "model.head_epochs=3")
    assert moved(before, never) == {"head.classes.weight", "head.classes.bias"}
    freed = trained("model.train_layers=gradual", "model.head_epochs=1", name="freed")
    assert "features.block_1_convolution.weight" in moved(before, freed)


def test_statistics_of_normalisation_stay_if_they_shall(
    inputs: Inputs, trained: Callable[..., dict[str, Tensor]]
) -> None:
    before = began(inputs)
    tuned = moved(before, trained("model.train_layers=all"))
    kept = moved(before, trained("model.train_layers=all", "model.normalization_statistics=kept", name="kept"))
    statistics = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert statistics <= tuned
    assert not statistics & kept and "features.block_1_convolution.weight" in kept


def test_a_last_layer_for_the_same_classes_is_taken_over(inputs: Inputs, tmp_path: Path) -> None:
    assert inputs.weights is not None
    same, other = network("convnet", channels=3), network("convnet", channels=3)
    untouched = other.head[-1].weight.clone()
    start.load_into(same, inputs.weights, with_last_layer=True)
    start.load_into(other, inputs.weights, with_last_layer=False)
    assert torch.equal(same.head[-1].weight, torch.load(tmp_path / "model.ckpt")["state_dict"]["head.classes.weight"])
    assert torch.equal(other.head[-1].weight, untouched)


def test_layers_learn_the_slower_the_earlier_they_are() -> None:
    model = network("convnet", depth=2)
    groups = layer_groups(model, 1.0, 0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert groups[0]["params"][0] is model.head[-1].weight and groups[0]["lr"] == 1.0
    assert groups[-1]["params"][0] is next(model.features.parameters())
    assert [group["lr"] for group in groups] == [0.5**depth for depth in range(len(groups))]


def test_layer_decay_moves_early_layers_less(inputs: Inputs, trained: Callable[..., dict[str, Tensor]]) -> None:
    before, name = began(inputs), "features.block_1_convolution.weight"
    even = trained()[name] - before[name]
    slow = trained("optimizer.layer_decay=0.3", name="slow")[name] - before[name]
    assert slow.norm() < 0.2 * even.norm()


def test_decay_towards_the_start_draws_weights_back_to_it() -> None:
    weight, origin = torch.tensor([1.0, -2.0]), torch.tensor([0.0, 2.0])
    decay_([weight], 0.25, [origin])
    assert weight.tolist() == [0.75, -1.0]


def test_a_strong_decay_towards_the_start_keeps_all_but_the_last_layer(
    inputs: Inputs, trained: Callable[..., dict[str, Tensor]]
) -> None:
    before, names = began(inputs), ("features.block_1_convolution.weight", "head.classes.weight")
    free, drawn = trained(), trained("regularization.l2_as=towards_start", "regularization.l2=300", name="drawn")
    distance = {name: [(state[name] - before[name]).norm() for state in (free, drawn)] for name in names}
    assert distance[names[0]][1] < 0.5 * distance[names[0]][0]
    assert drawn[names[1]].norm() < free[names[1]].norm()


def test_weights_for_grey_images_do_not_start_on_colour_ones(inputs: Inputs, tmp_path: Path) -> None:
    from pipeline.artefacts.dataset import DatasetRecord
    from pipeline.storage import checksums

    dataset = DatasetRecord.read_alone(inputs.prepare)
    assert inputs.weights is not None
    WeightsRecord.read_alone(inputs.weights).model_copy(update={"channels": 1}).write(inputs.weights)
    dataset.model_copy(update={"channels": 3, "mean": [0.5] * 3, "std": [0.2] * 3}).write(inputs.prepare)
    for folder in (inputs.weights, inputs.prepare):
        checksums.seal(folder)
    with pytest.raises(
        ConfigError, match=r"^prepare.channels must be 1 with model.weights=elsewhere, .*Set prepare.channels=1"
    ):
        train(inputs, tmp_path, tmp_path, tmp_path, config(), lambda row, time_ms: None)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.train_layers=head",),
        ("model.train_layers=gradual", "model.head_epochs=1", "optimizer.layer_decay=0.5"),
        ("regularization.l2_as=towards_start", "regularization.l2=1", "model.normalization_statistics=kept"),
    ],
)
def test_a_killed_training_goes_on_bit_for_bit(
    overrides: tuple[str, ...], inputs: Inputs, trained: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    def killed(row: dict[str, float], time_ms: int) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    undisturbed = trained(*overrides)
    out, working = tmp_path / "killed", tmp_path / "killed, working"
    for folder in (out, working):
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "cache", working, out, config(*overrides), killed)
    train(inputs, tmp_path / "cache", working, out, config(*overrides), lambda row, time_ms: None)
    assert moved(undisturbed, dict(pipeline.model.load(out / "model.ckpt")[0].state_dict())) == set()


def test_weights_that_have_changed_since_they_were_checked_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    assert inputs.weights is not None
    flip_byte(inputs.weights / TENSORS)
    with pytest.raises(DamagedError, match=r"weights.safetensors"):
        train(inputs, tmp_path, tmp_path, tmp_path, config(), lambda row, time_ms: None)
