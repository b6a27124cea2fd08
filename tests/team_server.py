"""The servers of compose.yaml on this machine, without containers: PostgreSQL and MLflow are real, the S3 store is moto's mock.

MLflow is started with the command and the environment that `compose.yaml` gives it; only hosts, ports and the path of the
file of settings are those of this machine.
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import requests
import yaml

from tests.conftest import ROOT, environment
from tests.loopback import free_port

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SECRETS = ("POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SESSION_KEY", "S3_SECRET_KEY")
START_SECONDS = 120.0


def resolve(text: str, values: dict[str, str]) -> str:
    """Put values in the place of `${NAME}`, `${NAME:-default}` and `${NAME:?message}`, as compose does.

    Raises:
        KeyError: A value is missing that has no default.
    """

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if values.get(name):
            return values[name]
        if default is None or default.startswith(":?"):
            raise KeyError(name)
        return default.removeprefix(":-")

    return re.sub(r"\$\{(\w+)(:[-?][^}]*)?\}", value, text)


def why_not() -> str | None:
    """Why PostgreSQL cannot be started here; None where it can."""
    try:
        binaries()
    except FileNotFoundError as error:
        return str(error)
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL refuses root, and setpriv is not there to become another user"
    return None


def binaries() -> Path:
    """The folder with PostgreSQL's programs, the newest of several.

    Raises:
        FileNotFoundError: There is none.
    """
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise FileNotFoundError("PostgreSQL's server (initdb, postgres) is not installed")


@dataclass
class Postgres:
    """A PostgreSQL server on loopback that asks for a password.

    Attributes:
        folder: Folder with its data.
        port: Port that it listens on.
        password: Password of its user `mlflow`.
        process: The running server; None while it is stopped.
    """

    folder: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it takes calls."""
        options = ["-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        self.process = subprocess.Popen(
            _as_user("postgres", *options), cwd=self.folder, start_new_session=True, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.address, connect_timeout=2).close()
                return
            assert time.monotonic() < deadline and self.process.poll() is None, "PostgreSQL does not start"
            time.sleep(0.1)

    def kill(self) -> None:
        """Stop the server at once, as a power cut does."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    @property
    def address(self) -> str:
        return f"postgresql://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with psycopg.connect(self.address) as connection:
            return connection.execute(query, values).fetchall()


def _as_user(program: str, *arguments: str) -> list[str]:
    """The command that runs a program of PostgreSQL, which refuses root, as this user or as `nobody`."""
    command = [str(binaries() / program), *arguments]
    if os.geteuid() != 0:
        return command
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *command]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server with the empty database `mlflow`, removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="goodfit-postgres-"))
    server = Postgres(folder, free_port(), secrets.token_urlsafe())
    try:
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        password_file = folder / "password"
        password_file.write_text(server.password)
        password_file.chmod(0o644)  # within a folder of mode 0700
        settings = ["--username=mlflow", f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8"]
        subprocess.run(
            _as_user("initdb", "-D", str(folder / "data"), *settings), cwd=folder, check=True, capture_output=True
        )
        password_file.unlink()
        variables = {**os.environ, "PGPASSWORD": server.password}
        start = ["postgres", "--single", "-D", str(folder / "data"), "postgres"]
        subprocess.run(
            _as_user(*start),
            cwd=folder,
            env=variables,
            input=b"CREATE DATABASE mlflow\n",
            check=True,
            capture_output=True,
        )
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@contextmanager
def bucket(secret: str) -> Iterator[Any]:
    """A client of an S3 store with the empty bucket `mlflow`: moto's server on loopback, a mock that keeps files in memory."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client(
            "s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="mlflow", aws_secret_access_key=secret,
            region_name="us-east-1",
        )  # fmt: skip
        client.create_bucket(Bucket="mlflow")
        yield client
    finally:
        server.stop()


@dataclass
class TeamServer:
    """The service `mlflow` of compose.yaml, with the two that it needs.

    Attributes:
        url: Its address.
        database: Its PostgreSQL.
        files: S3 client of its bucket.
        admin: User and password of the administrator.
        process: The running server; None while it is stopped.
    """

    url: str
    database: Postgres
    files: Any
    admin: tuple[str, str]
    command: list[str]
    variables: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env={**environment(), **self.variables}, start_new_session=True,
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{self.url}/health", timeout=1):
                return
            log_text = (self.folder / "mlflow.log").read_text()
            assert time.monotonic() < deadline and self.process.poll() is None, log_text
            time.sleep(0.2)

    def kill(self) -> None:
        """Stop the server at once, with its workers."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def add_user(self, name: str) -> dict[str, str]:
        """Add a user as docs/team-server.md says; gives the variables that this person sets."""
        password = secrets.token_urlsafe()
        answer = requests.post(
            f"{self.url}/api/2.0/mlflow/users/create", json={"username": name, "password": password}, auth=self.admin
        )
        answer.raise_for_status()
        return {
            "MLFLOW_TRACKING_URI": self.url, "MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password,
        }  # fmt: skip

    def paths(self) -> set[str]:
        """The paths of all files in the bucket."""
        pages = self.files.get_paginator("list_objects_v2").paginate(Bucket="mlflow")
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


@contextmanager
def team_server(folder: Path) -> Iterator[TeamServer]:
    """The team's server with an empty database and an empty bucket, started; removed at the end of the block."""
    values = {name: secrets.token_urlsafe() for name in SECRETS}
    service, port = COMPOSE["services"]["mlflow"], free_port()
    with postgres() as database, bucket(values["S3_SECRET_KEY"]) as files:
        values["POSTGRES_PASSWORD"] = database.password

        def here(text: str) -> str:
            text = resolve(text, values).replace("@postgres/", f"@127.0.0.1:{database.port}/")
            text = text.replace("http://s3:7070", files.meta.endpoint_url).replace("--port=5000", f"--port={port}")
            return text.replace("--host=0.0.0.0", "--host=127.0.0.1").replace("/etc/", f"{folder}/")

        (settings,) = re.findall(r"^RUN (printf .*)$", service["build"]["dockerfile_inline"], re.MULTILINE)
        subprocess.run(["sh", "-c", here(settings)], check=True)
        server = TeamServer(
            url=f"http://127.0.0.1:{port}", database=database, files=files,
            admin=(service["environment"]["MLFLOW_AUTH_ADMIN_USERNAME"], values["MLFLOW_ADMIN_PASSWORD"]),
            command=[here(word) for word in service["command"]],
            variables={name: here(value) for name, value in service["environment"].items()}, folder=folder,
        )  # fmt: skip
        try:
            server.start()
            yield server
        finally:
            server.kill()
