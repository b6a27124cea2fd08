"""A network gives the same probabilities whichever way it is asked, on files of every format; servers run on loopback."""

import gzip
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artefacts.package import MODEL
from pipeline.config.schema import Tracking
from pipeline.delivery import Classifier
from pipeline.fetch import fetch_own
from pipeline.tracking.store import connect
from tests import agreement
from tests.agreement import Answers, Asked
from tests.conftest import ROOT, environment, made_once
from tests.idx_files import change_record, idx, write_raw
from tests.image_files import image_files
from tests.own_source import folder
from tests.package_server import PackageServer, package_server
from tests.registered import Candidate, log, served_by_mlflow
from tests.test_source_hostile import as_folder

SQUARES = ("small", "middle", "large")
CLOSE, CLEAR = 1e-4, 2e-4
"""Limit for the difference of two probabilities, and how far the two largest of an image must be apart to fix its label."""

FASHION = (ROOT / "data", Path("/usr/share/datasets/fashion-mnist"))
"""Folders that hold Fashion-MNIST where it was fetched or installed."""


EVERY_FORMAT, MANY = "200 files of every format", "10,000 images"
ONE = pytest.mark.parametrize("asked", [EVERY_FORMAT], indirect=True)


@pytest.fixture(scope="module", params=[EVERY_FORMAT, pytest.param(MANY, marks=pytest.mark.slow)])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """A network that was trained, and files of its test images."""
    if request.param == MANY:
        return _many(tmp_path_factory.mktemp("many"))
    root = made_once("agreement", _every_format)
    return Asked.read(root, root / "source" / "test", lambda number, name: root / "source" / name)


def _every_format(root: Path) -> None:
    """A network for squares of three sizes, and 200 files in every format that `prepare` reads."""
    for split, number in (("train", 300), ("test", 200)):
        files = image_files(number, seed=len(split)).items()
        named = {f"{SQUARES[place % 3]}/{name}": data for place, (name, data) in enumerate(files)}
        as_folder(root / "source" / split, named)
    (root / "raw").mkdir()
    fetch_own(data=folder(root / "source"), out=root / "raw", cache=root / "cache", root=root)
    options = {"width": 4, "depth": 2}
    agreement.make(root, root / "raw", network="convnet", options=options, steps=40, size=16, confirm_fraction=0.35)


def _many(root: Path) -> Asked:
    """A network for Fashion-MNIST, or for generated images where that is not at hand, and 10,000 test images as PNG files."""
    raw = write_raw(root / "raw", _fashion() or _generated())
    change_record(raw, classes=list("abcdefghij"))
    agreement.make(
        root, raw, network="convnet", options={"width": 8, "depth": 2}, steps=150, batch_size=128, size=28, limit=3000,
        near_duplicates=False,
    )  # fmt: skip
    (root / "files").mkdir()
    for number, pixels in enumerate(np.load(root / "prepared" / "test" / "images.npy")):
        Image.fromarray(pixels[..., 0]).save(root / "files" / f"{number:05d}.png", compress_level=1)
    return Asked.read(root, root / "files", lambda number, name: root / "files" / f"{number:05d}.png")


def _fashion() -> dict[str, bytes]:
    """The files of Fashion-MNIST; none where it is not at hand."""
    names = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    for place in FASHION:
        if all((place / name).exists() for name in names):
            return {name: (place / name).read_bytes() for name in names}
        if all((place / f"{name}.gz").exists() for name in names):
            return {name: gzip.decompress((place / f"{name}.gz").read_bytes()) for name in names}
    return {}


