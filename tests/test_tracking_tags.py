"""Tags of runs: six short names that a person filters on, and runs and waiting entries of earlier versions."""

from pathlib import Path

from pipeline.artefacts.run import RunRecord
from pipeline.config.schema import Tracking
from pipeline.tracking import delivery, runs, tags
from pipeline.tracking.sendings import Results
from pipeline.tracking.store import connect
from tests.records import CONFIG
from tests.stores import files_of, finished, runs_of, training_folder


def diagnosed(folder: Path, found: dict[str, str], own: dict[str, str]) -> tuple[Results, dict[str, Path]]:
    what = Results(stage="diagnose", fingerprint="f", training=str(folder), own_tags=own, metrics={}, tags=found)
    return what, {RunRecord.FILE: folder / RunRecord.FILE}


def test_a_run_has_short_tags_for_filters_and_prefixed_ones_for_the_rest(settings: Tracking, tmp_path: Path) -> None:
    config = {**CONFIG, "model": {"name": "lenet"}}
    folder = training_folder(
        tmp_path / "train", config=config, overrides="model.dropout=0.1", dvc_experiment="tried", data_hash="d"
    )
    delivery.send(settings, finished(), files_of(folder))
    delivery.send(settings, *diagnosed(folder, {tags.VERDICT: "good_fit", tags.CONCERNS: "split_shift"}, {}))
    (run,) = runs_of(settings)
    own = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    assert {key: value for key, value in own.items() if not key.startswith("goodfit.")} == {
        "verdict": "good_fit", "concerns": "split_shift", "data": "none", "model": "lenet",
        "overrides": "model.dropout=0.1", "dvc_experiment": "tried",
    }  # fmt: skip
    assert {"goodfit.id", "goodfit.fingerprint", "goodfit.data_hash", "goodfit.git_dirty"} <= own.keys()
    assert set(tags.SHORT) <= own.keys()
    store = connect(settings)
    found = store.client.search_runs([store.experiment_id], "tags.verdict = 'good_fit' and tags.data = 'none'")
    assert [each.info.run_id for each in found] == [run.info.run_id]


def test_a_run_of_an_earlier_version_gets_the_names_of_today_when_a_stage_writes_to_it(settings: Tracking) -> None:
    store = connect(settings)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    for key in ("goodfit.verdict", "goodfit.overrides", "goodfit.id"):
        store.client.set_tag(run_id, key, "old")
    runs.set_tags(store, run_id, {"verdict": "good_fit"})
    (run,) = runs_of(settings)
    assert run.data.tags["verdict"] == "good_fit" and "goodfit.verdict" not in run.data.tags
    assert run.data.tags["goodfit.overrides"] == run.data.tags["goodfit.id"] == "old"


def test_what_an_earlier_version_left_in_the_spool_arrives_by_the_names_of_today(
    settings: Tracking, tmp_path: Path
) -> None:
    folder = training_folder(tmp_path / "train")
    delivery.send(settings, finished(), files_of(folder))
    delivery.send(settings, *diagnosed(folder, {"goodfit.verdict": "overfitting", "goodfit.flags": "a"}, {}))
    (run,) = runs_of(settings)
    assert run.data.tags["verdict"] == "overfitting" and run.data.tags["goodfit.flags"] == "a"
    assert "goodfit.verdict" not in run.data.tags


def test_a_tag_that_the_user_has_given_a_value_keeps_it(settings: Tracking, tmp_path: Path) -> None:
    own = {"data": "mine", "verdict": "to be discussed"}
    folder = training_folder(tmp_path / "train")
    delivery.send(settings, finished().model_copy(update={"tags": own}), files_of(folder))
    delivery.send(settings, *diagnosed(folder, {"verdict": "good_fit", "concerns": "split_shift"}, own))
    (run,) = runs_of(settings)
    assert own.items() <= run.data.tags.items() and run.data.tags["concerns"] == "split_shift"
