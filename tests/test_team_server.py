"""The team's server: what compose.yaml says, and MLflow as it starts it on a real PostgreSQL, with two people and with outages.

The three containers were never started by these tests. MLflow's command and environment are those of `compose.yaml`, and
PostgreSQL is real; the S3 store is moto's, a mock that boto3 talks to over HTTP.
"""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.artefacts.evaluation import EvaluationRecord
from pipeline.delivery import Classifier
from pipeline.metrics import history
from pipeline.tracking.store import connect
from tests.conftest import ROOT, command_runner, environment
from tests.stores import tracking
from tests.team_server import COMPOSE, SECRETS, TeamServer, binaries, postgres, resolve, team_server, why_not
from tests.test_train import wait_for_epoch

TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "team-server.md").read_text(encoding="utf-8")


def test_compose_file_keeps_to_the_specification() -> None:
    check = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml")]
    done = subprocess.run([sys.executable, "-m", *check], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_image_is_pinned_and_mlflow_is_the_one_that_is_tested() -> None:
    images = [service["image"] for service in COMPOSE["services"].values()]
    images += re.findall(r"^\s*FROM (\S+)", TEXT, re.MULTILINE)
    assert len(images) == 4 and all(re.search(r":v?\d+[\w.-]*$", image) for image in images), images
    (tested,) = re.findall(r"^mlflow==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert COMPOSE["services"]["mlflow"]["image"] == f"goodfit-mlflow:{tested}"
    dockerfile = COMPOSE["services"]["mlflow"]["build"]["dockerfile_inline"]
    assert "--constraint /tmp/constraints.txt" in dockerfile


def test_every_variable_is_explained_and_no_password_has_a_default() -> None:
    variables = dict(re.findall(r"\$\{(\w+)(:[-?])", TEXT))
    assert {name for name, kind in variables.items() if kind == ":?"} == set(SECRETS)
    assert not [name for name in set(variables) - set(SECRETS) if re.search("PASSWORD|SECRET|KEY", name)]
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == set(variables)
    for service in COMPOSE["services"].values():
        for name, value in service["environment"].items():
            secret = re.search("PASSWORD|SECRET", name) is not None
            assert not secret or value.startswith("${"), f"{name} stands in the file"
    assert resolve("${A:-1}-${B:?needed}", {"B": "2"}) == "1-2"
    with pytest.raises(KeyError, match="B"):
        resolve("${B:?needed}", {"B": ""})


def test_only_mlflow_can_be_reached_and_from_this_machine_unless_told_otherwise() -> None:
    services = COMPOSE["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["mlflow"]
    assert resolve(services["mlflow"]["ports"][0], {}) == "127.0.0.1:5000:5000"
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert all(services[name]["networks"] == ["inside"] for name in ("postgres", "s3"))


def test_git_ignores_the_file_with_the_passwords() -> None:
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_page_and_compose_file_name_the_same_volumes_and_services() -> None:
    for command in re.findall(r"^(docker compose .*)$", PAGE, re.MULTILINE):
        named = re.search(r"exec (?:-T |--no-tty )?(\w+)", command)
        assert named is None or named[1] in COMPOSE["services"], command
    assert set(re.findall(r"goodfit-team_(\w+)", PAGE)) == set(COMPOSE["volumes"])


needs_postgres = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    with team_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def ana(server: TeamServer) -> dict[str, str]:
    return server.add_user("ana")


@pytest.fixture(scope="module")
def ben(server: TeamServer) -> dict[str, str]:
    return server.add_user("ben")


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch, ben: dict[str, str]) -> MlflowClient:
    """What ben sees of the server."""
    for name, value in ben.items():
        monkeypatch.setenv(name, value)
    return MlflowClient()


def runs(client: MlflowClient, experiment: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    assert found is not None and found.artifact_location.startswith("mlflow-artifacts:/")
    return list(client.search_runs([found.experiment_id]))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
@needs_postgres
def test_a_training_its_evaluation_and_its_diagnosis_arrive(
    ready: Path, tmp_path: Path, server: TeamServer, ana: dict[str, str], person: MlflowClient
) -> None:
    params = ready / "params.yaml"
    params.write_text(params.read_text().replace("max_epochs: 2", "max_epochs: 3"))
    command_runner(ready)("dvc", "repro", **ana)
    assert not (ready / "mlflow.db").exists() and not list(ready.glob("build/spool/*/[0-9]*"))

    out = ready / "build" / "train"
    (found,) = runs(person, "goodfit")
    rows = history.read_csv(out / "history.csv")
    points = person.get_metric_history(found.info.run_id, history.VAL_LOSS)
    assert found.info.status == "FINISHED" and [point.value for point in points] == [row["val/loss"] for row in rows]
    evaluation = EvaluationRecord.read(ready / "build" / "evaluate")
    assert found.data.metrics["test/accuracy"] == pytest.approx(evaluation.scores.accuracy.value)
    verdict = DiagnosisRecord.read(ready / "build" / "diagnose").verdict
    assert found.data.tags["verdict"] == verdict and found.data.params["data.name"] == "digits"
    assert found.inputs.dataset_inputs[0].dataset.name == "digits"

    counted = "SELECT count(*) FROM metrics WHERE run_uuid = %s AND key = 'val/loss'"
    assert server.database.ask(counted, found.info.run_id) == [(len(rows),)]
    assert server.database.ask("SELECT name FROM datasets WHERE name = 'digits' LIMIT 1") == [("digits",)]
    kept = Path(person.download_artifacts(found.info.run_id, "training/model.ckpt", str(tmp_path)))
    assert digest(kept) == digest(out / "model.ckpt")
    assert any(path.endswith(f"{found.info.run_id}/artifacts/training/model.ckpt") for path in server.paths())
    assert not list(server.folder.glob("**/model.ckpt")), "the files lie in the bucket, not with the server"
    assert not [name for name in ana if name.startswith("AWS_")], "nobody but the server has keys of the bucket"


LOAD = """
import sys, mlflow, pandas
model = mlflow.pyfunc.load_model("models:/digits@champion")
(row,) = model.predict(pandas.DataFrame({"image": [open(sys.argv[1], "rb").read()]})).to_dict("records")
print(row["label"], row["error"])
"""


@pytest.mark.slow
@needs_postgres
def test_what_one_person_registers_another_loads_and_rolls_back(
    ready: Path, tmp_path: Path, server: TeamServer, ana: dict[str, str], ben: dict[str, str], person: MlflowClient
) -> None:
    run = command_runner(ready)
    run("pipeline.train", "train.max_epochs=3", "tracking.experiment=registered", **ana)
    (folder,) = ready.glob("outputs/train/*/package")
    names = ("tracking.experiment=registered", f"register.package={folder}")
    told = run("pipeline.register", *names, **ana).stdout
    assert told.startswith("digits version 1 is @challenger: it has not been evaluated on a test split.")
    person.set_registered_model_alias("digits", "champion", "1")  # as a person may, whatever the gate says
    version = person.get_model_version_by_alias("digits", "champion")
    assert version.description == (folder / "card.md").read_text() and version.tags["verdict"] == "none"
    assert any("/models/m-" in path and path.endswith("/model.onnx") for path in server.paths()), (
        "it lies in the bucket"
    )

    images = np.load(ready / "build" / "prepare" / "test" / "images.npy")
    image = tmp_path / "image.png"
    Image.fromarray(images[0, ..., 0]).save(image)
    expected = Classifier.load(folder).predict([image])["label"][0]
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, str(image)], cwd=tmp_path, env={**environment(), **ben},
        capture_output=True, text=True,
    )  # fmt: skip
    assert loaded.returncode == 0 and loaded.stdout.splitlines()[-1] == f"{expected} None", loaded.stderr
    predicted = run("pipeline.predict", str(image), "--model", "models:/digits@champion", "--format", "jsonl", **ben)
    assert f'"label": "{expected}"' in predicted.stdout, predicted.stdout
    shown = run("pipeline.register", "history", "register.name=digits", **ben).stdout
    assert shown.startswith("digits   1 @challenger @champion") or shown.startswith("digits   1 @champion @challenger")


@pytest.mark.slow
@needs_postgres
def test_who_is_not_signed_in_sees_nothing_and_is_told_in_one_sentence(
    ready: Path, server: TeamServer, ana: dict[str, str], ben: dict[str, str]
) -> None:
    for wrong in ({}, {"MLFLOW_TRACKING_USERNAME": "ana", "MLFLOW_TRACKING_PASSWORD": ben["MLFLOW_TRACKING_PASSWORD"]}):
        variables = {"MLFLOW_TRACKING_URI": server.url, **wrong}
        done = command_runner(ready)("pipeline.train", check=False, **variables)
        assert done.returncode == 1 and done.stderr.count("error: ") == 1
        assert f"tracking.uri must be a store that lets us in; got {server.url}" in done.stderr
        assert "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in done.stderr
        assert ben["MLFLOW_TRACKING_PASSWORD"] not in done.stderr + done.stdout
    recorded = (server.folder / "mlflow.log").read_text()
    assert not [
        value for value in (*server.variables.values(), server.admin[1]) if len(value) > 30 and value in recorded
    ]


@pytest.mark.slow
@needs_postgres
def test_two_processes_of_another_person_sweep_into_the_same_experiment(
    ready: Path, server: TeamServer, ana: dict[str, str], ben: dict[str, str], person: MlflowClient
) -> None:
    by_ana = ("ana", ana["MLFLOW_TRACKING_PASSWORD"])
    made = requests.post(f"{server.url}/api/2.0/mlflow/experiments/create", json={"name": "shared"}, auth=by_ana)
    made.raise_for_status()
    side_by_side = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2", "train.max_epochs=1")
    command_runner(ready)("pipeline.train", "-m", *side_by_side, "tracking.experiment=shared", **ben)
    found = runs(person, "shared")
    (parent,) = (each for each in found if each.info.run_name.startswith("sweep-"))
    children = [each for each in found if each.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {each.info.status for each in found} == {"FINISHED"} and len(found) == 3
    assert sorted(each.data.params["seed"] for each in children) == ["1", "2"]
    names = [{file.path for file in person.list_artifacts(each.info.run_id, "training")} for each in children]
    assert all({"training/model.ckpt", "training/history.csv"} <= each for each in names)


@pytest.mark.slow
@needs_postgres
def test_a_server_and_a_database_that_are_killed_lose_nothing(
    ready: Path, server: TeamServer, ana: dict[str, str], person: MlflowClient
) -> None:
    words = ("train.max_epochs=30", "train.early_stopping.patience=null", "tracking.experiment=outage")
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.train", *words], cwd=ready, env={**environment(), **ana}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as training:  # fmt: skip
        wait_for_epoch(ready, 2)
        server.kill()
        server.database.kill()
        output, _ = training.communicate(timeout=300)
    assert training.returncode == 0 and "waits in build/spool" in output, output
    out = next(ready.glob("outputs/train/*"))
    run = command_runner(ready)
    evaluated = run("pipeline.evaluate", f"evaluate.training={out}", "tracking.experiment=outage", **ana)
    assert "3 entries wait in build/spool" in evaluated.stderr, "the training, its package and its evaluation"

    server.database.start()
    server.start()
    assert run("pipeline.sync", **ana).returncode == 0
    assert run("pipeline.sync", **ana).stdout == "Nothing waits.\n"
    (found,) = runs(person, "outage")
    rows = history.read_csv(out / "history.csv")
    points = person.get_metric_history(found.info.run_id, history.VAL_LOSS)
    assert len(rows) == 30 and found.info.status == "FINISHED"
    assert [(point.step, point.value) for point in points] == [(row["epoch"], row["val/loss"]) for row in rows]
    assert found.data.metrics["test/accuracy"] > 0
    (model,) = person.search_logged_models([found.info.experiment_id])
    assert model.source_run_id == found.info.run_id and str(model.status) == "READY"
    assert any(path.endswith(f"{found.info.run_id}/artifacts/training/run.json") for path in server.paths())


@pytest.mark.slow
@needs_postgres
def test_a_database_without_a_server_is_a_store_too() -> None:
    with postgres() as database:
        store = connect(tracking(database.address))
        assert store.client.get_experiment(store.experiment_id).name == "goodfit"
        assert database.password not in store.shown
        assert database.ask("SELECT name FROM experiments WHERE name = 'goodfit'") == [("goodfit",)]


@pytest.mark.slow
@needs_postgres
def test_a_backup_of_the_database_is_whole(server: TeamServer, person: MlflowClient, tmp_path: Path) -> None:
    run_id = person.create_run(person.create_experiment("kept"), tags={"team": "b"}).info.run_id
    person.log_param(run_id, "seed", "1")
    person.log_metric(run_id, "val/loss", 0.5)
    dump = ["--username=mlflow", "--host=127.0.0.1", "mlflow"]
    tables = ("experiments", "runs", "metrics", "params", "tags", "users")
    with postgres() as other, (tmp_path / "runs.dump").open("w+b") as file:
        for name, database, words in (
            ("pg_dump", server.database, ["--format=custom", *dump]),
            ("pg_restore", other, ["--dbname=mlflow", *dump[:-1]]),
        ):
            file.seek(0)
            variables = {**environment(), "PGPASSWORD": database.password, "PGPORT": str(database.port)}
            ends = {"stdout": file} if name == "pg_dump" else {"stdin": file}
            subprocess.run([str(binaries() / name), *words], env=variables, check=True, **ends)
        for table in tables:
            query = f"SELECT count(*), max(t::text) FROM {table} t"
            assert other.ask(query) == server.database.ask(query) and other.ask(query)[0][0] > 0, table
        upgrade = ["mlflow", "db", "upgrade", f"postgresql://mlflow@127.0.0.1:{other.port}/mlflow"]
        subprocess.run(upgrade, env={**environment(), "PGPASSWORD": other.password}, check=True, capture_output=True)
