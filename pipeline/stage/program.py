"""Begins and ends the process of a program that a user or DVC starts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.stage import drafts, signals
from pipeline.storage import places


@contextmanager
def as_program() -> Iterator[None]:
    """Run the block as a process's whole work: signals stop it, errors become messages, and both an exit code.

    What killed processes left is removed or told first.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    signals.listen()
    with signals.messages():
        drafts.sweep()
        if (branch := branch_left_behind()) is not None:
            print(
                f"git: a `dvc exp run` that was killed left the checkout without its branch. `git switch {branch}` mends it "
                "and keeps your files; what was chosen with -S still stands in params.yaml, and `dvc repro` goes on with it.",
                file=sys.stderr,
            )
        yield


def branch_left_behind() -> str | None:
    """The branch that a killed `dvc exp run` left; None where there was none.

    While it runs, `dvc exp run` detaches git's HEAD and keeps it in a reference of its own, and its stages have a variable with
    the experiment's name.
    """
    git = places.PROJECT / ".git"
    mark = git / "refs" / "exps" / "exec" / "EXEC_HEAD"
    if "DVC_EXP_NAME" in os.environ or not mark.exists() or _runs_an_experiment():
        return None
    if (git / "HEAD").read_text().startswith("ref:"):
        return None
    asked = ["git", "rev-parse", "--abbrev-ref", "@{-1}"]
    answer = subprocess.run(asked, cwd=places.PROJECT, capture_output=True, text=True).stdout.strip()
    return answer or None


def _runs_an_experiment() -> bool:
    """Whether `dvc exp run` still runs: DVC notes who writes what, with the process's number."""
    try:
        noted = json.loads((places.PROJECT / ".dvc" / "tmp" / "rwlock").read_text())["write"].values()
        return any(" exp run" in entry["cmd"] and _is_alive(entry["pid"]) for entry in noted)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
