"""Compare two versions of the prepared data: images added, removed, relabelled, or moved to another split.

Reads:   build/prepare/ of both versions, all splits, from the workspace or from DVC's cache for a commit
Writes:  build/changes/index.html
Command: python -m pipeline.changes                 the last commit and the workspace
         python -m pipeline.changes v1.0            a tag, branch, commit or DVC experiment, and the workspace
         python -m pipeline.changes v1.0 v2.0       two of these
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pipeline.data.versions import Version, compare, count, read
from pipeline.errors import ConfigError, DataError
from pipeline.stage import lineage
from pipeline.stage.program import as_program
from pipeline.storage import atomic, checksums

COMMAND = "changes"
PREPARED = "build/prepare"


def in_workspace(root: Path) -> Version:
    """Read the prepared data in `build/prepare`.

    Raises:
        DataError: There are none.
    """
    folder = root / PREPARED

    def open_file(path: str) -> IO[bytes]:
        checksums.check(folder / path)
        return (folder / path).open("rb")

    try:
        return read("the workspace", open_file)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} must hold prepared data; {error.filename} is not there. Run `dvc repro prepare`."
        ) from None


def at_revision(rev: str, root: Path) -> Version:
    """Read the prepared data of a revision from DVC's cache or from a remote.

    Raises:
        ConfigError: The revision does not exist.
        DataError: The revision has no prepared data, or they are neither in DVC's cache nor in a remote.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index import DataIndexError

    files = DVCFileSystem(os.fspath(root), rev=rev)
    try:
        commit = files.repo.get_rev()
    except SCMError as error:
        raise ConfigError(
            f"REV must be a commit, branch, tag or DVC experiment of {root}; got {rev!r}: {error}. `git log --oneline` shows "
            "the commits."
        ) from None
    title = commit[:7] if commit.startswith(rev) else f"{rev} ({commit[:7]})"
    try:
        if files.isdir(PREPARED):
            return read(title, lambda path: files.open(f"{PREPARED}/{path}", "rb"))
    except (OSError, DvcException, DataIndexError) as error:
        raise DataError(
            f"the prepared data of {title} must be in DVC's cache or in a remote; they are not ({error}). Run `dvc pull` at "
            "that commit where a remote has them; else check it out and run `dvc repro prepare`."
        ) from None
    raise DataError(
        f"{title} must have prepared data; its dvc.lock has none of {PREPARED}. Name a commit that was made after `dvc repro`."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    from pipeline.page import changes as page

    parser = argparse.ArgumentParser(f"python -m pipeline.{COMMAND}", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("old", nargs="?", default="HEAD", metavar="REV", help="the earlier version; default: HEAD")
    parser.add_argument("new", nargs="?", metavar="REV", help="the later version; default: the workspace")
    options = parser.parse_args(arguments)
    old = at_revision(options.old, lineage.ROOT)
    new = in_workspace(lineage.ROOT) if options.new is None else at_revision(options.new, lineage.ROOT)
    counts, differences = count(old, new), compare(old.images, new.images)
    page.print_table(old, new, counts, differences)
    out = lineage.ROOT / "build" / COMMAND / "index.html"
    atomic.write_text(out, page.render(old, new, counts, differences))
    print(f"Look at {os.path.relpath(out)}")


if __name__ == "__main__":
    with as_program():
        main()
