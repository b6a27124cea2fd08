"""Unpacks a Debian package, without root and without installing it."""

import os
import re
import subprocess
from pathlib import Path

from pipeline.source.unpack import MirrorError

# Debian Policy 5.6.1. apt-get cannot mistake such a name for an option.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")


def unpack_package(package: str, scratch: Path, timeout_seconds: float) -> Path:
    """Download `package` from the sources that apt knows, and unpack it under `scratch`.

    apt keeps its lists and cache in `scratch`, so no rights are needed.

    Returns:
        The folder that stands for `/` in the package.

    Raises:
        MirrorError: There is no apt-get, it knows no such package, or it fails or takes too long.
    """
    if not _PACKAGE.fullmatch(package):
        raise MirrorError(f"{package!r} is no name of a Debian package")
    for folder in ("lists/partial", "cache/archives/partial", "root"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    options = ["-q", "-o", f"Dir::State::Lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
    options += ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]
    _run("apt-get update", ["apt-get", *options, "update"], scratch, timeout_seconds)
    _run("apt-get download", ["apt-get", *options, "download", package], scratch, timeout_seconds)
    archives = sorted(scratch.glob("*.deb"))
    if not archives:
        raise MirrorError("apt-get downloaded no package")
    _run("dpkg-deb -x", ["dpkg-deb", "-x", str(archives[0]), str(scratch / "root")], scratch, timeout_seconds)
    return scratch / "root"


def _run(what: str, command: list[str], folder: Path, timeout_seconds: float) -> None:
    """Run `command` in `folder`; the last error that it prints is the reason of the `MirrorError`."""
    try:
        done = subprocess.run(
            command, check=False, cwd=folder, env={**os.environ, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=timeout_seconds,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MirrorError(f"there is no {command[0]} on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise MirrorError(f"{what} did not end within {timeout_seconds:g} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("E:")] or lines or ["it says nothing"]
        raise MirrorError(f"{what} failed with exit code {done.returncode}: {errors[-1]}")
