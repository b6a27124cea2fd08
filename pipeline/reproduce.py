"""Rebuild a training bit for bit, from its commit, its data's hash and its configuration, or say what differs.

Reads:   a training: its folder, its run in MLflow, or the version of a registered model; git's repository and DVC's cache
Writes:  nothing of the project; a git worktree in the system's folder for temporary files (TMPDIR), removed at the end
Command: python -m pipeline.reproduce build/train                      a folder with run.json, such as multirun/train/…/3
         python -m pipeline.reproduce 3f2a…                            a run in MLflow; tracking.uri=… names another store
         python -m pipeline.reproduce models:/fashion_mnist@champion   a version in MLflow's registry, or models:/NAME/3
         python -m pipeline.reproduce build/train --out rebuilt        keeps the new training in the folder rebuilt

Exits with 0 where the weights are the same, with 3 where they are not, and with 1 where nothing could be rebuilt.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.artefacts.run import RunRecord
from pipeline.config import composition
from pipeline.config.schema import Tracking
from pipeline.errors import ConfigError, DataError
from pipeline.reproduction import comparison, worktree
from pipeline.reproduction.rebuild import rebuild
from pipeline.stage import checkout, lineage, machine
from pipeline.stage.program import as_program
from pipeline.storage import atomic
from pipeline.terminal import printable

DIFFERENT = 3
"""Exit code where the weights differ."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild what the command line names; gives the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m pipeline.reproduce", description=__doc__, formatter_class=raw)
    parser.add_argument("training", metavar="RUN_OR_VERSION", help="folder, run in MLflow, or models:/NAME/VERSION")
    parser.add_argument("overrides", nargs="*", help="key=value, such as tracking.uri=…")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the new training; must not exist")
    parser.add_argument("--keep", action="store_true", help="keep the worktree, and say where it is")
    options = parser.parse_args(arguments)
    if options.out is not None and options.out.exists():
        raise ConfigError(f"--out must be a folder that does not exist yet; {options.out} does. Name another one.")
    with tempfile.TemporaryDirectory(prefix=worktree.PREFIX) as scratch:
        folder = _folder(options.training, options.overrides, Path(scratch))
        return _reproduce(folder, options.out, options.keep, Path(scratch))


def _reproduce(folder: Path, out: Path | None, keep: bool, scratch: Path) -> int:
    record = RunRecord.read_alone(folder)
    if record.git_commit is None:
        raise DataError(
            f"{folder} must be a training in a git checkout with a commit, which tells its code; it was made without. "
            "`git init`, commit, and train again."
        )
    train = record.config["train"]
    code = comparison.code_kept(record, folder)
    _say(f"{record.name} of commit {record.git_commit[:7]}, weights {record.weights_sha256[:12]}")
    with worktree.at_commit(lineage.PROJECT, record.git_commit, keep=keep) as project:
        if record.changes_sha256 is not None and not code:
            worktree.apply(project, folder / checkout.PATCH)
            _say(f"{checkout.PATCH} applied: what differed from the commit")
        threads = train.get("threads") or (record.machine.threads if record.machine else None)
        around = comparison.surroundings(record, machine.versions(), machine.machine(train["accelerator"], threads))
        for line in [*code, *around]:
            _say(f"known to differ: {line}")
        rebuilt = rebuild(record, lineage.PROJECT, project, scratch, is_complete=not code and not around)
        if out is not None:
            with atomic.folder(out) as draft:
                shutil.copytree(rebuilt, draft, dirs_exist_ok=True)
            _say(f"the new training is in {out}")
        if keep:
            _say(f"the worktree stays in {project}; `git worktree remove --force {project}` removes it")
        return _conclude(record, folder, rebuilt, code, around)


def _conclude(record: RunRecord, folder: Path, rebuilt: Path, code: list[str], around: list[str]) -> int:
    """Print whether the weights are the same, and what differs; gives the exit code."""
    now = RunRecord.read_alone(rebuilt)
    same, distance = comparison.weights(folder, rebuilt)
    if now.machine is not None:  # as it was in the end, and in that process
        around = comparison.surroundings(record, now.versions, now.machine)
    lines = [*code, *around, *comparison.content(record, now)]
    if same:
        clause = f" ({distance})" if distance else ""
        print(f"The weights are the same, bit for bit: {now.weights_sha256[:12]}, epoch {now.best_epoch}{clause}.")
        if lines:
            print("They are, although this differs:")
    else:
        print(f"The weights are not the same: {record.weights_sha256[:12]} then, {now.weights_sha256[:12]} now.")
        nothing = "nothing that is recorded: on this machine such a training does not give the same weights twice"
        lines = [
            *(lines or [*comparison.unknown(record)] or [nothing]),
            distance,
            comparison.accuracies(folder, rebuilt),
        ]
        print("What differs:")
    for line in filter(None, lines):
        print(f"  {printable(line)}")
    return 0 if same else DIFFERENT


def _folder(training: str, overrides: Sequence[str], scratch: Path) -> Path:
    """The folder of the training that the command line names; one of MLflow's is downloaded into `scratch`."""
    for folder in (Path(training), Path(training) / "training"):
        if (folder / RunRecord.FILE).exists():
            return folder
    if Path(training).exists():
        raise DataError(f"{training} must be the folder of a finished training; it has no {RunRecord.FILE}.")
    from pipeline.tracking import retrieval

    values = composition.values(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", list(overrides))
    return retrieval.training(Tracking.model_validate(values["tracking"]), training, scratch)


def _say(text: str) -> None:
    print(printable(f"reproduce: {text}"), flush=True)


if __name__ == "__main__":
    with as_program():
        sys.exit(main())
