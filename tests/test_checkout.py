"""What a training keeps of the state of git and DVC."""

import subprocess
from pathlib import Path

import pytest

from pipeline.stage import checkout
from pipeline.storage.digests import sha256


def git(folder: Path, *arguments: str) -> str:
    own = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *own, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project below the top of a repository, with one commit."""
    project = tmp_path / "top" / "project"
    (project / "pipeline").mkdir(parents=True)
    (project / "tests").mkdir()
    for name in ("params.yaml", "pipeline/model.py", "pipeline/old.py", "tests/test_model.py", "dvc.lock", "README.md"):
        (project / name).write_text("first\nsecond\n")
    (project / "pipeline" / "picture.bin").write_bytes(bytes(range(256)))
    (project / ".gitignore").write_text("__pycache__/\n")
    (project / "data.dvc").write_text("outs:\n- path: data\n  md5: 12ab.dir\n")
    git(project.parent, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "Begin")
    return project


def change(project: Path) -> None:
    """Change files in every way: edited, staged, deleted, new, binary, with a name that git quotes."""
    (project / "params.yaml").write_text("first\nother\n")
    (project / "pipeline" / "staged.py").write_text("staged\n")
    git(project, "add", "pipeline/staged.py")
    (project / "pipeline" / "staged.py").write_text("staged, then edited\n")
    (project / "pipeline" / "old.py").unlink()
    (project / "pipeline" / "new").mkdir()
    (project / "pipeline" / "new" / "naïve file.py").write_text("no newline at the end")
    (project / "pipeline" / "picture.bin").write_bytes(bytes(reversed(range(256))))


def files(folder: Path) -> dict[str, str]:
    found = {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
    return {name: value for name, value in found.items() if "/.git/" not in f"/{name}"}


def test_the_patch_makes_the_commit_what_was_there(project: Path, tmp_path: Path) -> None:
    change(project)
    state, patch = checkout.checkout(project)
    assert state.git_dirty and state.data_hash == "12ab.dir" and state.changes_left_out is None
    (tmp_path / "changes.patch").write_bytes(patch)
    assert state.changes_sha256 == sha256(tmp_path / "changes.patch")
    git(tmp_path / "top", "worktree", "add", "-q", "--detach", str(tmp_path / "again"))
    git(tmp_path / "again", "apply", "--unidiff-zero", str(tmp_path / "changes.patch"))
    assert files(tmp_path / "again" / "project") == files(project)


def test_reading_the_difference_leaves_git_as_it_is(project: Path) -> None:
    change(project)
    before = {path: sha256(path) for path in (project.parent / ".git").rglob("*") if path.is_file()}
    assert checkout.changes(project).patch
    assert before == {path: sha256(path) for path in (project.parent / ".git").rglob("*") if path.is_file()}


def test_what_no_training_reads_is_not_kept(project: Path) -> None:
    for name in ("tests/test_model.py", "dvc.lock", "README.md"):
        (project / name).write_text("edited\n")
    (project / "photos").mkdir()
    (project / "photos" / "cat.txt").write_text("untracked, outside of what a training reads\n")
    (project / "pipeline" / "__pycache__").mkdir()
    (project / "pipeline" / "__pycache__" / "model.pyc").write_text("ignored\n")
    state, patch = checkout.checkout(project)
    assert patch == b"" and state.git_dirty and state.changes_sha256 is None and state.changes_left_out is None


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("pipeline/new.py", 'TOKEN = "3f2a91"'),
        ("pipeline/new.py", "# https://me:s3cret@example.org/photos.zip"),
        ("conf/new.yaml", "password: hunter2"),
        ("params.yaml", "source: https://example.org/photos.zip?token=3f2a91"),
    ],
)
def test_a_difference_with_a_secret_is_not_kept(
    project: Path, name: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text(f"first\n{line}\n")
    state, patch = checkout.checkout(project)
    assert patch == b"" and state.changes_sha256 is None
    assert state.changes_left_out == f"a line of project/{name} looks like a secret"
    told = capsys.readouterr().err
    assert told.startswith("git: what differs from the commit is not kept with this training, as a line of project/")
    assert "3f2a91" not in told and "hunter2" not in told


def test_a_secret_that_was_removed_is_not_kept_either(project: Path) -> None:
    (project / "params.yaml").write_text("password: hunter2\n")
    git(project, "commit", "-qam", "Oh")
    (project / "params.yaml").write_text("first\n")
    assert checkout.changes(project).left_out == "a line of project/params.yaml looks like a secret"


def test_code_that_names_a_secret_is_kept(project: Path) -> None:
    (project / "pipeline" / "model.py").write_text("token = page.token\nrun(token=token, password=read('password'))\n")
    assert b"page.token" in checkout.changes(project).patch


def test_a_large_difference_is_not_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "MAX_MEGABYTES", 0.001)
    (project / "pipeline" / "weights.bin").write_bytes(bytes(2000))
    assert checkout.changes(project).left_out == "it is larger than 0.001 MB"


def test_outside_of_git_and_before_the_first_commit_there_is_no_commit(tmp_path: Path) -> None:
    nothing = checkout.Checkout(None, False, None, None, None, None)
    assert checkout.checkout(tmp_path) == (nothing, b"")
    git(tmp_path, "init", "-q")
    assert checkout.checkout(tmp_path) == (nothing, b"")


def test_a_repository_that_cannot_be_read_costs_the_difference_and_not_the_training(project: Path) -> None:
    change(project)
    (project.parent / ".git" / "index").write_bytes(b"no index")
    found = checkout.changes(project)
    assert found.patch == b"" and str(found.left_out).startswith("git cannot tell it: ")
