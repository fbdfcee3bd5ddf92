"""Backends for telemetry: one that takes all, one that never answers, one that is not there."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class TakesAll(BaseHTTPRequestHandler):
    """Reads what it is sent, and says that all is well."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve() -> None:
    """Be a backend that takes all, until standard input ends; its port is said first."""
    server = HTTPServer(("127.0.0.1", 0), TakesAll)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


@contextmanager
def healthy() -> Iterator[str]:
    """The address of a backend that takes all."""
    command = [sys.executable, "-m", "benchmarks._backends"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.communicate("")


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of one that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def refused() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


if __name__ == "__main__":
    serve()