def _generated() -> dict[str, bytes]:
    """As many images of ten classes, by the place of a square in noise."""
    generator, content = np.random.default_rng(0), {}
    for name, number in (("train", 6000), ("t10k", 10_000)):
        labels = (np.arange(number) % 10).astype(np.uint8)
        images = generator.integers(0, 120, (number, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 + 2 * label : 7 + 2 * label, 6:22] += np.uint8(110)
        content |= {f"{name}-images-idx3-ubyte": idx(images), f"{name}-labels-idx1-ubyte": idx(labels)}
    return content


@dataclass(frozen=True)
class Registered:
    """Addresses of a tracking store, and of the network there: as a champion and as a run."""

    store: str
    champion: str
    run: str


@pytest.fixture(scope="module")
def registered(asked: Asked, made_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    place = tmp_path_factory.mktemp("store")
    settings = Tracking(enabled=True, uri=f"sqlite:///{place}/mlflow.db", experiment="goodfit", tags={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.tracking.spool.SPOOL", place / "spool")
        log(settings, Candidate(asked.package, asked.root / "training"))
    client = connect(settings).client
    [model] = client.search_logged_models(["1"])
    client.create_registered_model("network")
    client.create_model_version("network", f"models:/{model.model_id}", model.source_run_id)
    client.set_registered_model_alias("network", "champion", "1")
    return Registered(str(settings.uri), "models:/network@champion", f"runs:/{model.source_run_id}")


# What the ways need


@pytest.fixture
def session(asked: Asked) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(asked.package / MODEL, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def pyfunc(registered: Registered) -> Iterator[Any]:
    import mlflow

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.syspath_prepend(".")  # so that what MLflow adds is taken off again
        mlflow.set_tracking_uri(registered.store)
        yield mlflow.pyfunc.load_model(registered.champion)


@pytest.fixture(scope="module")
def models_serve(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served_by_mlflow(registered.champion, registered.store, tmp_path_factory.mktemp("served")) as (url, _):
        yield url


@pytest.fixture(scope="module")
def serve(registered: Registered) -> Iterator[PackageServer]:
    with package_server("serve", registered.champion, MLFLOW_TRACKING_URI=registered.store) as server:
        yield server


WAYS = [
    pytest.param(agreement.of_onnx, "session", id="ONNX Runtime alone"),
    pytest.param(agreement.of_classifier, "tmp_path", id="Classifier without torch"),
    pytest.param(agreement.of_predict, "tmp_path", id="predict"),
    pytest.param(agreement.of_pyfunc, "pyfunc", id="mlflow.pyfunc", marks=pytest.mark.slow),
    pytest.param(agreement.of_models_serve, "models_serve", id="mlflow models serve", marks=pytest.mark.slow),
    pytest.param(agreement.of_serve, "serve", id="pipeline.serve", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("ask", "needed"), WAYS)
def test_every_way_gives_the_probabilities_of_torch_in_evaluate(
    asked: Asked, ask: Callable[[Asked, Any], Answers], needed: str, request: pytest.FixtureRequest
) -> None:
    found = ask(asked, request.getfixturevalue(needed))
    assert found.probabilities.shape == asked.expected.shape == (len(asked.files), len(asked.classes))
    assert len(asked.files) in (200, 10_000) and asked.expected.std(axis=0).min() > 0.05, (
        "a network that knows something"
    )
    assert np.abs(found.probabilities - asked.expected).max() < CLOSE
    second, first = np.sort(asked.expected, axis=1)[:, -2:].T
    clear = first - second > CLEAR
    names = np.array(asked.classes)
    assert clear.mean() > 0.9 and (np.array(found.labels)[clear] == names[asked.expected.argmax(axis=1)][clear]).all()


def test_every_file_becomes_the_pixels_that_prepare_made_of_it(asked: Asked) -> None:
    batches = Classifier.load(asked.package).stream((path.name, path) for path in asked.files)
    pixels = np.load(asked.root / "prepared" / "test" / "images.npy")
    assert (np.concatenate([batch.pixels for batch in batches]) == pixels).all()


@ONE
@pytest.mark.slow
def test_the_demo_takes_a_package_from_the_tracking_store(registered: Registered, asked: Asked) -> None:
    with package_server("demo", registered.run, MLFLOW_TRACKING_URI=registered.store) as server:
        found = server.predict(asked.files[0].read_bytes(), query="?tta=none").json["predictions"][0]["probabilities"]
        assert np.abs(np.array([found[name] for name in asked.classes]) - asked.expected[0]).max() < CLOSE


@ONE
@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "demo", "predict"])
def test_what_the_store_does_not_hold_is_one_sentence(registered: Registered, command: str, tmp_path: Path) -> None:
    given = [sys.executable, "-m", f"pipeline.{command}", "--model", "models:/nothing@champion"]
    given += [str(tmp_path)] if command == "predict" else ["--port", "0"]
    done = subprocess.run(
        given, capture_output=True, text=True, timeout=120,
        env={**environment(), "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": registered.store},
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(
        f"error: a package must be a folder, a ZIP file, or in {registered.store}: models:/m-…"
    )
    assert "got 'models:/nothing@champion'" in done.stderr and done.stderr.count("\n") == 1
