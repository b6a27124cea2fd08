"""Describes a training to MLflow: its parameters and its tags."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.artefacts.evaluation import SPLIT_TITLES
from pipeline.artefacts.package import ManifestRecord
from pipeline.artefacts.run import RunOrigin
from pipeline.tracking import tags as names

PARAMETER_SECTIONS = (
    "seed", "data", "prepare", "augment", "model", "regularization", "optimizer", "scheduler", "train",
)  # fmt: skip
SPEED_ONLY = ("augment.workers", "augment.backend")
"""Keys of these sections that change no weight."""

MAX_VALUE_CHARACTERS = 6000


def parameters(record: RunOrigin) -> dict[str, str]:
    """The configuration that the weights depend on, flattened: `{"model.name": "lenet", …}`."""
    flat: dict[str, str] = {}

    def flatten(path: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                flatten(f"{path}.{key}", item)
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[path] = text[:MAX_VALUE_CHARACTERS]

    for section in PARAMETER_SECTIONS:
        flatten(section, record.config[section])
    return {key: value for key, value in flat.items() if key not in SPEED_ONLY}


def tags(record: RunOrigin, own: Mapping[str, str]) -> dict[str, str]:
    """The run's tags, the user's own among them."""
    known = {
        names.ID: record.id,
        names.DATA: record.dataset.name,
        names.MODEL: record.config["model"].get("name"),
        "goodfit.fingerprint": record.fingerprint,
        "goodfit.prepare_fingerprint": record.prepare_fingerprint,
        "goodfit.augment_fingerprint": record.augment_fingerprint,
        "goodfit.weights_fingerprint": record.weights_fingerprint,
        "goodfit.git_dirty": str(record.git_dirty).lower(),
        "goodfit.data_hash": record.data_hash,
        names.EXPERIMENT: record.dvc_experiment,
        names.OVERRIDES: record.overrides or None,
        "mlflow.source.git.commit": record.git_commit,
        "mlflow.source.name": "pipeline.train",
        names.PARENT: record.parent_run_id,
    }
    return {**{key: value for key, value in known.items() if value is not None}, **own}


def note(manifest: ManifestRecord, model_id: str) -> str:
    """The description of a run as Markdown: verdict, concerns, accuracy, and what to do next."""
    verdict = manifest.verdict.replace("_", " ").capitalize() if manifest.verdict else "Not diagnosed"
    concerns = ", ".join(name.replace("_", " ") for name in manifest.concerns) or "none"
    accuracy = "not evaluated"
    if manifest.scores is not None and manifest.split is not None:
        accuracy = f"{manifest.scores.accuracy} on {SPLIT_TITLES[manifest.split]} images"
    return (
        f"**{verdict}**; concerns: {concerns}; accuracy: {accuracy} (95 % interval).\n\n"
        f"```sh\npython -m pipeline.predict FOLDER --model models:/{model_id}\n"
        f"python -m pipeline.register register.package=models:/{model_id}\n"
        f"python -m pipeline.reproduce {manifest.mlflow_run_id or manifest.training}\n```\n"
    )
