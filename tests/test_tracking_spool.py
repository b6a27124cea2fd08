"""What could not be sent to the store waits, and arrives later in order and once."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from pipeline import sync
from pipeline.artefacts.run import RunRecord
from pipeline.config.schema import Tracking
from pipeline.errors import StoreError
from pipeline.metrics import history
from pipeline.tracking import delivery, spool
from pipeline.tracking.live import LiveRun
from pipeline.tracking.parent import PARENT_FILE, parent_run
from pipeline.tracking.sendings import Packaged, Results, RunTags, Unfinished
from pipeline.tracking.store import StoreAway, connect, place
from pipeline.tracking.training import PARENT_VARIABLE
from tests.loopback import free_port
from tests.records import run_origin
from tests.registered import WEAK, candidate, made
from tests.stores import files_of, finished, mute_server, runs_of, tracking, training_folder


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes the store go away, and come back with all that it held."""

    def is_away(away: bool) -> None:
        def refuse(asked: Tracking) -> Any:
            raise StoreAway("no route to host")

        monkeypatch.setattr("pipeline.tracking.delivery.connect", refuse if away else connect)
        monkeypatch.setattr("pipeline.tracking.delivery.FORGET_SECONDS", 0.0)

    return is_away


def results(folder: Path, stage: str = "evaluate") -> tuple[Results, dict[str, Path]]:
    what = Results(
        stage=stage, fingerprint="f", training=str(folder), own_tags={}, metrics={"test/accuracy": 0.75}, tags={"t": stage}
    )  # fmt: skip
    (folder / "table.csv").write_text("of this experiment\n")
    return what, {"table.csv": folder / "table.csv", RunRecord.FILE: folder / RunRecord.FILE}


