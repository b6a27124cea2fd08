"""Runs DVC and the pipeline's commands in forks of one process that has imported the slow libraries.

A command then costs its own work, and not the seconds in which torch, Lightning and MLflow are imported, once for each stage of
a `dvc repro`. `fork_server` gives environment variables that put programs `python` and `dvc` first on the PATH. They hand
`python -m pipeline.…` and `dvc …` to the server, with folder, environment, input and output, and end with the exit code; any
other use of `python` is Python's own, and so is a process of a training that has several: they watch their parents.

For commands that run to their end: a signal to those programs, or a limit of their resources, does not reach the command.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SLOW_IMPORTS = (
    "albumentations",
    "dvc.cli",
    "dvc.repo",
    "dvc_http",
    "git",
    "hydra",
    "jinja2",
    "matplotlib.figure",
    "mlflow.pyfunc.loaders",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.parquet",
    "pytorch_lightning",
    "ruamel.yaml",
    "scipy.stats",
    "sklearn.metrics",
    "torch._functorch.aot_autograd",
    "torch._inductor.ir",
    "torch.export.pt2_archive",
)
"""Modules that most commands import, none of which starts a thread."""

CLIENT = """#!{python} -SE
import json, os, socket, sys
if os.path.basename(sys.argv[0]) == "dvc":
    command = ["dvc", *sys.argv[1:]]
elif sys.argv[1:2] == ["-m"] and sys.argv[2].startswith("pipeline.") and "RANK" not in os.environ:
    command = sys.argv[2:]
else:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = json.dumps([os.getcwd(), dict(os.environ), command]).encode()
socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(request)
sys.exit(int(connection.makefile().read() or 1))
"""


@contextmanager
def fork_server(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """A running server; gives the variables with which commands use it, stopped at the end of the block."""
    with tempfile.TemporaryDirectory() as name:
        folder, address = Path(name), f"{name}/socket"
        for program in ("python", "dvc"):
            (folder / program).write_text(CLIENT.format(python=sys.executable, address=address))
            (folder / program).chmod(0o755)
        with subprocess.Popen([sys.executable, __file__, address], env=environment) as server:
            try:
                while not Path(address).exists():
                    assert server.poll() is None, "the server of forks did not start"
                    time.sleep(0.05)
                yield {"PATH": name + os.pathsep + environment["PATH"]}
            finally:
                server.kill()


def _serve(address: str) -> None:
    from mlflow.utils import requirements_utils

    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    requirements_utils._init_modules_to_packages_map()  # every logged model reads the files of all installed packages once
    gc.freeze()  # else a collection in a fork would copy the memory that it looks at
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    os.rename(f"{address}.new", address)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # answered requests leave no process behind
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _answer(connection, address)
            return
        connection.close()


def _answer(connection: socket.socket, address: str) -> None:
    """Run one command in a child, and send its exit code."""
    head, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    request = connection.makefile("rb").read(int.from_bytes(head, "big"))
    folder, variables, (module, *arguments) = json.loads(request)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = [
        *([] if module == "dvc" else [folder]),
        *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    sys.argv = [module, *arguments]
    sys.executable = str(Path(address).parent / "python")  # a stage that a command starts becomes a fork too
    os._exit(_run(module))


def _run(module: str) -> int:
    """Run a module as Python does, but for the end of the interpreter, which would copy the memory of all libraries."""
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # ends the threads of executors too
    atexit._run_exitfuncs()
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


if __name__ == "__main__":
    del sys.path[0]  # the folder of tests, which commands do not see
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    _serve(sys.argv[1])
