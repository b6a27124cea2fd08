"""The processes of a training: whichever fails first, all of them end, and one message says why."""

import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from torch import distributed

from pipeline.config.composition import compose
from pipeline.config.validation import validate
from pipeline.errors import ConfigError, TrainingError
from pipeline.training import parallel
from pipeline.training.processes import leading
from tests.followers import sums

CONF = Path(__file__).parent.parent / "conf"
FOLLOWER = (
    "-c",
    "from pipeline.training.processes import follow_leader\nfrom tests.followers import add_up\nfollow_leader(add_up)",
)


OTHERS: set[int] = set()
"""Children that tests before left behind on purpose, such as the trackers that libraries keep for the next time."""


@pytest.fixture(autouse=True)
def know_the_others() -> None:
    OTHERS.clear()
    OTHERS.update(child.pid for child in psutil.Process().children())


def followers() -> list[psutil.Process]:
    """The children that the test itself started and that still run."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if child.pid not in OTHERS]


def lead(folder: Path, what: str, devices: int = 2, failure: Exception | None = None) -> float:
    with leading(devices, "cpu", FOLLOWER) as group:
        group.begin(folder=str(folder), what=what)
        if failure is not None:
            raise failure
        return sums()


@pytest.mark.long
def test_all_processes_compute_together_and_share_the_threads(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(7)
    try:
        assert lead(tmp_path, "sums", devices=3) == 1 + 2 + 3
        assert torch.get_num_threads() == 7
    finally:
        torch.set_num_threads(threads)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"1": "2", "2": "2"}
    assert not followers() and not distributed.is_initialized(), "the next training can start"


def test_one_process_is_alone(tmp_path: Path) -> None:
    with leading(1, "cpu", FOLLOWER) as group:
        group.begin(folder=str(tmp_path), what="sums")
        assert parallel.rank() == 0 and not distributed.is_initialized() and not followers()


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("refuses", TrainingError, r"^the loss must be finite; it became nan\.$"),
        ("breaks", RuntimeError, r"^process 2 of 2 failed:(?s:.*)KeyError: 'nothing'"),
        (
            "dies",
            TrainingError,
            r"^the 2 processes .* number 2 was ended by SIGKILL\. The same command goes on after the last",
        ),
    ],
)
def test_the_first_failure_of_a_follower_is_that_of_the_training(
    tmp_path: Path, what: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        lead(tmp_path, what)
    assert not followers() and not distributed.is_initialized()


@pytest.mark.long
def test_the_followers_end_with_a_leader_that_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk is full"):
        lead(tmp_path, "waits", failure=OSError("the disk is full"))
    assert not followers() and not distributed.is_initialized()


def test_a_follower_that_dies_before_it_is_ready_is_named(tmp_path: Path) -> None:
    def begin_late() -> None:
        with leading(2, "cpu", FOLLOWER) as group:
            followers()[0].kill()
            group.begin(folder=str(tmp_path), what="sums")

    with pytest.raises(TrainingError, match="number 2 was ended by SIGKILL"):
        begin_late()


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def pretend(**variables: int) -> None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return pretend


def test_torchrun_must_start_as_many_processes_as_the_configuration_says(torchrun: Callable[..., None]) -> None:
    torchrun(RANK=0, WORLD_SIZE=4, LOCAL_RANK=0, LOCAL_WORLD_SIZE=2)
    message = r"train\.devices must be 2, .* on each machine; got 1\. Add train\.devices=2"
    with pytest.raises(ConfigError, match=message), leading(1, "cpu", FOLLOWER):
        pass


def test_there_must_be_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    message = r"train\.devices must be <= 1, the GPUs of this machine; got 2\. Lower it, or set train\.accelerator=cpu"
    with pytest.raises(ConfigError, match=message), leading(2, "auto", FOLLOWER):
        pass


@pytest.mark.parametrize("overrides", [[], ["model=timm", "optimizer=adamw", "augment=strong", "train.devices=2"]])
def test_followers_get_the_leaders_configuration(overrides: list[str]) -> None:
    config = compose(CONF, CONF.parent / "params.yaml", overrides)
    assert validate(json.loads(json.dumps(config.model_dump()))) == config
