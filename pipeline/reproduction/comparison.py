"""Tells what of two trainings differs: code, data, libraries, machine, weights."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.artefacts.run import Machine, RunRecord
from pipeline.errors import DataError
from pipeline.metrics import history
from pipeline.stage import checkout
from pipeline.storage.digests import sha256

_IN_FINGERPRINT = ("torch", "albumentations", "opencv-python-headless", "numpy")
"""Libraries whose versions are part of a stage's fingerprint."""


def code_kept(record: RunRecord, folder: Path) -> list[str]:
    """What is known beforehand to differ in the code, as lines.

    Raises:
        DataError: The patch is not the one that was kept.
    """
    patch = folder / checkout.PATCH
    if record.changes_sha256 is not None:
        if not patch.exists():
            return [f"code: {checkout.PATCH}, what differed from the commit, is missing from {folder}"]
        if sha256(patch) != record.changes_sha256:
            raise DataError(
                f"{patch} must be as the training left it; it has changed. Get it again from where the training was copied."
            )
        return []
    if record.changes_left_out is not None:
        return [f"code: what differed from the commit was not kept, as {record.changes_left_out}"]
    if record.git_dirty and record.machine is None:
        return ["code: files differed from the commit, and this training is of a time when the difference was not kept"]
    return []


def surroundings(record: RunRecord, versions: Mapping[str, str], machine: Machine) -> list[str]:
    """What differs in library versions and in the machine, as lines.

    Args:
        record: Record of the training.
        versions: Versions now.
        machine: This machine.
    """
    names = [name for name in {**record.versions, **versions} if record.versions]
    lines = [
        f"library version: {name} was {record.versions.get(name, 'not installed')}, now {versions.get(name, 'not installed')}"
        for name in names
        if record.versions.get(name) != versions.get(name)
    ]
    if record.machine is not None:
        lines += [
            f"machine: {name} was {then or 'none'}, now {getattr(machine, name) or 'none'}"
            for name, then in record.machine
            if then != getattr(machine, name)
        ]
    return lines


def unknown(record: RunRecord) -> list[str]:
    """What the record does not tell, as lines."""
    if record.machine is None:
        return ["library versions and machine: this training is of a time when they were not recorded"]
    return []


def content(then: RunRecord, now: RunRecord) -> list[str]:
    """What differs in the data, in the code and in the course of two trainings, as lines."""
    lines = []
    if then.weights_fingerprint != now.weights_fingerprint:
        before, after = (run.weights_fingerprint or "random ones" for run in (then, now))
        lines.append(f"weights: it started from {before}, now from {after}")
    if then.prepare_fingerprint != now.prepare_fingerprint:
        lines.append(
            f"data: the prepared images were {then.prepare_fingerprint}, now {now.prepare_fingerprint}{_counts(then, now)}"
        )
    elif then.augment_fingerprint != now.augment_fingerprint:
        lines.append(f"data: the augmentation was {then.augment_fingerprint}, now {now.augment_fingerprint}")
    elif then.fingerprint != now.fingerprint and not _versions_differ(then, now):
        lines.append(f"code: the recipe (sources and keys) was {then.fingerprint}, now {now.fingerprint}")
    for name, title in (("epochs", "epochs"), ("best_epoch", "best epoch"), ("lr", "learning rate")):
        before, after = getattr(then, name), getattr(now, name)
        if before != after:
            lines.append(f"course: {title} was {before:g}, now {after:g}")
    return lines


def weights(then: Path, now: Path) -> tuple[bool, str]:
    """Whether the weights of two trainings are the same bit for bit, and a clause that says how far they are apart.

    Args:
        then: Folder of the first training; where its weights are missing, their SHA-256 decides.
        now: Folder of the second one.
    """
    first, second = RunRecord.read_alone(then), RunRecord.read_alone(now)
    if first.weights_sha256 == second.weights_sha256:
        return True, ""
    if not (then / "model.ckpt").exists() or sha256(then / "model.ckpt") != first.weights_sha256:
        return False, "how far they are apart is not known, as the first ones are not there any more"
    return _tensors(then / "model.ckpt", now / "model.ckpt")


def accuracies(then: Path, now: Path) -> str:
    """The validation accuracy of the epoch that each of two trainings kept, as a clause."""
    values = []
    for folder in (then, now):
        if not (folder / "history.csv").exists():
            return ""
        values.append(
            history.read_csv(folder / "history.csv")[RunRecord.read_alone(folder).best_epoch - 1][history.VAL_ACCURACY]
        )
    return f"validation accuracy was {values[0]:.4f}, now {values[1]:.4f}"


def _counts(then: RunRecord, now: RunRecord) -> str:
    """The numbers of images in brackets, where they differ."""
    totals = [{split: sum(counts) for split, counts in each.dataset.counts.items()} for each in (then, now)]
    return "" if totals[0] == totals[1] else f" (images were {totals[0]}, now {totals[1]})"


def _versions_differ(then: RunRecord, now: RunRecord) -> bool:
    return any(then.versions.get(name) != now.versions.get(name) for name in _IN_FINGERPRINT)


def _tensors(then: Path, now: Path) -> tuple[bool, str]:
    import torch

    from pipeline.model.checkpoint import load_content

    states = []
    for path in (then, now):
        states.append(load_content(path)["state_dict"])
    first, second = states
    if {name: (each.shape, each.dtype) for name, each in first.items()} != {
        name: (each.shape, each.dtype) for name, each in second.items()
    }:
        return False, "the network has other tensors"
    pairs = [(each.contiguous(), second[name].contiguous()) for name, each in first.items()]
    unequal = [pair for pair in pairs if not torch.equal(*(each.reshape(-1).view(torch.uint8) for each in pair))]
    if not unequal:
        return True, "the files differ, their tensors do not"
    furthest = max(float((a.double() - b.double()).abs().max()) for a, b in unequal)
    return False, f"{len(unequal)} of {len(pairs)} tensors differ, by {furthest:.2g} at most"
