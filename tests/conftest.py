"""Shared by all tests: small generated data, and a copy of the project in which commands run as a user runs them."""

import compileall
import functools
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from filelock import FileLock

from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.schema import Tracking
from tests import fork_server

torch.set_num_threads(1)  # small networks on two threads wait for each other whenever anything else runs

ROOT = Path(__file__).resolve().parents[1]
PROJECT_FILES = ("conf", "pipeline", "params.yaml", "dvc.yaml", "data.dvc", ".dvcignore", ".gitignore")

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from pipeline.page.inputs import ReportInputs

Command = Callable[..., subprocess.CompletedProcess[str]]

SHARED = "TESTS_SHARED"
"""Variable that names a folder of this session of tests, in which its processes share what takes long to make."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder, in the process that starts the others, and remove it with that process's end."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="goodfit-tests-")
        os.environ[SHARED] = folder.name
        (Path(folder.name) / "owner").write_text(str(os.getpid()))
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(lambda: fork_server.stop(Path(folder.name) / "programs"))


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process of this session which asks for it makes, while the others wait."""
    folder = Path(os.environ[SHARED]) / name
    with FileLock(f"{folder}.lock"):
        if not Path(f"{folder}.made").exists():
            make(folder)
            Path(f"{folder}.made").touch()
    return folder


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Begin with the tests that run commands, so that the many short ones fill what time is left on each core."""
    items.sort(key=lambda item: not {"finished_project", "project"} & set(item.fixturenames))


@pytest.fixture(autouse=True)
def variables_as_they_were() -> Iterator[None]:
    """Undo what connecting to a store leaves in the environment, for a process that would end with its command."""
    before = {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW_", "GOODFIT_"))}
    yield
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "GOODFIT_"))]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def make_prepared(tmp_path: Path) -> Callable[..., Path]:
    """Makes the output of `prepare`: noise with a bright square whose place tells the class."""

    def make(num_train: int = 64, num_val: int = 32, num_classes: int = 3, size: int = 32, channels: int = 1) -> Path:
        folder, generator = tmp_path / "prepare", np.random.default_rng(0)
        counts = {}
        for split, count in {"train": num_train, "val": num_val, "confirm": 8, "test": num_val}.items():
            labels = np.arange(count, dtype=np.int64) % num_classes
            images = generator.integers(0, 120, (count, size, size, channels), dtype=np.uint8)
            for image, label in zip(images, labels, strict=True):
                image[4 + 6 * label : 9 + 6 * label, 4:20] = 220
            (folder / split).mkdir(parents=True)
            np.save(folder / split / "images.npy", images)
            np.save(folder / split / "labels.npy", labels)
            counts[split] = np.bincount(labels, minlength=num_classes).tolist()
        record = DatasetRecord(
            name="squares", classes=[f"class {index}" for index in range(num_classes)], size=size, channels=channels,
            counts=counts, mean=[0.25] * channels, std=[0.2] * channels, source="generated", licence="none", files={},
        )  # fmt: skip
        record.write(folder)
        return folder

    return make


@pytest.fixture
def make_augmented(tmp_path: Path) -> Callable[..., Path]:
    """Makes the output of `augment`: copies that are brighter by 20 and by 40."""

    def make(prepared: Path, num_copies: int = 2, mode: str = "materialized") -> Path:
        folder = tmp_path / "augment"
        folder.mkdir()
        images = np.load(prepared / "train" / "images.npy")
        copies = [np.minimum(images, 255 - 20 * (copy + 1)) + np.uint8(20 * (copy + 1)) for copy in range(num_copies)]
        np.save(folder / "images.npy", np.stack(copies) if copies else np.empty((0, *images.shape), np.uint8))
        transforms = [{"HorizontalFlip": {"p": 0.5}}]
        record = AugmentRecord(
            name="test", mode=mode, asked=mode, reason="augment.mode says so", copies=num_copies, strength=1.0, seed=0,
            transforms=transforms, veto={}, images_sha256="",
        )  # fmt: skip
        record.write(folder)
        return folder

    return make


def environment() -> dict[str, str]:
    """Environment of a user's shell with the virtual environment active, without the variables of DVC, MLflow and the tests."""
    left_out = ("DVC_", "MLFLOW_", "GOODFIT_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    scripts = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": scripts + os.pathsep + kept.get("PATH", ""),
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",  # else every command starts one more process, which looks for a server
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }


@functools.cache
def compile_pipeline() -> None:
    """Write the bytecode of the pipeline, so that no command in a copy of the project compiles it again."""
    assert compileall.compile_dir(ROOT / "pipeline", quiet=1)


