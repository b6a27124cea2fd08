"""The command line of a server, and its start: what `serve` and `demo` share."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.delivery.classifier import Classifier
from pipeline.errors import ConfigError
from pipeline.serving.limits import MEGABYTE, Limits, Load
from pipeline.tracking.addresses import package_of

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pipeline.serving.app import Service

PACKAGES = ("fastapi", "python_multipart", "uvicorn")
"""Packages of the extra."""


def serve(options: argparse.Namespace, add_pages: Callable[["FastAPI", "Service"], None], invitation: str) -> None:
    """Serve a package, and pages beside it.

    Args:
        options: The options of `parser`.
        add_pages: Adds what the app answers beside `/predict`, `/health` and `/docs`.
        invitation: Line to print once the port is open, with the place of its `{url}`.

    Raises:
        ConfigError: The address is not free.
        DataError: The model is no package, or the tracking store does not give it.
        KeyboardInterrupt: A signal has stopped the server.
    """
    from pipeline.serving import server
    from pipeline.serving.app import Service, create
    from pipeline.serving.engine import Engine
    from pipeline.serving.hosts import KnownHosts

    limits = Limits(
        max_bytes=int(options.max_megabytes * MEGABYTE), max_pixels=options.max_pixels, max_files=options.max_files,
        timeout_seconds=options.timeout_seconds,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:  # a classifier is in memory as a whole
        classifier = Classifier.load(package_of(options.model, Path(scratch)), options.threads)
    engine = Engine(classifier, limits.max_pixels, options.threads)
    service = Service(engine, limits, Load(limits))
    app = create(service)
    add_pages(app, service)
    address = server.Address(options.host, options.port)
    if address.is_loopback or options.allow_host:
        app.add_middleware(KnownHosts, known=[options.host, *options.allow_host])
    listener = server.listen(address)
    print(f"Serving {app.title}. {invitation.format(url=server.url(listener))} Stop with Ctrl+C.", flush=True)
    if not address.is_loopback:
        print(f"Anybody who reaches {options.host} can use it: there is no password.", file=sys.stderr, flush=True)
    server.run(app, listener, timeout_seconds=limits.timeout_seconds, has_access_log=options.access_log)


def need(extra: str) -> None:
    """Check that the packages of an extra are there.

    Raises:
        ConfigError: One is not.
    """
    for name in PACKAGES:
        if find_spec(name) is None:
            raise ConfigError(
                f"python -m pipeline.{extra} must find {name}, which is not installed. Run `pip install -e .[{extra}]`."
            )


def parser(command: str, description: str | None, port: int = 8000) -> argparse.ArgumentParser:
    """The options of a command that serves a package."""
    made = argparse.ArgumentParser(
        prog=f"python -m pipeline.{command}", description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    made.add_argument("--model", help="package: folder, ZIP file, models:/… or runs:/…; build/package if none is given")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine alone)")
    made.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="answer requests for this host too, such as that of a reverse proxy; on this machine alone only its own names are "
        "answered",
    )  # fmt: skip
    made.add_argument("--port", type=_port, default=port, help="port, or 0 for any that is free (%(default)s)")
    made.add_argument(
        "--max-megabytes", type=_positive, default=32.0, metavar="N", help="size of a request (%(default)g)"
    )
    made.add_argument(
        "--max-pixels", type=_count, default=64_000_000, metavar="N",
        help="height × width of an image, at most the package's own limit (%(default)s)",
    )  # fmt: skip
    made.add_argument("--max-files", type=_count, default=64, metavar="N", help="images in a request (%(default)s)")
    made.add_argument(
        "--timeout-seconds", type=_positive, default=30.0, metavar="N",
        help="time for a request to arrive, and again for its answer (%(default)g)",
    )  # fmt: skip
    made.add_argument("--threads", type=_count, default=cores, metavar="N", help="threads (%(default)s)")
    made.add_argument("--access-log", action="store_true", help="print a line for each request on standard error")
    return made


def _positive(text: str) -> float:
    with suppress(ValueError):
        if 0 < (value := float(text)) < 1e6:
            return value
    raise argparse.ArgumentTypeError(f"it must be a number above 0 and below 1,000,000; got {text!r}")


def _count(text: str) -> int:
    return _whole_number(text, 1, 10**12)


def _port(text: str) -> int:
    return _whole_number(text, 0, 65535)


def _whole_number(text: str, least: int, most: int) -> int:
    with suppress(ValueError):
        if least <= (value := int(text)) <= most:
            return value
    raise argparse.ArgumentTypeError(f"it must be a whole number from {least} to {most:,}; got {text!r}")
