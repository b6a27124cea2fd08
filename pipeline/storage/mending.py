"""Finds the command that brings back a damaged file: from DVC's cache, or by making it again.

DVC trusts the objects of its cache unread. Where the object is damaged too, as it is where the file is a link to it, it must go
first: DVC would keep it and link to it again.
"""

import hashlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.storage import places

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo


@dataclass(frozen=True)
class Tracked:
    """A file in an output of DVC.

    Attributes:
        out: The output, a folder.
        stage: Stage that makes it, as `dvc repro` takes it.
        copy: The file in DVC's cache; where the list of the output's files is damaged, that list; None where it is not known.
        has_remote: Whether DVC has a default remote.
    """

    out: Path
    stage: str
    copy: Path | None
    has_remote: bool


def remedy(path: Path, folder: Path | None) -> str:
    """A sentence with the command that brings back `path`; `folder` is the sealed folder that it belongs to."""
    path = path.absolute()
    if places.CACHE.absolute() in path.parents:
        return f"`rm -r {_shown(folder or path)}` removes {'the folder' if folder else 'it'}; it is made again when needed."
    tracked = _tracked(path)
    if tracked is None:
        return f"Remove {_shown(folder or path)}, and run again the command that made it."
    out, again = _shown(tracked.out), f"dvc repro -f -s {tracked.stage}"
    if tracked.copy is None or not tracked.copy.exists():
        fetch = f", or `dvc pull --force {out}` fetches it" if tracked.has_remote else ""
        return f"`{again}` makes it again{fetch}."
    if _is_whole(tracked.copy):
        return f"`rm -f {_shown(path)} && dvc checkout --force {out}` brings it back from DVC's cache."
    remove = f"rm -f {_shown(tracked.copy)} {_shown(path)}"
    fetch = f", or `{remove} && dvc pull --force {out}` fetches it" if tracked.has_remote else ""
    return f"The copy in DVC's cache is damaged too: `{remove} && {again}` makes it again{fetch}."


def _tracked(path: Path) -> Tracked | None:
    """Where DVC keeps `path`; None where DVC does not track it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(os.fspath(places.PROJECT)) as repo:
            for out in repo.index.outs:
                if Path(out.fs_path) in path.parents:
                    return _described(repo, out, path)
    except (DvcException, OSError):
        pass  # no repository of DVC, or one that cannot be read: the file is made again by hand
    return None


def _described(repo: "Repo", out: "Output", path: Path) -> Tracked:
    from dvc_data.hashfile.tree import Tree

    tree, value = out.get_obj(), out.hash_info.value if out.hash_info else None
    if isinstance(tree, Tree):
        _, known = tree.get(path.relative_to(out.fs_path).parts) or (None, None)
        value = known.value if known else None
    copy = Path(out.cache.oid_to_path(value)) if value else None
    return Tracked(Path(out.fs_path), out.stage.addressing, copy, bool(repo.config["core"].get("remote")))


def _is_whole(copy: Path) -> bool:
    """Whether an object of DVC's cache has the MD5 that its path is made of."""
    with copy.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == (copy.parent.name + copy.name).removesuffix(".dir")


def _shown(path: Path) -> str:
    """A path for a command that is typed in this folder."""
    here = Path.cwd()
    return shlex.quote(os.fspath(path.relative_to(here) if here in path.parents else path))