def copy_project(folder: Path) -> None:
    """Copy the project to `folder`, as a fresh repository of git and DVC that trains on digits."""
    shutil.copytree(made_once("fresh", make_project), folder, symlinks=True)


def make_project(folder: Path) -> None:
    compile_pipeline()
    folder.mkdir()
    for name in PROJECT_FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy2(source, folder / name)
    params = (folder / "params.yaml").read_text()
    small = re.sub(r"max_epochs: \d+", "max_epochs: 2", params.replace("name: fashion_mnist", "name: digits"))
    assert "digits" in small and "max_epochs: 2" in small, "params.yaml no longer has the lines that tests change"
    (folder / "params.yaml").write_text(small)
    (folder / "data.dvc").write_text("deps:\n- path: downloads\nouts:\n- path: data\n")
    run = command_runner(folder)
    run("git", "init", "-q", ".")
    run("dvc", "init", "-q")
    shutil.copy2(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    run("git", "config", "user.name", "Test")
    run("git", "config", "user.email", "test@example.org")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "Copy the project")


@functools.cache
def programs() -> Path:
    """Programs that run commands in forks of one process of this session, which has imported the libraries."""

    def make(folder: Path) -> None:
        folder.mkdir()
        fork_server.start(folder, environment(), int((folder.parent / "owner").read_text()))

    return made_once("programs", make)


def forked() -> dict[str, str]:
    """Variables with which commands run in forks, as far as they call `python` or `dvc`."""
    return {"PATH": str(programs()) + os.pathsep + environment()["PATH"]}


def command_runner(folder: Path) -> Command:
    """Runs commands in `folder` to their end, as a user's shell does, less the seconds that imports take."""

    def run(program: str, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        command = ["python", "-m", program] if program.startswith("pipeline.") else [program]
        done = subprocess.run(
            [*command, *arguments], cwd=folder, env={**environment(), **forked(), **variables}, capture_output=True, text=True
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{program} {arguments} failed:\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def finished_project() -> Path:
    """A project in which `dvc repro` has run on digits; tests copy it and leave it as it is."""

    def make(folder: Path) -> None:
        copy_project(folder)
        command_runner(folder)("dvc", "repro")

    return made_once("finished", make)


@pytest.fixture(scope="session")
def report_inputs(tmp_path_factory: pytest.TempPathFactory) -> "ReportInputs":
    """What `report` reads, of a small made-up training that was evaluated."""
    from pipeline.evaluate import evaluate
    from pipeline.page.inputs import read
    from tests.page_artefacts import make_all

    folders = make_all(tmp_path_factory.mktemp("made"))
    evaluation = folders["training"].parent / "evaluation"
    evaluate(training=folders["training"], prepared=folders["prepared"], batch_size=30, out=evaluation)
    return read(evaluation=evaluation, **folders)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project for one test, in which nothing has run yet."""
    folder = tmp_path / "project"
    copy_project(folder)
    return folder


@pytest.fixture
def ready(finished_project: Path, tmp_path: Path) -> Path:
    """A copy of `finished_project` for one test, with an empty tracking store."""
    folder = tmp_path / "project"
    shutil.copytree(finished_project, folder, symlinks=True)
    for path in folder.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(folder / "mlartifacts", ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def package() -> Path:
    """A small package; tests copy it and leave it as it is. `page_artefacts.make_all` made what it is of, beside it."""
    from tests.page_artefacts import make_package

    return made_once("packaged", make_package) / "package"


@pytest.fixture(scope="session")
def made_store() -> Path:
    """A tracking store without runs; tests copy it, as making one takes seconds."""

    def make(folder: Path) -> None:
        from pipeline.tracking.store import connect

        folder.mkdir()
        connect(Tracking(enabled=True, uri=f"sqlite:///{folder}/mlflow.db", experiment="goodfit", tags={}))

    return made_once("store", make) / "mlflow.db"


@pytest.fixture
def settings(made_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """A tracking store of this test's own, and an empty spool."""
    for name in ("DVC_STAGE", "DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pipeline.tracking.spool.SPOOL", tmp_path / "spool")
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(made_store)) as source, closing(sqlite3.connect(database)) as copy:
        source.backup(copy)  # with what waits in the write-ahead log
    return Tracking(enabled=True, uri=f"sqlite:///{database}", experiment="goodfit", tags={})


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's chromium."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("tests marked browser need chromium, and none is on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
