"""Runs DVC and the pipeline's commands in forks of one process that has imported the slow libraries.

A command then costs its own work, and not the seconds in which torch, Lightning and MLflow are imported, once for each stage of
a `dvc repro`. `start` makes programs `python` and `dvc` in a folder, to stand first on the PATH. They hand
`python -m pipeline.…` and `dvc …` to the server, with folder, environment, input and output, and end with the exit code; any
other use of `python` is Python's own, and so is a process of a training that has several: they watch their parents.

Those programs are for commands that run to their end: a signal to one of them, or a limit of its resources, does not reach the
command. `Forked` is a command that can be stopped and killed: it knows the fork itself, which leads a process group of its own.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SLOW_IMPORTS = (
    "albumentations",
    "alembic.command",
    "dvc.cachemgr",
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.lock",
    "dvc.repo",
    "dvc.repo.artifacts",
    "dvc.repo.datasets",
    "dvc.repo.metrics",
    "dvc.repo.params",
    "dvc.repo.plots",
    "dvc.repo.stage",
    "dvc_http",
    "git",
    "hydra",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.pyfunc.loaders",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "omegaconf._impl",
    "PIL.JpegImagePlugin",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "pytorch_lightning",
    "ruamel.yaml",
    "scipy.stats",
    "scmrepo.git",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.neighbors",
    "sqlalchemy.dialects.sqlite",
    "torch._functorch.aot_autograd",
    "torch._inductor.ir",
    "torch.export.pt2_archive",
    "torch.utils.serialization.config",
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
request = json.dumps([os.getcwd(), dict(os.environ), command, False]).encode()
socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(request)
sys.exit(int(connection.makefile().read() or 1))
"""


def start(folder: Path, environment: dict[str, str]) -> None:
    """Start a server that goes on when this process has ended, with its programs in `folder`; `stop` ends it."""
    for program in ("python", "dvc"):
        (folder / program).write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket")))
        (folder / program).chmod(0o755)
    subprocess.run([sys.executable, __file__, str(folder / "socket")], env=environment, check=True)


def stop(folder: Path) -> None:
    """End the server whose programs lie in `folder`, if one was started."""
    if (folder / "pid").exists():
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


class Forked:
    """A command in a fork, with what `subprocess.Popen` has of a process; its output and errors are one text.

    Args:
        folder: Where the server's programs lie.
        command: A module and its arguments; `dvc` is one. Or `-c` and a script, with what `python -c` does.
        cwd: Where the command runs.
        env: Its environment.
    """

    def __init__(self, folder: Path, command: Sequence[str], *, cwd: Path, env: dict[str, str]) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(folder / "socket"))
        request = json.dumps([str(cwd), env, list(command), True]).encode()
        reading, writing = os.pipe()
        with open(os.devnull) as nothing:
            head = len(request).to_bytes(8, "big")
            socket.send_fds(self._connection, [head], [nothing.fileno(), writing, writing])
        os.close(writing)
        self._connection.sendall(request)
        self._answers = self._connection.makefile()
        self.stdout = os.fdopen(reading)
        self.pid = int(self._answers.readline())

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = int(self._answers.readline())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        pieces: list[str] = []
        reader = threading.Thread(target=lambda: pieces.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(timeout)
        return pieces[0], None

    def close(self) -> None:
        for each in (self.stdout, self._answers, self._connection):
            each.close()


def _serve(address: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.plugins import Plugins
    from mlflow.utils import requirements_utils

    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    Plugins.instance()  # looks through all modules of Hydra and of its plug-ins
    OverridesParser.create().parse_overrides(["a.b=1", "++c={d: [e, 0.1], f: null}", "+g='h i'", "~k", "l=m,n"])
    requirements_utils._init_modules_to_packages_map()  # every logged model reads the files of all installed packages once
    gc.freeze()  # else a collection in a fork would copy the memory that it looks at
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    if child := os.fork():
        Path(address).with_name("pid").write_text(str(child))
        os.rename(f"{address}.new", address)
        os._exit(0)  # tells who started it that it listens
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
    """Run one command in a child, and send its exit code; of one that shall lead its process group, its id before."""
    head, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    request = connection.makefile("rb").read(int.from_bytes(head, "big"))
    folder, variables, (module, *arguments), leads = json.loads(request)
    child = os.fork()
    if child:
        if leads:
            os.setpgid(child, child)
            connection.sendall(f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        with suppress(BrokenPipeError):  # nobody waits for the code
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
        if module == "-c":
            exec(sys.argv[1], {"__name__": "__main__"})
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
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
