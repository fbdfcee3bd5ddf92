"""The demo's telemetry by each route of OTLP: nothing is lost or changed on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import golden
import pytest
from inline_snapshot import external_file
from otlp import Received, grpc_backend, http_backend
from programs import HERE, json_python, python

from memtrace import __version__
from memtrace.telemetry import names

Sent = tuple[str, Received, dict[str, Any]]
"""A protocol, what its backend received, and what was handed over as the process itself saw it."""


@pytest.fixture(scope="module", params=["http/protobuf", "http/json", "grpc"])
def sent(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """The demo's telemetry, sent by one protocol of OTLP's."""
    protocol = request.param
    options: Any = {"executable": json_python()} if protocol == "http/json" else {}
    with (grpc_backend if protocol == "grpc" else http_backend)() as received:
        said = python(
            str(HERE / "work.py"),
            str(tmp_path_factory.mktemp("package")),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{received.address}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="30",
            OTEL_SERVICE_NAME="the demo",
            **options,
        )
        yield protocol, received, json.loads(said)


def test_all_arrives_as_it_was_handed_over(sent: Sent) -> None:
    """
    Every span with its ids, times, attributes and events, and every point and bucket, arrives.
    """
    _, received, told = sent

    golden.compare(received, told)


def test_the_demo_is_the_golden_one(sent: Sent) -> None:
    """
    By every route the demo's telemetry is the golden values; `--inline-snapshot=fix` renews them.
    """
    _, received, _ = sent

    assert golden.spans(received.spans) == external_file("golden/spans.json")
    assert golden.metrics(received.metrics) == external_file("golden/metrics.json")


def test_it_says_whose_it_is(sent: Sent) -> None:
    """
    Each request is of its protocol; spans and metrics carry memtrace's scope, and whose they are.
    """
    protocol, received, _ = sent

    scope = [names.SCOPE, __version__, names.SCHEMA_URL]
    content = {"http/protobuf": "application/x-protobuf", "http/json": "application/json"}
    assert {kind for _, kind, _ in received.requests} == {content.get(protocol, protocol)}
    assert {path for path, _, _ in received.requests} == {"/v1/traces", "/v1/metrics"}
    assert all(span["scope"] == scope for span in received.spans)
    assert all(metric["scope"] == scope for metric in received.metrics.values())
    assert {m["resource"]["service.name"] for m in received.metrics.values()} == {"the demo"}
