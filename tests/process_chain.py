"""Runs commands of the pipeline one after the other, each in a fork of one process that has imported the slow libraries.

A command then costs its own work, and not the seconds in which torch, Lightning and MLflow are imported. As a script, the
module reads the commands from a JSON file, imports the pipeline from the current folder, and prints a JSON line with exit code
and output after each command.
"""

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SLOW_IMPORTS = (
    "albumentations",
    "hydra",
    "matplotlib.figure",
    "mlflow.pytorch",
    "pytorch_lightning",
    "sklearn",
    "scipy.stats",
)
"""Libraries that most commands import, none of which starts a thread."""


def run_chain(folder: Path, commands: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Run each command, a module and its arguments, in `folder`; give its exit code with what it printed."""
    from tests.conftest import environment  # not at the top: the script runs where `tests` cannot be imported

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([list(command) for command in commands], file)
        file.flush()
        done = subprocess.run(
            [sys.executable, __file__, file.name], cwd=folder, env=environment(), capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    return [(code, printed) for code, printed in map(json.loads, done.stdout.splitlines())]


def _run(module: str, arguments: list[str]) -> None:
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _fork(module: str, arguments: list[str]) -> tuple[int, str]:
    """Run one command in a child process; give its exit code and what it printed."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            for descriptor in (1, 2):
                os.dup2(output.fileno(), descriptor)
            _run(module, arguments)
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


def main() -> None:
    sys.path[0] = os.getcwd()
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    for module, *arguments in json.loads(Path(sys.argv[1]).read_text()):
        print(json.dumps(_fork(module, arguments)), flush=True)


if __name__ == "__main__":
    main()
