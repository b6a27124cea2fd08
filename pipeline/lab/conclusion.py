"""What a cure leaves beside its rounds: the change of params.yaml, curves before and after, and images to look at."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.label_audit import audit
from pipeline.lab.trainings import Trainings
from pipeline.lab.treatment import Patient
from pipeline.metrics.ablation import Arm, Reading
from pipeline.page import cure as page
from pipeline.sweep import adoption


def patch(conf: Path, file: Path, adopted: dict[str, Any]) -> tuple[str, str]:
    """The change that makes `params.yaml` say what was adopted, as a diff and as the whole new file.

    Args:
        conf: The folder of groups and options.
        file: The `params.yaml` as it is.
        adopted: The whole configuration.
    """
    old, new = file.read_text(), adoption.applied(conf, file, adopted)
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a/params.yaml", "b/params.yaml")
    return "".join(lines), new


def curves(trainings: Trainings, before: Sequence[Patient], after: Sequence[Patient]) -> list[Arm]:
    """The histories of both, for a picture; none where one of them diverged."""
    arms = []
    for name, patients in (("before", before), ("after", after)):
        jobs = [each.overrides for each in patients]
        if not all(trainings.finished(job) for job in jobs):
            return []
        histories, readings = [trainings.rows(job) for job in jobs], []
        for job, rows in zip(jobs, histories, strict=True):
            run = trainings.record(job)
            kept = rows[run["best_epoch"] - 1]
            readings.append(
                Reading(run["config"]["seed"], int(kept["epoch"]), kept, run["num_parameters"], run["seconds"])
            )
        arms.append(Arm(name, (), readings, histories))
    return arms


def suspects(prepared: Path) -> page.Suspects | None:
    """Training images whose labels look wrong; None, and a line on the terminal, where there are too few to tell."""
    try:
        found = audit(prepared / "train")
    except ValueError as error:
        print(f"the labels were not audited: {error}")
        return None
    shown = found.images[: page.MOST_SUSPECTS]
    images = np.load(prepared / "train" / "images.npy", mmap_mode="r")[shown]
    return page.Suspects(found, images, json.loads((prepared / "dataset.json").read_text())["classes"])
