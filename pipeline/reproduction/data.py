"""Brings the raw data of a training into a worktree: from DVC's cache or a remote, by their hash."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artefacts.run import RunRecord
from pipeline.artefacts.source import SourceRecord
from pipeline.config.secrets import masked
from pipeline.errors import DataError
from pipeline.stage import lineage
from pipeline.stage.checkout import pinned_hash

if TYPE_CHECKING:
    from dvc.repo import Repo


def bring_pinned(record: RunRecord, own: Path, project: Path, scratch: Path) -> bool:
    """Fill `data/` of the worktree with the data that `data.dvc` pinned when a training began.

    Args:
        record: Record of the training.
        own: The user's project, whose cache and remotes DVC reads.
        project: The project in the worktree.
        scratch: Folder for what DVC downloads and notes.

    Returns:
        Whether they are there and are the dataset that the training was made from; else `data/` is left without them.
    """
    if record.data_hash is None:
        return False
    if pinned_hash(project) != record.data_hash:
        (project / "data.dvc").write_text(f"outs:\n- md5: {record.data_hash}\n  hash: md5\n  path: data\n")
    folder = lineage.dvc_folder("fetch", project)
    if not _checked_out(own, project, scratch):
        return False
    try:
        about = SourceRecord.read_alone(folder)
    except DataError:
        about = None
    if about is None or (about.name, about.source) != (record.dataset.name, record.dataset.source):
        shutil.rmtree(folder, ignore_errors=True)  # the training had others, such as in a sweep over `data`
        return False
    return True


def use_fetched(project: Path) -> None:
    """Put what `fetch` got in the place of `data/`, as the import `data.dvc` does."""
    folder = lineage.dvc_folder("fetch", project)
    if folder.exists():
        shutil.rmtree(folder)
    (project / "downloads").rename(folder)


def link_source(source: str | None, own: Path, project: Path) -> None:
    """Let the worktree find a source that is named relative to the user's project, where it lies in that project."""
    if source is None or "://" in source or Path(source).expanduser().is_absolute():
        return
    place = project / source
    if ".." not in Path(source).parts and (own / source).exists() and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(own / source)


def _checked_out(own: Path, project: Path, scratch: Path) -> bool:
    """Let DVC put `data/` into the worktree, from the cache of the user's project or else from a remote."""
    from dvc.config import Config
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError

    settings: Any = Config(os.fspath(own / ".dvc"))
    cache = {name: value for name, value in settings["cache"].items() if name in ("dir", "type")}
    local = {"cache": {"dir": os.fspath(own / ".dvc" / "cache"), **cache}}
    away = {"cache": {"dir": os.fspath(scratch / "cache")}}
    try:
        with _opened(project, scratch, local) as repo:
            repo.checkout([os.fspath(project / "data.dvc")], force=True)
        return True
    except (DvcException, DataIndexError, OSError):
        shutil.rmtree(project / "data", ignore_errors=True)
    if not settings["remote"]:
        return False
    remotes = {"remote": settings["remote"], "core": {"remote": settings["core"].get("remote")}}
    if not remotes["core"]["remote"]:
        return False
    print("reproduce: data/ is not in DVC's cache; asking its remote", flush=True)
    try:
        with _opened(project, scratch, {**away, **remotes}) as repo:
            repo.pull([os.fspath(project / "data.dvc")], force=True)
        return True
    except Exception as error:  # of a remote's library, any
        print(f"reproduce: the remote has no such data ({masked(' '.join(str(error).split()))})", flush=True)
        shutil.rmtree(project / "data", ignore_errors=True)
        return False


@contextmanager
def _opened(project: Path, scratch: Path, settings: dict[str, Any]) -> Iterator["Repo"]:
    from dvc.repo import Repo

    core = {
        **settings.get("core", {}),
        "no_scm": True,
        "analytics": False,
        "site_cache_dir": os.fspath(scratch / "site"),
    }
    with Repo(os.fspath(project), config={**settings, "core": core}) as repo:
        yield repo
