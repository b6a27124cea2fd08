"""Makes a git worktree of a training's commit outside of the user's folders, and removes it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import DataError
from pipeline.storage import git

PREFIX = "goodfit-reproduce-"
"""Beginning of the names of our folders in the system's folder for temporary files."""

_LOCK = ".lock"
"""File that the process holds while it needs the folder; a folder that is kept has none."""


@contextmanager
def at_commit(project: Path, commit: str, *, keep: bool = False) -> Iterator[Path]:
    """Check a commit out in a worktree; gives the project's folder in it, which is removed at the end of the block.

    What a killed process left is removed first.

    Args:
        project: The user's project, in a git checkout.
        commit: Hash of the commit.
        keep: Whether the worktree stays.

    Raises:
        DataError: The project is in no git checkout, or its repository lacks the commit.
    """
    try:
        inside = git.line(project, "rev-parse", "--show-prefix")
    except git.GitError as error:
        raise DataError(
            f"{project} must be in a git checkout, which has the code that a training was made with; it is not ({error}). "
            "Clone the repository that the training came from, and run it there."
        ) from None
    try:
        git.output(project, "cat-file", "-e", f"{commit}^{{commit}}")
    except git.GitError:
        raise DataError(
            f"the repository of {project} must have the commit of the training, {commit}; it has not. `git fetch --all` "
            "brings it if a remote has it; else run this in the clone in which the training ran."
        ) from None
    sweep(project)
    scratch = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    folder = scratch / f"goodfit-{commit[:7]}"
    is_kept = False
    with (scratch / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            try:
                git.output(project, *git.WITHOUT_HELPERS, "worktree", "add", "--detach", str(folder), commit)
            except git.GitError as error:
                raise DataError(f"git must check out {commit} in {folder}; it cannot: {error}.") from None
            yield folder / inside
            is_kept = keep
        finally:
            if is_kept:
                (scratch / _LOCK).unlink()
            else:
                _remove(project, folder)


def apply(project: Path, patch: Path) -> None:
    """Apply the patch of a training to the worktree of its commit.

    Raises:
        DataError: It does not apply.
    """
    try:
        top = Path(git.line(project, "rev-parse", "--show-toplevel"))
        git.output(top, "apply", "--binary", "--unidiff-zero", "--whitespace=nowarn", str(patch.absolute()))
    except git.GitError as error:
        raise DataError(
            f"{patch} must apply to the commit of the training; it does not ({error}), so one of the two belongs to another "
            "training. Get its folder again from where it was copied."
        ) from None


def sweep(project: Path) -> None:
    """Remove the worktrees that killed processes left behind."""
    try:
        listed = git.output(project, "worktree", "list", "--porcelain", "-z").split(b"\0")
    except git.GitError:  # an old git has no -z
        return
    for folder in [Path(os.fsdecode(entry[9:])) for entry in listed if entry.startswith(b"worktree ")]:
        if not folder.parent.name.startswith(PREFIX):
            continue
        with suppress(OSError):  # held, kept, or of another user
            if folder.parent.exists():
                with (folder.parent / _LOCK).open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(project, folder)
            else:
                _remove(project, folder)


def _remove(project: Path, folder: Path) -> None:
    with suppress(git.GitError):
        git.output(project, "worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder.parent, ignore_errors=True)
