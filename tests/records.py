"""Records of stages that never ran, and damage to files, for tests of what reads them."""

import json
from pathlib import Path
from typing import Any

from pipeline.artefacts.run import RunDataset, RunOrigin

CONFIG: dict[str, Any] = {
    **{name: {} for name in ("data", "prepare", "model", "regularization", "optimizer", "scheduler", "train")},
    "seed": 0,
    "augment": {"workers": None},
}


def run_origin(**changes: Any) -> RunOrigin:
    """The origin of a training on a dataset without images."""
    fields: dict[str, Any] = {
        "id": "a", "mlflow_run_id": None, "parent_run_id": None, "begin": 1.0, "git_commit": None, "git_dirty": False,
        "data_hash": None, "dvc_experiment": None, "name": "a", "tracking_uri": "", "fingerprint": "f",
        "prepare_fingerprint": "p", "augment_fingerprint": "a", "overrides": "", "config": CONFIG,
        "dataset": RunDataset(name="none", source="none", counts={}, size=8, channels=1),
    }  # fmt: skip
    return RunOrigin(**{**fields, **changes})


def rewrite_record(path: Path, **changes: Any) -> None:
    """Change fields of a record in its file, as if it had been written so."""
    content = {**json.loads(path.read_text()), **changes}
    content.pop("digest", None)  # records of earlier versions have none
    path.write_text(json.dumps(content))


def flip_byte(path: Path) -> None:
    """Change a byte in the middle of a file, in place: a hard link to it changes too."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0xFF]))
