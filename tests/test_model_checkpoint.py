import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import DataError
from pipeline.model import load, save
from tests.networks import description, network
from tests.records import flip_byte

CLASSES = [f"class {index}" for index in range(10)]


def saved(path: Path, name: str = "lenet", **options: Any) -> torch.nn.Module:
    model = network(name, **options)
    save(path, description(name, **options), model.state_dict(), CLASSES)
    return model


@pytest.mark.parametrize(("name", "options"), [("lenet", {"dropout": 0.5}), ("convnet", {"channels": 3})])
def test_a_loaded_network_gives_the_same_logits(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    model = saved(tmp_path / "model.ckpt", name, **options).eval()
    loaded, classes = load(tmp_path / "model.ckpt")
    batch = torch.randint(0, 256, (4, 32, 32, options.get("channels", 1)), dtype=torch.uint8)
    assert torch.equal(loaded(batch), model(batch))
    assert classes == CLASSES
    assert not loaded.training


def test_the_file_does_not_depend_on_the_memory_layout(tmp_path: Path) -> None:
    files = []
    for channels_last in (True, False):
        torch.manual_seed(0)
        model = network("convnet", channels=3, channels_last=channels_last)
        path = tmp_path / str(channels_last) / "model.ckpt"
        path.parent.mkdir()
        save(path, description("convnet", channels=3), model.state_dict(), CLASSES)
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a model must be a file; got '.*model.ckpt'. Train one first: python -m"):
        load(tmp_path / "model.ckpt")


MESSAGE = (
    r"a model must be a model.ckpt that python -m pipeline.train wrote, whole; got '.*model.ckpt': .+\. Train again"
)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "model.ckpt"
    saved(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=MESSAGE):
        load(path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"network": description("lenet")},
        {"network": {"name": "alexnet"}, "state_dict": {}, "classes": []},
        {"network": description("lenet", size=28), "state_dict": {}, "classes": []},
        {"network": description("lenet", widht=3), "state_dict": {}, "classes": []},
        {"network": description("lenet"), "state_dict": {}, "classes": []},
        {"network": None, "state_dict": {}, "classes": []},
        {"network": description("lenet"), "state_dict": network("lenet").state_dict(), "classes": None},
        torch.zeros(3),
    ],
)
def test_a_torch_file_of_another_kind_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(DataError, match=MESSAGE):
        load(tmp_path / "model.ckpt")


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", pickle.dumps([1, 2])])
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.ckpt").write_bytes(content)
    with pytest.raises(DataError, match=MESSAGE):
        load(tmp_path / "model.ckpt")


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("as_plain_pickle", [True, False])
def test_a_file_that_would_run_code_is_refused_unread(tmp_path: Path, as_plain_pickle: bool) -> None:
    path, target = tmp_path / "model.ckpt", tmp_path / "attacked"
    content = {"network": description("lenet"), "state_dict": {}, "classes": Attack(target)}
    if as_plain_pickle:
        path.write_bytes(pickle.dumps(content))
        pickle.loads(path.read_bytes())
    else:
        torch.save(content, path)
        torch.load(path, weights_only=False)
    assert target.exists(), "the attack works on a reader that takes any pickle"
    target.unlink()
    with pytest.raises(DataError, match=MESSAGE):
        load(path)
    assert not target.exists()


def test_a_changed_byte_of_the_weights_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    saved(path)
    flip_byte(path)
    with pytest.raises(DataError, match=r"model\.ckpt': its part .*data/\d+ does not fit its checksum\. Train again"):
        load(path)


def test_code_is_refused_without_torchs_advice_to_run_it(tmp_path: Path) -> None:
    torch.save({"network": Path("/")}, tmp_path / "model.ckpt")
    with pytest.raises(DataError, match=MESSAGE) as refusal:
        load(tmp_path / "model.ckpt")
    assert "would run code" in str(refusal.value) and "weights_only" not in str(refusal.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_told_when_weights_are_saved() -> None:
    with pytest.raises(
        DataError, match=r"/dev/full must be written whole; torch could not: .*\. Free some space, and train"
    ):
        saved(Path("/dev/full"))
