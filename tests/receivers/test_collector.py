"""A collector in the middle: what it relays is what was sent to it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import golden
import pytest
from otlp import Received, until
from programs import HERE, free_port, json_python, listening, missing, python, running


def rotel() -> str:
    """The collector's program; it comes in a package of Python's."""
    found = importlib.util.find_spec("rotel")
    if found is None or found.origin is None:
        missing("rotel", 'pip install "memtrace-otel[dev]" does')
    return str(Path(str(found.origin)).with_name("rotel-agent"))  # type: ignore[union-attr]


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_a_collector_relays_all(protocol: str, backend: Received, tmp_path: Path) -> None:
    """
    By each protocol into rotel, and from it by HTTP: every span, point and bucket as it was.
    """
    by_http, by_grpc = free_port(), free_port()
    command = [rotel(), "start"]
    settings = {
        "ROTEL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{by_http}",
        "ROTEL_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{by_grpc}",
        "ROTEL_OTLP_EXPORTER_ENDPOINT": f"http://{backend.address}",
        "ROTEL_OTLP_EXPORTER_PROTOCOL": "http",
        "ROTEL_OTLP_EXPORTER_COMPRESSION": "none",
        "ROTEL_PID_FILE": str(tmp_path / "pid"),
    }
    options: Any = {"executable": json_python()} if protocol == "http/json" else {}
    with running(command, tmp_path / "rotel.log", **settings) as process:
        listening(process, by_http)
        listening(process, by_grpc)
        port = by_grpc if protocol == "grpc" else by_http
        (tmp_path / "package").mkdir()
        said = python(
            str(HERE / "work.py"),
            str(tmp_path / "package"),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="30",
            **options,
        )
        told = json.loads(said)
        until(lambda: len(backend.spans) >= len(told["spans"]))
        until(lambda: backend.metrics.keys() >= told["metrics"].keys())

    (golden.compare_roughly if protocol == "http/json" else golden.compare)(backend, told)
