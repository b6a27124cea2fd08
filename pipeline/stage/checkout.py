"""Tells the state of git and DVC: the commit, the pinned data, and what differs from the commit."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pipeline.config import yaml_values
from pipeline.config.secrets import holds_secret
from pipeline.stage import lineage
from pipeline.storage import git
from pipeline.storage.digests import sha256_of
from pipeline.terminal import printable

PATCH = "changes.patch"
"""Name of the file beside `run.json` with what differed from the commit, as `git apply` reads it."""

MAX_MEGABYTES = 10
"""Size above which the difference is not kept."""

_BESIDE = ("benchmarks", "docs", "tests", "*.md", "dvc.lock")
"""Tracked files that no training reads. DVC writes `dvc.lock` after each stage, so that it differs while a training runs."""

_READ = ("pipeline", "conf", "params.yaml", "dvc.yaml", "data.dvc", ".dvcignore")
"""Places in which a training reads untracked files too."""


class Checkout(NamedTuple):
    """The fields of `RunOrigin` that tell of git and DVC."""

    git_commit: str | None
    git_dirty: bool
    changes_sha256: str | None
    changes_left_out: str | None
    data_hash: str | None
    dvc_experiment: str | None


class Changes(NamedTuple):
    """What differs from the commit.

    Attributes:
        patch: Patch that makes the commit what is there; empty where nothing differs, and where it cannot be kept.
        left_out: Why it cannot be kept, as a clause; None where it is whole.
    """

    patch: bytes
    left_out: str | None = None


@cache
def at_start() -> tuple[Checkout, bytes]:
    """The checkout and the patch at the first call in this process, whose code is that of its start."""
    return checkout(lineage.PROJECT)


def checkout(project: Path) -> tuple[Checkout, bytes]:
    """Read the state of git and DVC, and the patch of what differs. Says so where it cannot be kept."""
    commit = _line(project, "rev-parse", "HEAD")
    found = changes(project) if commit else Changes(b"")
    if found.left_out:
        print(
            f"git: what differs from the commit is not kept with this training, as {printable(found.left_out)}. "
            "`python -m pipeline.reproduce` cannot apply it then; commit it to be able to.",
            file=sys.stderr,
        )
    state = Checkout(
        git_commit=commit,
        git_dirty=bool(commit and _line(project, "status", "--porcelain", "--untracked-files=no")),
        changes_sha256=sha256_of(found.patch) if found.patch else None,
        changes_left_out=found.left_out,
        data_hash=pinned_hash(project),
        dvc_experiment=os.environ.get("DVC_EXP_NAME"),
    )
    return state, found.patch


def pinned_hash(project: Path) -> str | None:
    """Hash of `data/` as `data.dvc` pins it; None where nothing is pinned."""
    pinned = project / "data.dvc"
    outs = yaml_values.parse(pinned.read_text()).get("outs", [{}]) if pinned.exists() else [{}]
    return outs[0].get("md5")


def changes(project: Path) -> Changes:
    """What differs from the commit in what a training can read. The user's index and objects stay as they are."""
    with tempfile.TemporaryDirectory(prefix="goodfit-index-") as name:
        try:
            return _changes(project, Path(name))
        except (git.GitError, OSError) as error:
            return Changes(b"", f"git cannot tell it: {error}")


def _changes(project: Path, scratch: Path) -> Changes:
    index, objects = (project / git.line(project, "rev-parse", "--git-path", part) for part in ("index", "objects"))
    if index.exists():  # a copy knows which files have not changed since they were read, as the user's does
        shutil.copy2(index, scratch / "index")
    (scratch / "objects").mkdir()
    alternates = os.pathsep.join(
        filter(None, [str(objects.absolute()), os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES")])
    )
    apart = {
        "GIT_INDEX_FILE": str(scratch / "index"),
        "GIT_OBJECT_DIRECTORY": str(scratch / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": alternates,
    }
    places = ("--", ".", *(f":(exclude){place}" for place in _BESIDE))

    def run(*arguments: str, content: bytes | None = None) -> bytes:
        return git.output(project, *git.WITHOUT_HELPERS, *arguments, content=content, variables=apart)

    changed = run("diff-files", "--name-only", "-z", "--relative", *places)
    untracked = run("ls-files", "--others", "--exclude-standard", "-z", "--", *_READ)
    paths = [project / os.fsdecode(path) for path in (changed + untracked).split(b"\0") if path]
    if sum(path.lstat().st_size for path in paths if path.exists()) > MAX_MEGABYTES * 1e6:
        return Changes(b"", f"it is larger than {MAX_MEGABYTES} MB")
    run("add", "--update", *places)
    run("update-index", "--add", "-z", "--stdin", content=untracked)
    plain = ("--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "-U0")
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/")
    patch = run("diff-index", "-p", "--cached", *plain, *prefixes, "HEAD", *places)
    if len(patch) > MAX_MEGABYTES * 1e6:
        return Changes(b"", f"it is larger than {MAX_MEGABYTES} MB")
    for file, line in changed_lines(patch.decode(errors="replace")):
        if holds_secret(line, is_code=file.endswith(".py")):
            return Changes(b"", f"a line of {file} looks like a secret")
    return Changes(patch)


def changed_lines(patch: str) -> Iterator[tuple[str, str]]:
    """The lines that a patch without context adds and removes, each with the name of its file, less those of binary files."""
    file, is_head = "", False
    for line in patch.split("\n"):
        if line.startswith("diff --git "):
            is_head = True
            file = line.rpartition(" b/")[2].rstrip('"')
        elif line.startswith("@@ "):
            is_head = False
        elif not is_head and re.match("[+-]", line):
            yield file, line[1:]


def _line(project: Path, *arguments: str) -> str | None:
    try:
        return git.line(project, *arguments)
    except git.GitError:
        return None
