"""Trains again what a record describes, stage by stage, with the code of a worktree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urldefrag

from pipeline.artefacts.run import RunRecord
from pipeline.config import validation
from pipeline.errors import DataError, UserError
from pipeline.reproduction import data
from pipeline.stage import lineage
from pipeline.stage.inputs import found_input
from pipeline.storage import atomic, git

_OF_OTHERS = ("DVC_", "GOODFIT_JOB_LOG", "GOODFIT_LEADER", "GOODFIT_PARENT_RUN")
"""Beginnings of the variables that DVC, a sweep and a training of several processes give to what they start."""

STOP_SECONDS = 30.0
"""Time that a stage has to end after a signal."""


def rebuild(record: RunRecord, own: Path, project: Path, scratch: Path, *, is_complete: bool) -> Path:
    """Train again in a worktree; gives the folder of the new training.

    Args:
        record: Record of the training.
        own: The user's project.
        project: The project in the worktree, as it was when the training began.
        scratch: Folder for what DVC downloads and notes.
        is_complete: Whether code and libraries are those of the training, so that other prepared images mean other data.

    Raises:
        DataError: Nobody has the data.
        UserError: A stage fails.
    """
    folder = lineage.dvc_folder("train", project)
    config = {**record.config, "tracking": {**record.config["tracking"], "enabled": False}}
    atomic.write_text(project / "build" / "config.yaml", validation.values_as_yaml(config))
    _say(f"looking for the data of {record.dataset.name}")
    is_pinned = data.bring_pinned(record, own, project, scratch)
    if is_pinned:
        _say(f"data/ is the one that data.dvc pinned, {record.data_hash}")
    else:
        _fetch(record, own, project)
    _run("prepare", record, project)
    if is_pinned and is_complete and not has_same_data(record, project):
        _say("the pinned data give other images; the training may have had those of its source")
        try:
            _fetch(record, own, project)
            _run("prepare", record, project)
        except UserError as error:
            _say(str(error))
    if record.weights_fingerprint is not None:
        _bring_weights(record, own, project)
    for stage in ("augment", "train"):
        _run(stage, record, project)
    return folder


def has_same_data(record: RunRecord, project: Path) -> bool:
    """Whether the prepared images in the worktree are those of the training."""
    prepared = lineage.dvc_folder("prepare", project) / lineage.RECORDS["prepare"]
    return lineage.hash_file(prepared)[:16] == record.prepare_fingerprint


def _bring_weights(record: RunRecord, own: Path, project: Path) -> None:
    """Put the weights that the training started from into the worktree: those that the project keeps, or its source's."""
    kept = found_input("weights", str(record.weights_fingerprint))
    if kept is not None:
        _say(f"starting from the weights in {os.path.relpath(kept)}")
        shutil.copytree(kept, lineage.dvc_folder("weights", project), dirs_exist_ok=True)
        return
    data.link_source(urldefrag(record.config["model"]["weights"])[0], own, project)
    _run("weights", record, project)


def _fetch(record: RunRecord, own: Path, project: Path) -> None:
    source = record.config["data"].get("source")
    data.link_source(source, own, project)
    try:
        _run("fetch", record, project)
    except UserError:
        asked = f"data.source={source}" if source else f"data={record.config['data']['name']}"
        pinned = f"DVC's cache and its remote lack data/ of hash {record.data_hash}" if record.data_hash else ""
        raise DataError(
            f"the data of this training must be somewhere; {pinned or 'no hash of data/ is recorded'}, and {asked} gives none, "
            "see above. Run `dvc pull` where a remote has them, or put the source back."
        ) from None
    data.use_fetched(project)


def _run(stage: str, record: RunRecord, project: Path) -> None:
    """Run a stage in the worktree, with its own code, to its end.

    Raises:
        UserError: It fails.
    """
    _say(stage)
    command = [sys.executable, "-m", f"pipeline.{stage}", "--config", str(project / "build" / "config.yaml")]
    with subprocess.Popen(command, cwd=project, env=_environment(record, project)) as process:
        try:
            code = process.wait()
        except BaseException:  # a signal: the stage cleans up, and so does the caller
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    if code != 0:
        raise UserError(f"{stage} must succeed in the worktree; it ended with exit code {code}, see above.")


def _environment(record: RunRecord, project: Path) -> dict[str, str]:
    """Variables with which a stage takes the code of the worktree, writes there alone, and uses the training's threads."""
    kept = git.outside_variables(os.environ)
    variables = {name: value for name, value in kept.items() if not name.startswith((*_OF_OTHERS, "PYTHONSAFEPATH"))}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project), variables.get("PYTHONPATH", "")]))
    if record.machine is not None and record.config["train"].get("threads") is None:
        variables["OMP_NUM_THREADS"] = str(record.machine.threads)
    return variables


def _say(text: str) -> None:
    print(f"reproduce: {text}", flush=True)
