"""Runs git, and gives its reason where it refuses."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

WITHOUT_HELPERS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.splitIndex=false")
"""Options with which git runs no program of the user's, and starts none that stays."""


class GitError(Exception):
    """Raised where git is not there or refuses. The message is the reason, as a clause."""


def output(
    folder: Path, *arguments: str, content: bytes | None = None, variables: Mapping[str, str] | None = None
) -> bytes:
    """What a git command prints.

    Args:
        folder: Folder to run it in.
        arguments: Its arguments.
        content: Its standard input.
        variables: Further environment variables.

    Raises:
        GitError: Git is not installed, or the command fails.
    """
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **(variables or {})}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, check=True, input=content or b""
        )
    except OSError as error:
        raise GitError(f"git cannot be run ({error.strerror})") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.decode(errors="replace").splitlines() if line.strip()]
        reason = lines[0].removeprefix("fatal: ").removeprefix("error: ") if lines else f"exit code {error.returncode}"
        raise GitError(reason) from None
    return done.stdout


def line(folder: Path, *arguments: str) -> str:
    """The one line that a git command prints; see `output`."""
    return output(folder, *arguments).decode(errors="surrogateescape").strip()


def outside_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment, less those that point git to a repository, such as those of a hook."""
    pointing = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
    return {name: value for name, value in environment.items() if name not in pointing}
