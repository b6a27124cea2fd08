"""What becomes champion, against MLflow's own server: better ones and nothing else, whoever asks and whatever dies."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from pipeline.artefacts.source import SourcePart, SourceRecord
from pipeline.delivery import Classifier
from pipeline.delivery.gate import SeenImages
from pipeline.tracking.store import connect
from tests.idx_files import write_files
from tests.page_artefacts import CLASSES, NETWORK
from tests.registered import (
    STRONG,
    Candidate,
    Made,
    MlflowServer,
    Registered,
    candidate,
    change_preprocessing,
    digests,
    log,
    logged_candidates,
    made,
    mlflow_server,
    sign_again,
    told_versions,
    write_images,
)  # fmt: skip
from tests.stores import tracking, training_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(autouse=True)
def own_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tracking.spool.SPOOL", tmp_path / "spool")
    monkeypatch.setattr("pipeline.tracking.registry.SETTLE_SECONDS", 0.1)


@pytest.fixture
def model(server: MlflowServer) -> Registered:
    return Registered(tracking(server.url))


@pytest.fixture(scope="module")
def logged(server: MlflowServer, packages: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    """Candidates by name, which the server knows as logged models."""
    return logged_candidates(server, packages, tmp_path_factory.mktemp("candidates"))


def test_a_better_candidate_becomes_champion_and_neither_a_worse_nor_an_equal_one(
    model: Registered, logged: dict[str, Candidate]
) -> None:
    first = model.take(logged["weak"])
    assert (first.decision, first.model_version, first.comparison) == ("champion", "1", None)
    assert first.reason == "there was no champion, and it is within the limits" and first.candidates == 1
    better = model.take(logged["strong"])
    assert better.decision == "champion" and model.aliases == {"champion": "2"}
    assert re.fullmatch(
        r"it is surely better than version 1: \+0.250 \[\+0.\d+, \+0.\d+\] on 200 test images, p = .*", better.reason
    )
    assert better.comparison is not None and better.comparison.p_value < 1e-10 and not better.comparison.run_again
    for name, version in (("equal", "3"), ("weak", "1")):
        receipt = model.take(logged[name])
        assert (receipt.decision, receipt.model_version) == ("challenger", version)
        assert receipt.reason.startswith("it is not surely better than version 2: ")
        assert model.aliases == {"champion": "2", "challenger": version}
    assert receipt.candidates == 3 and receipt.name == model.name


def test_a_version_tells_what_it_is_and_why_it_has_its_alias(
    model: Registered, logged: dict[str, Candidate], packages: Made
) -> None:
    model.take(logged["strong"])
    client = MlflowClient(model.settings.uri)
    version = client.get_model_version(model.name, "1")
    assert version.description == (packages.untrained / "card.md").read_text()
    expected = {
        "verdict": "good_fit", "test_accuracy": "0.7500", "git_commit": "0123abc", "data_hash": "none",
        "goodfit.fingerprint": "train-1", "goodfit.reason": "there was no champion, and it is within the limits",
    }  # fmt: skip
    assert expected.items() <= version.tags.items() and {"goodfit.package", "goodfit.test"} <= version.tags.keys()
    logged_model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {metric.key: metric.value for metric in logged_model.metrics}["test/accuracy"] == 0.75
    assert {metric.dataset_name for metric in logged_model.metrics} == {"none"}
    assert version.run_id == logged_model.source_run_id
    assert told_versions(model.settings, model.name, "1") == [(model.name, "1")]


def test_registering_again_changes_nothing(model: Registered, logged: dict[str, Candidate]) -> None:
    for name in ("weak", "strong", "equal"):
        model.take(logged[name])
    before = [model.tags(version) for version in model.versions], model.aliases
    for name, decision in (("strong", "champion"), ("equal", "challenger"), ("strong", "champion")):
        receipt = model.take(logged[name])
        assert receipt.decision == decision and receipt.candidates == 3
    assert receipt.reason == "it is the champion already"
    assert ([model.tags(version) for version in model.versions], model.aliases) == before


def test_with_a_margin_one_that_is_surely_not_much_worse_becomes_champion(
    model: Registered, logged: dict[str, Candidate]
) -> None:
    model.take(logged["strong"])
    narrow = model.take(logged["equal"], margin=0.05)
    assert narrow.decision == "challenger"
    assert "it is perhaps worse than version 1 by more than register.margin=0.05: +0.000 [-0." in narrow.reason
    wide = model.take(logged["equal"], margin=0.2)
    assert wide.decision == "champion" and wide.reason.startswith(
        "it is surely not worse than version 1 by more than register.margin=0.2: "
    )
    assert model.aliases == {"champion": "2"}, "a champion is no challenger"
    assert model.take(logged["weak"], margin=0.1).decision == "challenger"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"min_accuracy": 0.8}, "its test accuracy is 0.750, and register.min_accuracy is 0.8"),
        ({"max_size_mb": 0.001}, r"it has 0.0 MB, and register.max_size_mb is 0.001"),
        ({"max_latency_ms": 1e-6}, r"an image takes \d+.\d ms, and register.max_latency_ms is 1e-06"),
        ({"refused_verdicts": ["good_fit"]}, "its verdict is good fit, which register.refused_verdicts names"),
    ],
)  # fmt: skip
def test_outside_of_a_limit_nothing_becomes_champion(
    model: Registered, logged: dict[str, Candidate], keys: dict[str, Any], reason: str
) -> None:
    receipt = model.take(logged["strong"], **keys)
    assert receipt.decision == "challenger" and re.fullmatch(reason, receipt.reason)
    assert model.aliases == {"challenger": "1"} and model.tags("1")["goodfit.reason"] == receipt.reason
    assert model.take(logged["strong"]).decision == "champion", "the limits have changed"
    assert model.aliases == {"champion": "1"}


def test_what_was_not_evaluated_or_not_diagnosed_or_has_other_classes_is_a_challenger(
    model: Registered, logged: dict[str, Candidate], packages: Made, tmp_path: Path
) -> None:
    original = packages.untrained
    others = {
        "it has not been evaluated on a test split": candidate(
            original, tmp_path / "a", STRONG, scores=None, split=None
        ),
        "it has not been diagnosed": candidate(original, tmp_path / "b", STRONG, verdict=None),
        "it has other classes than the champion": candidate(original, tmp_path / "c", STRONG, classes=["a", "b", "c"]),
    }
    model.take(logged["weak"])
    for reason, other in others.items():
        log(model.settings, other)
        receipt = model.take(other)
        assert (receipt.decision, receipt.reason) == ("challenger", reason)
    assert model.aliases == {"champion": "1", "challenger": "4"}


@pytest.fixture
def networks(
    model: Registered, packages: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Candidate]:
    """Two networks that were trained and evaluated for real, as the server knows them; their prepared images are here."""
    monkeypatch.setattr("pipeline.register.found_input", lambda stage, fingerprint: packages.folders["prepared"])
    monkeypatch.setattr("pipeline.register.lineage.dvc_folder", lambda stage: tmp_path / stage)
    found = {}
    for name, package, training_id in (
        ("untrained", packages.untrained, "6d1f"),
        ("trained", packages.trained, "7d1f"),
    ):
        copy = Path(shutil.copytree(package, tmp_path / name / "package"))
        training = training_folder(tmp_path / name / "training", id=training_id, name=name)
        found[name] = Candidate(copy, training)
    return found


def images_of(one: Candidate) -> SeenImages:
    return SeenImages.of(one.content)


def test_the_better_of_two_real_networks_becomes_champion(model: Registered, networks: dict[str, Candidate]) -> None:
    log(model.settings, *networks.values())
    seen = {name: images_of(one) for name, one in networks.items()}
    right = {name: (each.predicted == each.labels) for name, each in seen.items()}
    assert right["trained"].sum() > right["untrained"].sum() + 6, "training has helped"
    model.take(networks["untrained"])
    receipt = model.take(networks["trained"])
    assert receipt.decision == "champion" and receipt.comparison is not None
    assert receipt.comparison.only_candidate == (right["trained"] & ~right["untrained"]).sum()
    assert model.take(networks["untrained"]).decision == "challenger" and model.aliases["champion"] == "2"


def test_a_champion_of_other_test_images_is_run_on_those_of_the_candidate_less_what_it_was_made_with(
    model: Registered, networks: dict[str, Candidate], tmp_path: Path
) -> None:
    champion, trained = networks["untrained"], networks["trained"]
    mine, its = images_of(trained), images_of(champion)
    shutil.rmtree(champion.training)
    known = np.concatenate([its.used, mine.test[:5]])
    write_images(champion.package, used=known, test=its.test[:3], labels=its.labels[:3], predicted=its.predicted[:3])
    sign_again(champion.package, training="8d1f")
    old = Candidate(champion.package, training_folder(champion.training, id="8d1f", name="old"))
    log(model.settings, old, trained)
    model.take(old)
    receipt = model.take(trained)
    found = receipt.comparison
    assert found is not None and found.run_again and found.num_images == len(mine.test) - 5
    right, its_right = mine.predicted[5:] == mine.labels[5:], its.predicted[5:] == mine.labels[5:]
    assert (found.only_candidate, found.only_champion) == ((right & ~its_right).sum(), (its_right & ~right).sum())
    assert receipt.candidates == 1, "the old champion's test images were others"


def test_a_champion_with_another_size_is_run_on_the_raw_images(
    model: Registered, networks: dict[str, Candidate], packages: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import model as networks_module
    from pipeline.delivery.export import export

    small, trained = networks["untrained"], networks["trained"]
    weights = networks_module.load(packages.folders["training"] / "model.ckpt")[0].state_dict()
    network = networks_module.build(**{**NETWORK, "size": 8})
    network.load_state_dict(weights)
    export(network.eval(), (8, 8, 1), small.package)
    sign_again(small.package)
    its = images_of(small)
    write_images(small.package, used=its.used, test=its.test[:3], labels=its.labels[:3], predicted=its.predicted[:3])
    shutil.rmtree(small.training)
    sign_again(small.package, training="9d1f")
    change_preprocessing(small.package, size=8)
    old = Candidate(small.package, training_folder(small.training, id="9d1f", name="small"))
    log(model.settings, old, trained)
    model.take(old)
    without = model.take(trained)
    assert without.decision == "challenger" and without.reason == (
        "the champion prepares images in another way, and the raw images of this candidate's test split are not here"
    )
    prepared = Path(shutil.copytree(packages.folders["prepared"], tmp_path / "prepare"))
    monkeypatch.setattr("pipeline.register.found_input", lambda stage, fingerprint: prepared)
    raw_images_of(prepared, tmp_path / "fetch")
    receipt = model.take(trained)
    frame = Classifier.load(small.package).predict(list(np.load(prepared / "test" / "images.npy")))
    mine = images_of(trained)
    its_right = np.array([CLASSES.index(label) for label in frame["label"]]) == mine.labels
    right = mine.predicted == mine.labels
    assert receipt.comparison is not None and receipt.comparison.run_again
    assert receipt.comparison.only_candidate == (right & ~its_right).sum()
    assert receipt.comparison.only_champion == (its_right & ~right).sum()


def raw_images_of(prepared: Path, folder: Path) -> None:
    """Write the images of the test split as `fetch` does."""
    images, labels = (np.load(prepared / "test" / f"{name}.npy") for name in ("images", "labels"))
    write_files(folder, {})
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    table = pq.read_table(prepared / "test" / "ids.parquet")
    names = pa.array([f"test-{number:06d}" for number in range(len(labels))])
    pq.write_table(table.set_column(table.column_names.index("id"), "id", names), prepared / "test" / "ids.parquet")
    part = SourcePart(split="test", images=["images.npy"], labels="labels.npy")
    SourceRecord(
        name="shapes", layout="arrays", found=None, asked=None, parts=[part], columns=None, classes=CLASSES, licence="MIT",
        source="made for tests", files={},
    ).write(folder)  # fmt: skip


def test_without_the_images_a_champion_of_others_is_not_compared_with(
    model: Registered, logged: dict[str, Candidate], packages: Made, tmp_path: Path
) -> None:
    other = candidate(packages.untrained, tmp_path / "other", STRONG, test=digests(2000, 2200))
    log(model.settings, other)
    model.take(logged["weak"])
    receipt = model.take(other)
    assert receipt.reason == "the champion was tested on other images, and this candidate's are not here"
    assert receipt.decision == "challenger" and receipt.candidates == 1


def test_a_champion_of_another_tool_is_not_compared_with(model: Registered, logged: dict[str, Candidate]) -> None:
    client = MlflowClient(model.settings.uri)
    client.create_registered_model(model.name)
    run_id = connect(model.settings).client.create_run("0").info.run_id
    client.create_model_version(model.name, f"runs:/{run_id}/model", run_id)
    client.set_registered_model_alias(model.name, "champion", "1")
    receipt = model.take(logged["strong"])
    assert receipt.decision == "challenger" and model.aliases == {"champion": "1", "challenger": "2"}
    assert receipt.reason.startswith("the champion, version 1, cannot be compared with: ")
