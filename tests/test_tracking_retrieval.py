"""Trainings fetched back from the tracking store."""

from pathlib import Path

import pytest

from pipeline.artefacts.run import RunRecord
from pipeline.config.schema import Tracking
from pipeline.errors import DataError
from pipeline.tracking import delivery, retrieval
from pipeline.tracking.store import connect
from tests.stores import files_of, finished, runs_of, training_folder


@pytest.fixture
def run_id(settings: Tracking, tmp_path: Path) -> str:
    """The run of a finished training with a patch."""
    folder = training_folder(tmp_path / "training")
    (folder / "changes.patch").write_text("a patch")
    delivery.send(settings, finished(), files_of(folder))
    (run,) = runs_of(settings)
    return str(run.info.run_id)


def test_a_training_comes_back_by_its_run_and_by_a_registered_version(
    settings: Tracking, run_id: str, tmp_path: Path
) -> None:
    client = connect(settings).client
    client.create_registered_model("shirts")
    version = client.create_model_version("shirts", source=f"runs:/{run_id}/model", run_id=run_id)
    client.set_registered_model_alias("shirts", "champion", version.version)
    for number, name in enumerate((run_id, f"runs:/{run_id}", "models:/shirts/1", "models:/shirts@champion")):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        folder = retrieval.training(settings, name, scratch)
        assert RunRecord.read(folder).id == "a" and (folder / "changes.patch").read_text() == "a patch"
        assert (folder / "model.ckpt").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "name", ["0" * 32, "models:/shirts/3", "models:/shirts@champion", "models:/shirts", "no such folder"]
)
def test_what_the_store_does_not_know_is_one_sentence(settings: Tracking, tmp_path: Path, name: str) -> None:
    with pytest.raises(
        DataError, match=r"the training must be a folder with run.json, a run of sqlite.*; got '"
    ) as raised:
        retrieval.training(settings, name, tmp_path)
    assert name in str(raised.value)


def test_a_run_of_another_tool_and_a_version_without_a_run_are_one_sentence(settings: Tracking, tmp_path: Path) -> None:
    store = connect(settings)
    run = store.client.create_run(store.experiment_id)
    with pytest.raises(DataError, match=f"has no training/run.json in the run {run.info.run_id}"):
        retrieval.training(settings, run.info.run_id, tmp_path)
    store.client.create_registered_model("shirts")
    store.client.create_model_version("shirts", source=f"{tmp_path}/model")
    with pytest.raises(DataError, match=r"models:/shirts/1 must be a training .* as it was registered without a run"):
        retrieval.training(settings, "models:/shirts/1", tmp_path)
