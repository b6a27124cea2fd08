"""For tests of registering and serving: MLflow's server on loopback, and packages of several qualities, logged to it."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from numpy.typing import NDArray

from pipeline import model, register
from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.evaluation import Scores
from pipeline.artefacts.package import IMAGES, ClassesRecord, ManifestRecord, PreprocessingRecord, Signature
from pipeline.artefacts.receipt import ReceiptRecord
from pipeline.config import composition
from pipeline.config.schema import Config, Package, Tracking
from pipeline.delivery import package
from pipeline.delivery.building import Sources, build
from pipeline.delivery.package import Package as PackageContent
from pipeline.evaluation.scoring import evaluate
from pipeline.stage.lineage import hash_file
from pipeline.storage.digests import sha256
from pipeline.tracking import database, registry
from pipeline.tracking.publish import send_package
from tests.conftest import ROOT, environment
from tests.loopback import free_port
from tests.networks import fit
from tests.page_artefacts import CLASSES, NETWORK, make_all
from tests.records import rewrite_record
from tests.stores import tracking, training_folder

NUM_TEST = 200
WEAK, STRONG, EQUAL = range(100), range(150), range(50, 200)
"""Numbers of the test images that three candidates classify rightly."""

_numbers = count()


@dataclass(frozen=True)
class Made:
    """What two networks of one dataset are made of, and their packages, which are evaluated.

    Attributes:
        folders: Folders by the names of `page_artefacts.make_all`; `training` is that of the untrained network.
        untrained: Package of a network as it was initialised.
        trained: Package of the same network, trained.
        evaluation: Evaluation of the trained network.
    """

    folders: dict[str, Path]
    untrained: Path
    trained: Path
    evaluation: Path


def made(factory: pytest.TempPathFactory) -> Made:
    """The packages, made once for all processes of the test session, as exporting a network takes seconds."""
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "registered"
    with FileLock(f"{root}.lock"):
        if not (root / "done").exists():
            shutil.rmtree(root, ignore_errors=True)
            _make(root)
            (root / "done").touch()
    folders = {name: root / name for name in ("prepared", "augmented", "training", "diagnosis")}
    return Made(folders, root / "untrained", root / "trained", root / "trained-evaluation")


def _make(root: Path) -> None:
    folders = make_all(root)
    trained = Path(shutil.copytree(folders["training"], root / "trained-training"))
    network, _ = model.load(trained / "model.ckpt")
    fit(network, folders["prepared"] / "train", steps=60)
    model.save(trained / "model.ckpt", NETWORK, network.state_dict(), CLASSES)
    rewrite_record(trained / "run.json", id="7d1f", name="trained", weights_sha256=hash_file(trained / "model.ckpt"))
    keys = {"training": None, "evaluation": None, "diagnosis": None, "coverage": 0.9, "operating_point": {}}
    for name, training in (("untrained", folders["training"]), ("trained", trained)):
        evaluation, out = root / f"{name}-evaluation", root / name
        evaluate(training=training, prepared=folders["prepared"], batch_size=30, out=evaluation)
        out.mkdir()
        sources = Sources(training, folders["prepared"], evaluation, None)
        build(sources, Package(**keys, confirm_chose=False), out, tta="none", batch_size=32)  # type: ignore[arg-type]
        sign_again(out, verdict="good_fit")


@dataclass
class MlflowServer:
    """MLflow's server on loopback.

    Attributes:
        url: Its address.
        folder: Folder with its database and its files.
        process: The running server; None while it is stopped.
    """

    url: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers. Its database is made before: several workers at once would fail."""
        database.make_ready(self.folder / "mlflow.db")
        options = ["--host", "127.0.0.1", "--port", self.url.rpartition(":")[2], "--workers", "1"]
        options += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        options += ["--artifacts-destination", str(self.folder / "files")]
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options], cwd=self.folder, start_new_session=True, stdout=log,
                stderr=log, env={**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )  # fmt: skip
        wait_for(self.url + "/health", self.process, self.folder / "mlflow.log")

    def kill(self) -> None:
        """Stop the server at once, with its workers, as a power cut does."""
        if self.process is not None:
            end_group(self.process)
            self.process = None


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2):
            return
        assert time.monotonic() < deadline and process.poll() is None, log.read_text()
        time.sleep(0.1)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that was started in a session of its own, with its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def served_by_mlflow(address: str, store: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Address and process of `mlflow models serve` with a model of a store, stopped at the end of the block."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", address, "--env-manager", "local", "--host", "127.0.0.1",
        "--port", url.rpartition(":")[2],
    ]  # fmt: skip
    with (folder / "log").open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, start_new_session=True, stdout=file, stderr=file,
            env={**environment(), "MLFLOW_TRACKING_URI": store},
        )  # fmt: skip
    try:
        wait_for(f"{url}/ping", process, folder / "log", 240)
        yield url, process
    finally:
        end_group(process)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """A server with an empty store, stopped at the end of the block."""
    server = MlflowServer(f"http://127.0.0.1:{free_port()}", folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@functools.cache
def _composed() -> Config:
    return composition.compose(ROOT / "conf", ROOT / "params.yaml", [])


def config_for(settings: Tracking, **register: Any) -> Config:
    """The project's configuration, registering in the store of `settings`."""
    config = _composed()
    changed = config.register.model_copy(update=register)
    return config.model_copy(update={"register": changed, "tracking": settings})


def digests(begin: int, end: int) -> NDArray[np.uint64]:
    """Digests of made-up images, by their numbers."""
    return np.arange(begin, end, dtype=np.uint64)


@dataclass(frozen=True)
class Candidate:
    """A package, and the training that it is of."""

    package: Path
    training: Path

    @property
    def content(self) -> PackageContent:
        return package.read(self.package)


def candidate(
    original: Path, folder: Path, right: Sequence[int] | range, *, test: NDArray[np.uint64] | None = None,
    used: NDArray[np.uint64] | None = None, classes: list[str] | None = None, **manifest: Any,
) -> Candidate:  # fmt: skip
    """A copy of a package that says it classified the test images with these numbers rightly.

    Args:
        original: Folder of the package.
        folder: Folder to make; its name is the training's id.
        right: Numbers of the images.
        test: Digests of the test images.
        used: Digests of the images that it was made with.
        classes: Names of the classes.
        manifest: Changes of the manifest's fields.
    """
    shutil.copytree(original, folder / "package")
    test = digests(0, NUM_TEST) if test is None else test
    labels = np.arange(len(test), dtype=np.int64) % len(CLASSES)
    predicted = (labels + 1) % len(CLASSES)
    predicted[list(right)] = labels[list(right)]
    used = digests(1000, 1100) if used is None else used
    write_images(folder / "package", used=used, test=test, labels=labels, predicted=predicted)
    if classes is not None:
        ClassesRecord(classes=classes).write(folder / "package")
    accuracy = len(list(right)) / len(test)
    known = {"scores": scores(accuracy), "split": "test", "verdict": "good_fit", "training": folder.name}
    sign_again(folder / "package", **{**known, **manifest})
    training = training_folder(folder / "training", id=folder.name, name=folder.name)
    return Candidate(folder / "package", training)


def scores(accuracy: float) -> Scores:
    """Scores with this accuracy."""
    interval = Interval(value=accuracy, low=max(accuracy - 0.1, 0.0), high=min(accuracy + 0.1, 1.0))
    return Scores(
        accuracy=interval, balanced_accuracy=interval, precision_macro=accuracy, f1_macro=accuracy, loss=1.0, ece=0.1,
        loss_uncalibrated=1.1, ece_uncalibrated=0.2,
    )  # fmt: skip


def write_images(folder: Path, **arrays: NDArray[Any]) -> None:
    """Write what a package knows about images."""
    content = BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    (folder / IMAGES).write_bytes(content.getvalue())


def change_preprocessing(folder: Path, **changes: Any) -> None:
    """Change how a package prepares images, and sign it again."""
    PreprocessingRecord.read(folder).model_copy(update=changes).write(folder)
    sign_again(folder)


def sign_again(folder: Path, **changes: Any) -> None:
    """List the files of a package as they are now, and change other fields of its manifest."""
    manifest = ManifestRecord.read(folder)
    files = {
        name: Signature(sha256=sha256(folder / name), num_bytes=(folder / name).stat().st_size)
        for name in manifest.files
    }
    manifest.model_copy(update={"files": files, **changes}).write(folder)


def log(settings: Tracking, *candidates: Candidate) -> None:
    """Log the packages to the store, each as the model of its training's run."""
    for each in candidates:
        send_package(settings, each.training, each.package)


def aliases(settings: Tracking, name: str) -> Mapping[str, str]:
    """The aliases of a registered model, with the version of each."""
    found = MlflowClient(settings.uri).get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def logged_candidates(server: MlflowServer, packages: Made, folder: Path) -> dict[str, Candidate]:
    """Candidates by name, which the server knows as logged models."""
    original = packages.untrained
    found = {
        "weak": candidate(original, folder / "weak", WEAK),
        "strong": candidate(original, folder / "strong", STRONG),
        "equal": candidate(original, folder / "equal", EQUAL),
        "perfect": candidate(original, folder / "perfect", range(NUM_TEST)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.tracking.spool.SPOOL", folder / "spool")
        log(tracking(server.url), *found.values())
    return found


def told_versions(settings: Tracking, name: str, version: str) -> list[tuple[str, str]]:
    """Names and numbers of versions that the logged model of a version tells, as its page in MLflow shows them."""
    client = MlflowClient(settings.uri)
    source = client.get_model_version(name, version).source.removeprefix("models:/")
    told = json.loads(client.get_logged_model(source).tags["mlflow.modelVersions"])
    return [(each["name"], str(each["version"])) for each in told]


@dataclass
class Registered:
    """A registered model of this test's own, on the server that all tests share."""

    settings: Tracking
    name: str = field(default_factory=lambda: f"model {next(_numbers)}")

    def take(self, one: Candidate, **keys: Any) -> ReceiptRecord:
        config = config_for(self.settings, **{"name": self.name, **keys})
        return register.register(config, one.package, one.content)

    @property
    def aliases(self) -> dict[str, str]:
        return dict(aliases(self.settings, self.name))

    def tags(self, version: str) -> dict[str, str]:
        return dict(MlflowClient(self.settings.uri).get_model_version(self.name, version).tags)

    @property
    def versions(self) -> list[str]:
        with registry.opened(self.settings) as store:
            return [str(version.version) for version in registry.versions(store, self.name)]

    @property
    def is_locked(self) -> bool:
        return registry.LOCK in MlflowClient(self.settings.uri).get_registered_model(self.name).tags
