"""The states of a tracking store: a wrong one is refused with what mends it, an older one is kept, half a one is not."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.config.schema import Tracking
from pipeline.errors import StoreError
from pipeline.tracking import database
from pipeline.tracking.store import StoreAway, address, check, connect, place
from pipeline.tracking.training import tracked
from tests.conftest import ROOT, command_runner
from tests.loopback import free_port, web_server
from tests.records import run_origin
from tests.stores import tracking
from tests.test_train import started


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A database of another program."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
    return tmp_path / "shop.db"


def text_file(folder: Path) -> str:
    (folder / "notes.db").write_text("not a database\n")
    return f"sqlite:///{folder}/notes.db"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:///{}/nowhere/d.db", r"must lie in a folder that exists; got .*d.db. Make it with `mkdir -p .*nowhere`"),
        ("sqlite:///{}", r"tracking.uri must name a file, such as sqlite:///mlflow.db; got the folder .*. Name a file in it."),
        ("sqlite:///{}/notes.db", r"must be a database of MLflow; got .*notes.db: it is no SQLite file. Name another file"),
        ("sqlite:///{}/shop.db", r"must be a database of MLflow; got .*shop.db: its tables are another program's"),
        ("{}/mlruns", r"must be a database or a server, such as .*; got '.*mlruns', and MLflow 3 keeps no runs in folders"),
        ("./mlruns/", r"`mlflow migrate-filestore`"),
        ("file:///{}/mlruns", r"such as sqlite:///mlflow.db or http://localhost:5000"),
    ],
)  # fmt: skip
def test_a_setting_that_no_waiting_mends_is_refused_before_training(
    uri: str, message: str, tmp_path: Path, foreign: Path
) -> None:
    text_file(tmp_path)
    wrong = tracking(uri.format(tmp_path))
    for refuse in (check, connect):
        with pytest.raises(StoreError, match=message):
            refuse(wrong)
    with pytest.raises(StoreError, match=message), tracked(wrong, run_origin(), tmp_path):
        raise AssertionError("the training has begun")
    assert not (tmp_path / "nowhere").exists()


def test_a_refused_training_leaves_no_origin_to_the_next(tmp_path: Path) -> None:
    wrong, origin = tracking("./mlruns"), run_origin()
    for files in ({"last.ckpt"}, set[str]()):
        working = tmp_path / f"train-{len(files)}"
        working.mkdir()
        origin.write(working)
        for name in files:
            (working / name).touch()
        with pytest.raises(StoreError), tracked(wrong, origin, working):
            pass
        assert working.exists() == bool(files), "a training that was killed goes on"


def test_a_read_only_store_is_refused(settings: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_only = [str(tmp_path / "mlflow.db")]
    monkeypatch.setattr("os.access", lambda path, mode: str(path) not in read_only)
    message = (
        r"tracking.uri must be writable; got .*mlflow.db, and .*mlflow.db is read-only for this user. Change its perm"
    )
    with pytest.raises(StoreError, match=message):
        check(settings)
    read_only[:] = [str(tmp_path)]
    with pytest.raises(StoreError, match="is read-only for this user"):
        check(settings)


def test_a_store_of_a_newer_mlflow_is_refused(settings: Tracking, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    with pytest.raises(
        StoreError, match=r"must be a database of MLflow .* or older; got .*Run `pip install --upgrade mlf"
    ):
        connect(settings)


def test_a_damaged_store_is_refused(settings: Tracking, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(path.read_bytes()[:100] + bytes(5000))
    with pytest.raises(StoreError, match="it is damaged"):
        check(settings)


def test_a_deleted_experiment_is_named_with_what_restores_it(settings: Tracking) -> None:
    client = MlflowClient(settings.uri)
    experiment_id = connect(settings).experiment_id
    client.delete_experiment(experiment_id)
    restore = f"`MLFLOW_TRACKING_URI={settings.uri} mlflow experiments restore --experiment-id {experiment_id}`"
    with pytest.raises(StoreError) as refusal:
        check(settings)
    assert f"tracking.experiment must not be deleted; got 'goodfit', which was deleted from {settings.uri}" in str(
        refusal.value
    )
    assert restore in str(refusal.value) and "name another one with tracking.experiment=…" in str(refusal.value)
    client.restore_experiment(experiment_id)
    assert connect(settings).experiment_id == experiment_id


def test_an_experiment_deleted_on_a_server_is_refused_before_training(tmp_path: Path) -> None:
    found = {"experiment": {"experiment_id": "7", "name": "goodfit", "lifecycle_stage": "deleted"}}
    with web_server() as server:
        server.files["api/2.0/mlflow/experiments/get-by-name?experiment_name=goodfit"] = json.dumps(found).encode()
        with (
            pytest.raises(StoreError, match=r"deleted from http://127.0.0.1:\d+. Run .*--experiment-id 7`"),
            tracked(tracking(server.url), run_origin(), tmp_path),
        ):
            raise AssertionError("the training has begun")


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, StoreError, "tracking.uri must be a store that lets us in; .* Set MLFLOW_TRACKING_USERNAME and"),
        (404, StoreError, "tracking.uri must be a store that lets us in; got http://127.0.0.1"),
        (503, StoreAway, "503"),
        (500, StoreAway, "500"),
    ],
)
def test_the_answer_of_a_server_tells_an_outage_from_a_wrong_setting(
    status: int, error: type[Exception], message: str
) -> None:
    with web_server() as server:
        server.status = status
        with pytest.raises(error, match=message):
            connect(tracking(server.url))


def test_a_server_that_is_not_there_is_an_outage_and_its_password_is_not_told() -> None:
    with pytest.raises(StoreAway) as away:
        connect(tracking(f"http://me:s3cret@127.0.0.1:{free_port()}"))
    assert "refused" in str(away.value) and "s3cret" not in str(away.value)
    with pytest.raises(StoreAway, match="refused"):
        connect(tracking(f"postgresql://me:s3cret@127.0.0.1:{free_port()}/mlflow"))
    assert place(tracking("postgresql://me:s3cret@db:5432/mlflow")) == "postgresql://db:5432/mlflow"


def test_a_relative_path_lies_in_the_project_even_for_an_experiment_in_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert address(tracking("sqlite:///a.db")) == f"sqlite:///{tmp_path}/a.db"
    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.setattr("pipeline.stage.lineage.ROOT", Path("/project"))
    assert address(tracking("sqlite:///a.db")) == "sqlite:////project/a.db"


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Path]:
    """A store of an earlier schema, with an experiment that lies in its write-ahead log only."""
    from alembic import command
    from mlflow.store.db.utils import InitialBase, _get_alembic_config, create_sqlalchemy_engine

    path = tmp_path / "mlflow.db"
    engine = create_sqlalchemy_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "acf3f17fdcc7")  # of MLflow 2.9
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        fields = "experiment_id, name, artifact_location, lifecycle_stage"
        connection.execute(f"INSERT INTO experiments ({fields}) VALUES (5, 'old', '', 'active')")
        connection.commit()
        assert (tmp_path / "mlflow.db-wal").stat().st_size > 0
        yield path


@pytest.mark.long
def test_an_older_store_is_copied_before_it_is_migrated(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = connect(tracking(f"sqlite:///{older}"))
    said = capsys.readouterr().err
    (kept,) = (path for path in older.parent.glob("mlflow.db.before-*"))
    assert f"{older} is of an older MLflow and is migrated to " in said and f"a copy of it stays at {kept}" in said
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("acf3f17fdcc7",)]
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("old",)]
    assert {"old", "goodfit"} <= {experiment.name for experiment in store.client.search_experiments()}
    connect(tracking(f"sqlite:///{older}"))
    assert capsys.readouterr().err == "" and len(list(older.parent.glob("mlflow.db.before-*"))) == 1


def test_a_store_that_cannot_be_migrated_is_whole_in_its_copy(
    older: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nOperationalError: no such table: runs\n")
    monkeypatch.setattr("subprocess.run", lambda *arguments, **options: failed)
    with pytest.raises(
        StoreError, match=r"can migrate; got .*: OperationalError: no such table: runs. It is whole at .*before-"
    ):
        database.make_ready(older)


def test_a_full_disk_leaves_no_half_of_a_store(tmp_path: Path) -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from pipeline.tracking.store import connect, StoreAway\n"
        "from pipeline.config.schema import Tracking\n"
        f"settings = Tracking(enabled=True, uri='sqlite:///{tmp_path}/mlflow.db', experiment='goodfit', tags={{}})\n"
        "try: connect(settings)\n"
        "except StoreAway as error: print(error)"
    )
    with started(ROOT, "python", "-c", script) as process:
        output, _ = process.communicate()
    assert process.returncode == 0 and ("disk" in output or "full" in output), output
    assert os.listdir(tmp_path) == [".mlflow.db.lock"]


def test_a_training_is_refused_in_one_sentence(ready: Path) -> None:
    (ready / "notes.db").write_text("not a database")
    done = command_runner(ready)("pipeline.train", "tracking.uri=sqlite:///notes.db", check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: tracking.uri must be a database of MLflow; got ")
    done = command_runner(ready)("pipeline.train", "tracking.experiment=", check=False)
    assert "error: tracking.experiment must be the name of an experiment; got ''." in done.stderr
