"""For tests of tracking: a training to send, what a store holds, and a server that takes calls and never answers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.artefacts.run import RunRecord, Saving
from pipeline.config.schema import Tracking
from pipeline.metrics import history
from pipeline.tracking.sendings import TRAINING_FILES, Training
from tests.records import run_origin


def tracking(uri: str, experiment: str = "goodfit") -> Tracking:
    return Tracking(enabled=True, uri=uri, experiment=experiment, tags={"team": "b"})


def runs_of(settings: Tracking) -> list[Run]:
    client = MlflowClient(settings.uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    return list(client.search_runs([experiment.experiment_id]))


def training_folder(folder: Path, **changes: Any) -> Path:
    """The output of a training of three epochs that never ran, without a network that could be loaded."""
    folder.mkdir(parents=True)
    rows = [{**dict.fromkeys(history.COLUMNS, 0.5), "epoch": epoch} for epoch in (1, 2, 3)]
    (folder / "history.csv").write_text(history.to_csv(rows))
    (folder / "model.ckpt").write_bytes(b"weights")
    begin = changes.get("begin", 1000.0)
    outcome: dict[str, Any] = {
        "best_epoch": 2, "epochs": 3, "stop_reason": "it reached train.max_epochs", "lr": 0.1, "seconds": 30.0,
        "early_stopping": Saving(saved_epochs=0, saved_seconds=0.0), "num_parameters": 7, "weights_sha256": "",
        "times_ms": [int(1000 * begin) + 10_000 * epoch for epoch in (1, 2, 3)],
    }  # fmt: skip
    RunRecord(**{**dict(run_origin(begin=begin)), **outcome, **changes}).write(folder)
    return folder


def files_of(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in TRAINING_FILES if (folder / name).exists()}


def finished(name: str = "a", end_ms: int = 1_040_000) -> Training:
    return Training(name=name, tags={}, end_ms=end_ms)


@dataclass
class MuteServer:
    """Its address, and the calls that it has taken so far."""

    url: str = ""
    calls: list[socket.socket] = field(default_factory=list)


@contextmanager
def mute_server() -> Iterator[MuteServer]:
    """A server on loopback that takes calls and never answers, stopped at the end of the block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        state = MuteServer(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def take() -> None:
            while True:
                try:
                    state.calls.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for call in state.calls:
                call.close()
