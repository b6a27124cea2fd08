"""Requests per second of `python -m pipeline.serve`, and how long one takes, for one client and for many at once.

    python benchmarks/serving.py build/package images/*.png [--clients 1 16] [--requests 2000]

The clients are threads of this process, so that both share the machine. The server's processor time for a request depends
less on what else runs here.
"""

import argparse
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args()
    contents = [path.read_bytes() for path in options.images]
    command = [sys.executable, "-m", "pipeline.serve", "--model", str(options.package), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().partition("http://127.0.0.1:")[2].partition("/")[0])
            _measure(port, contents, 8, 200)  # what only the first requests pay
            for clients in options.clients:
                before = _processor_seconds(server.pid)
                seconds, times = _measure(port, contents, clients, options.requests)
                each = (_processor_seconds(server.pid) - before) / len(times) * 1000
                p50, p95 = np.percentile(times, [50, 95]) * 1000
                print(
                    f"{clients:3d} clients: {len(times) / seconds:6.0f} requests/s, p50 {p50:6.2f} ms, p95 {p95:6.2f} ms; "
                    f"{each:5.2f} ms of the server's processors for each"
                )
        finally:
            server.terminate()


def _measure(port: int, contents: list[bytes], clients: int, requests: int) -> tuple[float, list[float]]:
    """Seconds in all, and those of each request; every client keeps its connection and sends one image after another."""
    times: list[float] = []

    def client(begin: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for index in range(begin, requests, clients):
                body = contents[index % len(contents)]
                head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
                started = time.perf_counter()
                connection.sendall(head.encode() + body)
                _receive(connection)
                times.append(time.perf_counter() - started)

    threads = [threading.Thread(target=client, args=(index,)) for index in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, times


def _processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _receive(connection: socket.socket) -> None:
    """Read one answer, which must be a good one."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), data[:500]
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)


if __name__ == "__main__":
    main()
