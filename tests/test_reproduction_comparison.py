"""What of two trainings differs."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.artefacts.run import Machine, RunDataset, RunRecord
from pipeline.errors import DataError
from pipeline.model.checkpoint import save
from pipeline.reproduction import comparison
from pipeline.stage import machine
from pipeline.storage.digests import sha256
from tests.records import rewrite_record
from tests.stores import training_folder

HERE = Machine(architecture="x86_64", processor="CPU A", instructions="AVX2", accelerator=None, threads=2)


def record(folder: Path, **changes: Any) -> RunRecord:
    return RunRecord.read(training_folder(folder, **changes))


def with_weights(folder: Path, *values: float, name: str = "layer.weight") -> Path:
    """A training whose only tensor has these values."""
    training_folder(folder)
    save(folder / "model.ckpt", {}, {name: torch.tensor(values)}, ["a"])
    rewrite_record(folder / "run.json", weights_sha256=sha256(folder / "model.ckpt"))
    return folder


def test_each_version_and_each_fact_of_the_machine_that_differs_has_a_line(tmp_path: Path) -> None:
    then = record(tmp_path / "a", versions={"torch": "2.12.0", "numpy": "2.4.6", "timm": "1.0"}, machine=HERE)
    now = HERE.model_copy(update={"threads": 4, "accelerator": "GPU B"})
    assert comparison.surroundings(then, {"torch": "2.13.0", "numpy": "2.4.6"}, now) == [
        "library version: torch was 2.12.0, now 2.13.0",
        "library version: timm was 1.0, now not installed",
        "machine: accelerator was none, now GPU B",
        "machine: threads was 2, now 4",
    ]
    assert comparison.surroundings(then, then.versions, HERE) == [] and comparison.unknown(then) == []


def test_a_record_of_an_earlier_version_is_read_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    then = record(tmp_path / "a", git_dirty=True)
    assert comparison.surroundings(then, machine.versions(), HERE) == []
    assert comparison.unknown(then) == [
        "library versions and machine: this training is of a time when they were not recorded"
    ]
    (told,) = comparison.code_kept(then, tmp_path / "a")
    assert told.startswith("code: files differed from the commit, and this training is of a time")


def test_other_weights_to_start_from_are_told(tmp_path: Path) -> None:
    then, now = record(tmp_path / "a", weights_fingerprint="f" * 16), record(tmp_path / "b", weights_fingerprint=None)
    assert comparison.content(then, now)[0] == f"weights: it started from {'f' * 16}, now from random ones"


def test_code_that_was_not_kept_is_told(tmp_path: Path) -> None:
    then = record(tmp_path / "a", changes_left_out="it is larger than 10 MB", machine=HERE)
    assert comparison.code_kept(then, tmp_path) == [
        "code: what differed from the commit was not kept, as it is larger than 10 MB"
    ]
    then = record(tmp_path / "b", changes_sha256="0" * 64, machine=HERE)
    (told,) = comparison.code_kept(then, tmp_path / "b")
    assert told == f"code: changes.patch, what differed from the commit, is missing from {tmp_path / 'b'}"
    (tmp_path / "b" / "changes.patch").write_text("another")
    with pytest.raises(DataError, match="changes.patch must be as the training left it; it has changed"):
        comparison.code_kept(then, tmp_path / "b")
    assert comparison.code_kept(record(tmp_path / "c", git_dirty=True, machine=HERE), tmp_path) == []


def test_data_come_before_what_follows_from_them(tmp_path: Path) -> None:
    then = record(tmp_path / "a")
    fewer = RunDataset(name="none", source="none", counts={"train": [1, 2]}, size=8, channels=1)
    now = record(tmp_path / "b", prepare_fingerprint="q", augment_fingerprint="b", fingerprint="g", dataset=fewer)
    assert comparison.content(then, now) == [
        "data: the prepared images were p, now q (images were {}, now {'train': 3})"
    ]
    now = record(tmp_path / "c", augment_fingerprint="b", fingerprint="g")
    assert comparison.content(then, now) == ["data: the augmentation was a, now b"]
    now = record(tmp_path / "d", fingerprint="g", best_epoch=3)
    assert comparison.content(then, now) == [
        "code: the recipe (sources and keys) was f, now g", "course: best epoch was 2, now 3",
    ]  # fmt: skip
    now = record(tmp_path / "e", fingerprint="g", versions={"torch": "2.13.0"})
    assert comparison.content(then, now) == []


def test_weights_are_the_same_where_their_files_or_their_tensors_are(tmp_path: Path) -> None:
    first, second = with_weights(tmp_path / "a", 1.0, 2.0), with_weights(tmp_path / "b", 1.0, 2.0)
    assert comparison.weights(first, second) == (True, "")
    (first / "model.ckpt").unlink()
    assert comparison.weights(first, second) == (True, "")
    save(second / "model.ckpt", {}, {"layer.weight": torch.tensor([1.0, 2.0])}, ["a", "b"])
    rewrite_record(second / "run.json", weights_sha256=sha256(second / "model.ckpt"))
    third = with_weights(tmp_path / "c", 1.0, 2.0)
    assert comparison.weights(third, second) == (True, "the files differ, their tensors do not")


def test_the_distance_of_other_weights_is_told_as_far_as_it_is_known(tmp_path: Path) -> None:
    first, second = with_weights(tmp_path / "a", 1.0, 2.0), with_weights(tmp_path / "b", 1.0, 2.5)
    assert comparison.weights(first, second) == (False, "1 of 1 tensors differ, by 0.5 at most")
    zero, negative = with_weights(tmp_path / "c", 0.0), with_weights(tmp_path / "d", -0.0)
    assert comparison.weights(zero, negative)[0] is False, "bit for bit"
    other = with_weights(tmp_path / "e", 1.0, 2.0, name="another.weight")
    assert comparison.weights(first, other) == (False, "the network has other tensors")
    (first / "model.ckpt").unlink()
    assert "not there any more" in comparison.weights(first, second)[1]
    assert comparison.accuracies(first, second) == "validation accuracy was 0.5000, now 0.5000"


def test_this_machine_is_known() -> None:
    found = machine.machine("cpu", None)
    assert found.processor and found.instructions and found.accelerator is None
    assert found.threads == torch.get_num_threads() and machine.machine("cpu", 3).threads == 3
    assert machine.versions()["torch"] == torch.__version__ and "python" in machine.versions()
