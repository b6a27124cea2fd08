"""The stage `register` on a database in a file: what becomes champion, why not, and the receipt. Servers: test_register.py."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from pipeline import register
from pipeline.artefacts.receipt import ReceiptRecord
from pipeline.config.schema import Tracking
from pipeline.errors import StoreError
from pipeline.stage.job import Job
from pipeline.tracking import registry, tags
from pipeline.tracking.model import FINGERPRINT, version_of
from pipeline.tracking.store import connect
from tests.registered import STRONG, WEAK, Candidate, aliases, candidate, config_for, told_versions


@pytest.fixture
def job(settings: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr("pipeline.tracking.registry.SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", f"sqlite:///{tmp_path}/another.db")
    config = config_for(settings, name="shoes")
    return Job(config, tmp_path / "receipts", "register-1", tmp_path / "cache", tmp_path.__truediv__, alone=True)


def make_known(settings: Tracking, *candidates: Candidate) -> None:
    """Let the store know packages as models of runs. Logging them in full takes seconds each, and has tests of its own."""
    store = connect(settings)
    for each in candidates:
        run_id = store.client.create_run(
            store.experiment_id, tags={tags.ID: each.content.manifest.training}
        ).info.run_id
        model = store.client.create_logged_model(
            store.experiment_id, "model", run_id, tags={FINGERPRINT: version_of(each.package)}
        )
        folder = Path(shutil.copytree(each.package, each.package.parent / "model" / "artifacts" / "package"))
        store.client.log_model_artifacts(model.model_id, str(folder.parents[1]))
        store.client.finalize_logged_model(model.model_id, "READY")


def receipt_of(job: Job, one: Candidate, **keys: Any) -> ReceiptRecord:
    """Run the stage on a package, and read what it has written."""
    config = config_for(job.config.tracking, name="shoes", package=str(one.package), **keys)
    out = job.out / str(len(list(job.out.glob("*"))))
    out.mkdir(parents=True)
    register.main(replace(job, config=config, out=out))
    return ReceiptRecord.read(out)


def test_the_better_package_becomes_champion_and_another_is_told_why_not(
    job: Job, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = candidate(package, tmp_path / "weak", WEAK)
    strong = candidate(package, tmp_path / "strong", STRONG)
    make_known(job.config.tracking, weak, strong)
    first = receipt_of(job, weak, min_accuracy=0.9)
    assert (first.decision, first.model_version) == ("challenger", "1")
    assert first.reason == "its test accuracy is 0.500, and register.min_accuracy is 0.9"
    assert aliases(job.config.tracking, "shoes") == {"challenger": "1"}
    assert receipt_of(job, weak).reason == "there was no champion, and it is within the limits"
    assert told_versions(job.config.tracking, "shoes", "1") == [("shoes", "1")], "once, though registered twice"
    capsys.readouterr()
    better = receipt_of(job, strong)
    assert (better.decision, better.model_version, better.candidates) == ("champion", "2", 2)
    assert better.comparison is not None and better.comparison.champion == "1"
    assert (better.comparison.only_candidate, better.comparison.only_champion) == (50, 0)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("shoes version 2 is @champion: it is surely better than version 1: +0.250 [")
    assert said[1] == "Its test split has judged 2 packages under this name."
    worse = receipt_of(job, weak)
    assert worse.decision == "challenger" and worse.reason.startswith(
        "it is not surely better than version 2: -0.250 ["
    )
    assert aliases(job.config.tracking, "shoes") == {"champion": "2", "challenger": "1"}


@pytest.mark.parametrize("another", [True, False])
def test_who_writes_the_lock_at_the_same_instant_as_another_waits_and_who_is_refused_is_told(
    job: Job, monkeypatch: pytest.MonkeyPatch, another: bool
) -> None:
    monkeypatch.setattr("pipeline.tracking.registry.GIVE_UP_SECONDS", 0.2)
    settings, real, refused, said = job.config.tracking, MlflowClient.set_registered_model_tag, list[str](), list[str]()

    def refuse_once(client: MlflowClient, name: str, key: str, value: str) -> None:
        if refused:
            return real(client, name, key, value)
        refused.append(value)
        if another:
            real(client, name, key, "of another process")
        raise MlflowException("UNIQUE constraint failed", error_code=BAD_REQUEST)

    with registry.opened(settings) as store:
        registry.ensure_model(store, "shoes")
    monkeypatch.setattr("mlflow.MlflowClient.set_registered_model_tag", refuse_once)
    if another:
        with registry.opened(settings) as store, registry.locked(store, "shoes", said.append) as is_mine:
            assert is_mine() and said == ["another process registers 'shoes' at this moment; waiting for it"]
    else:
        with (
            pytest.raises(StoreError, match="must take this; it answers: UNIQUE constraint failed"),
            registry.opened(settings) as store,
            registry.locked(store, "shoes", said.append),
        ):
            raise AssertionError("nobody holds the lock")
    assert registry.LOCK not in MlflowClient(settings.uri).get_registered_model("shoes").tags


def test_the_stage_registers_nothing_unless_it_is_enabled(
    job: Job, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job.out.mkdir()
    config = config_for(job.config.tracking, package=str(package))
    register.main(replace(job, config=config, alone=False))
    assert capsys.readouterr().out == (
        "register: off (register.enabled=false); `python -m pipeline.register` registers this package\n"
    )
    receipt = ReceiptRecord.read(job.out)
    assert (receipt.decision, receipt.name, receipt.reason) == ("off", None, "register.enabled is false")
