"""For tests of registering and serving: MLflow's server on loopback, and packages of several qualities, logged to it."""

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
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.evaluation import Scores
from pipeline.artefacts.package import IMAGES, ClassesRecord, ManifestRecord, PreprocessingRecord, Signature
from pipeline.artefacts.run import RunRecord
from pipeline.config import composition
from pipeline.config.schema import Config, Tracking
from pipeline.delivery import package
from pipeline.storage.digests import sha256
from pipeline.tracking.publish import send_package
from tests.conftest import ROOT, environment
from tests.loopback import free_port
from tests.page_artefacts import CLASSES
from tests.stores import training_folder

NUM_TEST = 200


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
        """Start the server, and wait until it answers."""
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
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """A server with an empty store, stopped at the end of the block."""
    server = MlflowServer(f"http://127.0.0.1:{free_port()}", folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def config_for(settings: Tracking, **register: Any) -> Config:
    """The project's configuration, registering in the store of `settings`."""
    config = composition.compose(ROOT / "conf", ROOT / "params.yaml", [])
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
    def content(self) -> package.Package:
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
    from mlflow import MlflowClient

    found = MlflowClient(settings.uri).get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def record_of(candidate_: Candidate) -> RunRecord:
    return RunRecord.read(candidate_.training)
