"""A backend that takes OTLP by HTTP (protobuf and JSON) and by gRPC, and keeps plain values."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1 import (
    metrics_service_pb2,
    metrics_service_pb2_grpc,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

REQUESTS: dict[str, Any] = {
    "/v1/traces": trace_service_pb2.ExportTraceServiceRequest,
    "/v1/metrics": metrics_service_pb2.ExportMetricsServiceRequest,
}
PATIENCE_S = 60.0
"""What has not come by then does not come."""


def until(what: Callable[[], Any], patience_s: float = PATIENCE_S, every_s: float = 0.02) -> Any:
    """What a function gives once that is true; it is asked again and again."""
    end = time.monotonic() + patience_s
    while not (found := what()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not true within {patience_s:.0f} s")
        time.sleep(every_s)
    return found


@dataclass
class Received:
    """What a backend was sent.

    Args:
        spans: Each as plain values, in the order of arrival.
        metrics: Latest state by name; unit, kind and points.
        requests: Path (for gRPC the signal's HTTP path), content type and headers of each.
        exemplars: How many points had one.
        port: Where it listens.
    """

    spans: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    exemplars: int = 0
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def headers(self) -> list[dict[str, str]]:
        return [headers for _, _, headers in self.requests]

    def take(self, path: str, content_type: str, headers: dict[str, str], request: Any) -> None:
        """One request, already parsed."""
        self.requests.append((path, content_type, headers))
        if path.endswith("/v1/traces"):
            self.spans += spans_of(request)
        else:
            self.metrics.update(metrics_of(request))
            self.exemplars += str(request).count("exemplars {")


# --- by HTTP --------------------------------------------------------------------------------------


def parse(path: str, content_type: str, body: bytes) -> Any:
    """A request's body as a message of OTLP's; any address that ends as OTLP says will do."""
    request = next(kind for end, kind in REQUESTS.items() if path.endswith(end))
    if content_type == "application/x-protobuf":
        return request.FromString(body)
    assert content_type == "application/json", content_type
    return Parse(json.dumps(_with_base64_ids(json.loads(body))), request())


def _with_base64_ids(value: Any) -> Any:
    """OTLP writes ids in hexadecimal where protobuf's own JSON has base64."""
    if isinstance(value, list):
        return [_with_base64_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(each)).decode()
        if key in ("traceId", "spanId", "parentSpanId")
        else _with_base64_ids(each)
        for key, each in value.items()
    }


def _uncompressed(body: bytes, encoding: str) -> bytes:
    return {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}[encoding](body)


@contextmanager
def http_backend() -> Iterator[Received]:
    """One that takes protobuf and JSON by HTTP."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            body = _uncompressed(body, headers.get("content-encoding", ""))
            kind = headers["content-type"]
            received.take(self.path, kind, headers, parse(self.path, kind, body))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Handler) as port:
        received.port = port
        yield received


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serve HTTP by a handler, each request on a thread; the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True  # a connection that is kept open ends no test
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


# --- by gRPC --------------------------------------------------------------------------------------


@contextmanager
def grpc_backend() -> Iterator[Received]:
    """One that takes both signals by gRPC."""
    received = Received()

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            received.take("/v1/traces", "grpc", dict(context.invocation_metadata()), request)
            return trace_service_pb2.ExportTraceServiceResponse()

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            received.take("/v1/metrics", "grpc", dict(context.invocation_metadata()), request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    received.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield received
    finally:
        server.stop(None).wait()


# --- as plain values ------------------------------------------------------------------------------


def value_of(value: Any) -> Any:
    """An attribute's value."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


def attributes_of(attributes: Any) -> dict[str, Any]:
    """Attributes, in order of their names."""
    return {a.key: value_of(a.value) for a in sorted(attributes, key=lambda a: a.key)}


def spans_of(request: Any) -> list[dict[str, Any]]:
    """Every span of a request."""
    return [
        {
            "name": span.name,
            "kind": span.kind,
            "trace_id": span.trace_id.hex(),
            "span_id": span.span_id.hex(),
            "parent_id": span.parent_span_id.hex(),
            "start_ns": span.start_time_unix_nano,
            "end_ns": span.end_time_unix_nano,
            "status": span.status.code,
            "message": span.status.message,
            "attributes": attributes_of(span.attributes),
            "events": [
                {
                    "name": event.name,
                    "time_ns": event.time_unix_nano,
                    "attributes": attributes_of(event.attributes),
                }
                for event in span.events
            ],
            "scope": [scope.scope.name, scope.scope.version, scope.schema_url],
            "resource": attributes_of(resource.resource.attributes),
        }
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def metrics_of(request: Any) -> dict[str, dict[str, Any]]:
    """Every metric of a request by name."""
    return {
        metric.name: {
            "unit": metric.unit,
            "description": metric.description,
            **_data_of(metric),
            "scope": [scope.scope.name, scope.scope.version, scope.schema_url],
            "resource": attributes_of(resource.resource.attributes),
        }
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def _data_of(metric: Any) -> dict[str, Any]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return {"kind": "", "monotonic": None, "temporality": 0, "points": []}
    data = getattr(metric, kind)
    points = sorted((_point_of(point) for point in data.data_points), key=lambda p: str(p))
    return {
        "kind": kind,
        "monotonic": getattr(data, "is_monotonic", None),
        "temporality": data.aggregation_temporality,
        "points": points,
    }


def _point_of(point: Any) -> dict[str, Any]:
    attributes = attributes_of(point.attributes)
    if hasattr(point, "scale"):  # of an exponential histogram
        return {"attributes": attributes, "count": point.count, "sum": point.sum}
    if not hasattr(point, "bucket_counts"):
        number = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
        return {"attributes": attributes, "value": number}
    return {
        "attributes": attributes,
        "count": point.count,
        "sum": point.sum,
        "bounds": list(point.explicit_bounds),
        "buckets": list(point.bucket_counts),
    }