def test_what_could_not_be_sent_arrives_in_order_and_once(
    settings: Tracking, tmp_path: Path, outage: Callable[[bool], None], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = training_folder(tmp_path / "train")
    outage(True)
    delivery.send(settings, finished(), files_of(folder))
    delivery.send(settings, *results(folder))
    said = capsys.readouterr().err
    store = place(settings)
    assert f"tracking: {store} does not answer (no route to host); 1 entry waits in build/spool, and the next" in said
    assert (
        "2 entries wait in build/spool, and the next command that reaches it, or `python -m pipeline.sync`, sends"
        in said
    )
    for name in ("table.csv", "history.csv", "run.json"):  # the next experiment takes the place of this one
        (folder / name).write_text("of the next experiment")
    outage(False)
    delivery.send(settings, RunTags(training_id="a", tags={"late": "yes"}))
    (run,) = runs_of(settings)
    client = MlflowClient(settings.uri)
    assert run.info.status == "FINISHED" and run.data.metrics["test/accuracy"] == 0.75
    assert run.data.tags["t"] == "evaluate" and run.data.tags["late"] == "yes"
    kept = Path(client.download_artifacts(run.info.run_id, "evaluate/table.csv", str(tmp_path)))
    assert kept.read_text() == "of this experiment\n"
    assert [point.step for point in client.get_metric_history(run.info.run_id, history.VAL_LOSS)] == [1, 2, 3]
    assert not spool.waiting(spool.folder_of(settings)) and spool.stores() == {}


@pytest.mark.parametrize("killed_in", ["describe", "send", "end_run"])
def test_a_kill_while_it_is_sent_makes_nothing_twice(
    settings: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str,
) -> None:  # fmt: skip
    spool.put(settings, finished(), files_of(training_folder(tmp_path / "train")))

    def kill(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"pipeline.tracking.runs.{killed_in}", kill)
        list(delivery.deliver(settings))
    assert len(runs_of(settings)) == 1 and spool.waiting(spool.folder_of(settings))
    list(delivery.deliver(settings))
    (run,) = runs_of(settings)
    points = MlflowClient(settings.uri).get_metric_history(run.info.run_id, history.VAL_LOSS)
    assert run.info.status == "FINISHED" and len(points) == 3 and not spool.waiting(spool.folder_of(settings))


def test_what_a_store_refuses_is_set_aside_and_holds_nothing_up(
    settings: Tracking, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    gone = training_folder(tmp_path / "gone", id="b")
    lost = spool.put(settings, *results(gone))
    (gone / "run.json").unlink()
    damaged = spool.put(settings, RunTags(training_id="a", tags={}), {})
    (damaged / "entry.json").write_text("{")
    delivery.send(settings, finished(), files_of(training_folder(tmp_path / "train")))
    said = capsys.readouterr().err
    assert "what evaluate found in" in said and "gone was refused (" in said
    assert "entry.json must be as it was written" in said
    assert len(runs_of(settings)) == 1 and not spool.waiting(spool.folder_of(settings))
    assert {path.name for path in spool.refused()} == {lost.name, damaged.name}
    assert "there is no such file" in (spool.refused()[0] / "reason.txt").read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(settings.uri))
    assert sync.main([]) == 1
    assert "error: 2 refused by their store; the reason is beside each:" in capsys.readouterr().err


def test_a_deleted_experiment_is_named_each_time_and_others_go_on(
    settings: Tracking, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = settings.model_copy(update={"experiment": "other"})
    client = MlflowClient(settings.uri)
    spool.put(other, finished("c"), files_of(training_folder(tmp_path / "other", id="c")))
    client.delete_experiment(connect(other).experiment_id)
    delivery.send(settings, finished(), files_of(training_folder(tmp_path / "train")))
    said = capsys.readouterr().err
    assert "the training c waits: tracking.experiment must not be deleted; got 'other'" in said
    assert len(runs_of(settings)) == 1
    with pytest.raises(StoreError, match="mlflow experiments restore --experiment-id"):
        delivery.send(other, RunTags(training_id="c", tags={}), strict=True)
    assert len(spool.waiting(spool.folder_of(settings))) == 1
    client.restore_experiment(client.get_experiment_by_name("other").experiment_id)
    delivery.deliver_waiting(settings)
    assert [run.info.run_name for run in runs_of(other)] == ["a"] and "1 that waited" not in said


def test_children_find_a_parent_that_arrives_after_them(
    settings: Tracking, tmp_path: Path, outage: Callable[[bool], None],
) -> None:  # fmt: skip
    outage(True)
    with parent_run(settings, tmp_path, "sweep", ["seed=1,2"]) as parent:
        own_id = os.environ[PARENT_VARIABLE]
        first = training_folder(tmp_path / "0", id="0", parent_run_id=own_id)
        live = LiveRun(settings, run_origin(id="0", name="0", parent_run_id=own_id, begin=1000.0), lambda run_id: None)
        assert live.close() is not None, "the store is back for a moment, and the run is opened before the one above it"
        delivery.send(settings, finished(), files_of(first))
        parent.add([first / "history.csv"], metrics={"jobs": 2})
        parent.child("round-1", {"adopted": "true"}, {"tried": 3})
        parent.child("round-1", {"adopted": "true"}, {"tried": 3})
    outage(False)
    delivery.deliver_waiting(settings)
    second = training_folder(tmp_path / "1", id="1", parent_run_id=own_id)
    delivery.send(settings, finished(), files_of(second))
    runs = {run.data.tags["goodfit.id"]: run for run in runs_of(settings)}
    above = runs.pop(own_id)
    assert set(runs) == {"0", "1", f"{own_id}/round-1"}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {above.info.run_id}
    assert above.info.status == "FINISHED" and above.data.metrics["jobs"] == 2 and (tmp_path / PARENT_FILE).exists()
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    with parent_run(settings, tmp_path, "sweep", []):
        assert os.environ[PARENT_VARIABLE] == own_id, "a resumed sweep goes on in its run"
    assert len(runs_of(settings)) == 4


def test_one_process_sends_at_a_time(
    settings: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("pipeline.tracking.delivery.LOCK_SECONDS", 0.1)
    folder = training_folder(tmp_path / "train")
    spool.put(settings, finished(), files_of(folder))
    with FileLock(spool.folder_of(settings) / ".lock"):
        delivery.send(settings, RunTags(training_id="a", tags={"t": "1"}))
        assert "another process sends at this moment, and sends this too" in capsys.readouterr().out
        assert runs_of(settings) == [] and len(spool.waiting(spool.folder_of(settings))) == 2
    delivery.deliver_waiting(settings)
    assert runs_of(settings)[0].data.tags["t"] == "1"


def test_a_full_disk_leaves_no_half_of_an_entry(
    settings: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copy2", full)
    delivery.send(settings, finished("big"), files_of(training_folder(tmp_path / "train")))
    assert "tracking: the training big is not sent, as build/spool cannot take it" in capsys.readouterr().err
    assert {path.name for path in spool.folder_of(settings).iterdir()} == {".order.lock"}


def test_a_mute_server_is_asked_once_by_the_stages_of_one_repro(
    settings: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DVC_STAGE", "evaluate")
    folder = training_folder(tmp_path / "train")
    with mute_server() as server:
        mute, begin = tracking(server.url), time.monotonic()
        live = LiveRun(mute, run_origin(), lambda run_id: None)
        live.first_answer()
        live.log_row({"epoch": 1, "val/loss": 1.0}, 0)
        assert live.close() is None and live.failure == "timed out"
        delivery.send(mute, finished(), files_of(folder), away=live.failure)
        for stage in ("evaluate", "diagnose"):
            delivery.send(mute, *results(folder, stage))
        delivery.deliver_waiting(mute)
        assert time.monotonic() - begin < 10 and len(server.calls) == 1
        assert len(spool.waiting(spool.folder_of(mute))) == 3
        monkeypatch.setattr("os.getppid", lambda: 1)  # the next `dvc repro`
        delivery.deliver_waiting(mute)
        assert len(server.calls) == 2


def test_the_spool_holds_no_password_and_sync_takes_it_from_the_command_line(
    settings: Tracking, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    port = free_port()
    secret = tracking(f"http://me:s3cret@127.0.0.1:{port}/base?token=s3cret")
    delivery.send(secret, finished(), files_of(training_folder(tmp_path / "train")))
    assert spool.stores().keys() == {f"http://127.0.0.1:{port}/base"}
    assert not any(b"s3cret" in path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert sync.main([f"tracking.uri='{secret.uri}'"]) == 1
    out, err = capsys.readouterr()
    assert f"http://***@127.0.0.1:{port}/base?token=***: 1 to send" in out and "s3cret" not in out + err
    assert (
        f"error: http://***@127.0.0.1:{port}/base?token=*** must answer; it does not" in err and "1 of 1 wait." in err
    )


def test_sync_says_what_arrived(
    settings: Tracking, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(settings.uri))
    assert sync.main([]) == 0 and capsys.readouterr().out == "Nothing waits.\n"
    folder = training_folder(tmp_path / "train")
    spool.put(settings, finished(), files_of(folder))
    spool.put(settings, *results(folder))
    assert sync.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("mlflow.db: 2 to send") and lines[1] == "  1/2 the training a: sent"
    assert lines[2].startswith("  2/2 what evaluate found in") and lines[2].endswith(": sent")


def test_a_long_delivery_says_how_it_goes(
    settings: Tracking, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("LOCK_SECONDS", "REPORT_SECONDS"):
        monkeypatch.setattr(f"pipeline.tracking.delivery.{name}", 0.0)
    for index in range(3):
        spool.put(settings, RunTags(training_id=str(index), tags={}), {})
    delivery.send(settings, finished(), files_of(training_folder(tmp_path / "train")))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("and go first") and lines[0].startswith("tracking: 3 wait for sqlite:")
    assert lines[1:3] == ["tracking: 1 sent, 3 wait", "tracking: 2 sent, 2 wait"]
    assert lines[-1] == "tracking: 3 that waited have arrived"


def test_a_clock_that_is_set_back_makes_no_run_of_negative_length(settings: Tracking, tmp_path: Path) -> None:
    hour = 3600 * 1000
    times = [1_010_000, 1_020_000 - hour, 1_030_000 - hour]
    folder = training_folder(tmp_path / "train", times_ms=times)
    delivery.send(settings, finished(end_ms=1_040_000 - hour), files_of(folder))
    rows = [({"epoch": 1.0, history.VAL_LOSS: 1.0}, 1_000_000 - hour)]
    failed = Unfinished(
        origin=run_origin(id="f", begin=1000.0), tags={}, rows=rows, status="FAILED", end_ms=1_005_000 - hour
    )
    delivery.send(settings, failed)
    runs = {run.data.tags["goodfit.id"]: run.info for run in runs_of(settings)}
    assert runs["a"].end_time - runs["a"].start_time == 30_000 and runs["f"].end_time == runs["f"].start_time
    points = MlflowClient(settings.uri).get_metric_history(runs["a"].run_id, history.VAL_LOSS)
    assert [point.timestamp for point in points] == [1_010_000] * 3


def packaged(package: Path, folder: Path) -> tuple[Packaged, dict[str, Path]]:
    """The package of a training, and the files that wait with it."""
    files = {f"package/{path.name}": path for path in package.iterdir()}
    return Packaged(training=str(folder), own_tags={}), {**files, RunRecord.FILE: folder / RunRecord.FILE}


@pytest.mark.parametrize(
    "killed_in",
    [
        None, "pipeline.tracking.sendings.log_package", "mlflow.tracking.client.MlflowClient.finalize_logged_model",
        "pipeline.tracking.description.note",
    ],
)  # fmt: skip
def test_a_package_that_waited_becomes_the_runs_model_once(
    settings: Tracking, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, outage: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch, killed_in: str | None,
) -> None:  # fmt: skip
    one = candidate(made(tmp_path_factory).untrained, tmp_path / "a", WEAK)
    outage(True)
    delivery.send(settings, finished(), files_of(one.training))
    delivery.send(settings, *packaged(one.package, one.training))
    (one.package / "model.onnx").write_bytes(b"of the next experiment")
    outage(False)
    if killed_in is not None:

        def kill(*arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(killed_in, kill)
            list(delivery.deliver(settings))
        assert len(spool.waiting(spool.folder_of(settings))) == 1
    list(delivery.deliver(settings))
    (run,) = runs_of(settings)
    client = MlflowClient(settings.uri)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.source_run_id == run.info.run_id and str(model.status) == "READY" and run.info.status == "FINISHED"
    assert run.data.tags["goodfit.logged_model"] == model.model_id
    assert "**Good fit**" in run.data.tags["mlflow.note.content"] == model.tags["mlflow.note.content"]
    assert {metric.key: metric.value for metric in model.metrics}["test/accuracy"] == 0.5
    assert not spool.waiting(spool.folder_of(settings)) and not spool.refused()
