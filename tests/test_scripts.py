"""The project as a download without git, which `make run` makes ready."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT_FILES, ROOT, command_runner


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """The project's files, as an archive of them holds."""
    for name in (*PROJECT_FILES, "scripts", ".dvc/config", ".dvc/.gitignore"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    return tmp_path


def make_ready(folder: Path, path: str = os.environ["PATH"]) -> str:
    done = subprocess.run(
        ["/bin/sh", "scripts/repository.sh"], cwd=folder, env={"PATH": path, "HOME": str(folder)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_a_download_becomes_a_repository_once(downloaded: Path) -> None:
    assert "made it one, with all files as the first commit" in make_ready(downloaded)
    assert make_ready(downloaded) == ""
    run = command_runner(downloaded)
    assert run("git", "status", "--porcelain").stdout == ""
    assert len(run("git", "log", "--oneline").stdout.splitlines()) == 1


def test_without_git_dvc_runs_without_it(downloaded: Path) -> None:
    tools = downloaded / "tools"
    tools.mkdir()
    for name in ("sed", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    assert "`dvc repro` works and `dvc exp run` does not" in make_ready(downloaded, str(tools))
    assert make_ready(downloaded, str(tools)) == ""
    command_runner(downloaded)("dvc", "repro", "compose")
    assert not (downloaded / ".git").exists()
