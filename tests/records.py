"""Records of stages that never ran, for tests of what reads them."""

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
