"""`export_to`: whom it listens to, where it sends, and what it leaves as it was."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry import metrics, trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import memtrace
from memtrace import ConfigurationError, Session, checkpoint, config, export_to, managed_agent
from memtrace import export as export_module
from memtrace.endpoints import endpoint
from memtrace.export import _Relay


@managed_agent
def answer(session: Session) -> None:
    session.history.append({"role": "user", "content": "why?"})


class Received:
    """What a small OTLP backend was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.metrics: set[str] = set()

    def traces(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            attributes = resource.resource.attributes
            self.resources.append({a.key: a.value.string_value for a in attributes})
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def points(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name for metric in scope.metrics}


@pytest.fixture
def http_backend() -> Iterator[Received]:
    """A backend that takes OTLP over HTTP as protobuf."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.paths.append(self.path)
            received.headers.append({k.lower(): v for k, v in self.headers.items()})
            if self.path.endswith("traces"):
                received.traces(ExportTraceServiceRequest.FromString(body))
            else:
                received.points(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_port}"
        yield received
        server.shutdown()
        thread.join()


@pytest.fixture
def grpc_backend() -> Iterator[Received]:
    """A backend that takes OTLP traces over gRPC."""
    received = Received()

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            received.headers.append(dict(context.invocation_metadata()))
            received.traces(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    received.url = f"grpc://127.0.0.1:{port}"
    yield received
    server.stop(None).wait()


# --- sending --------------------------------------------------------------------------------------


def test_http_delivers_spans_and_metrics(
    http_backend: Received, caplog: pytest.LogCaptureFixture
) -> None:
    """
    At the end of the block a backend that listens has every span and metric, and nothing is said.
    """
    with export_to(http_backend.url, service_name="support", headers={"X-Key": "k"}):
        answer(Session("s"))

    assert [span.name for span in http_backend.spans] == ["invoke_agent answer"]
    assert {"gen_ai.invoke_agent.duration", "memtrace.layer.added"} <= http_backend.metrics
    assert http_backend.resources[0]["service.name"] == "support"
    assert {h["x-key"] for h in http_backend.headers} == {"k"}
    assert sorted(http_backend.paths) == ["/v1/metrics", "/v1/traces"]
    assert not caplog.records


def test_grpc_delivers_spans(grpc_backend: Received) -> None:
    """
    A grpc:// URL is spoken to by gRPC, headers included.
    """
    with export_to(grpc_backend.url, metrics=False, headers={"X-Key": "k"}):
        answer(Session("s"))

    assert [span.name for span in grpc_backend.spans] == ["invoke_agent answer"]
    assert grpc_backend.headers[0]["x-key"] == "k"


def test_otlp_reads_the_environment(
    http_backend: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    "otlp" goes where OTEL_EXPORTER_OTLP_ENDPOINT says, under OTEL_SERVICE_NAME.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", http_backend.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from the environment")
    with export_to("otlp", metrics=False):
        answer(Session("s"))

    assert [span.name for span in http_backend.spans] == ["invoke_agent answer"]
    assert http_backend.resources[0]["service.name"] == "from the environment"


async def test_async_with_delivers_too(http_backend: Received) -> None:
    """
    `async with` does the same.
    """
    async with export_to(http_backend.url, metrics=False):
        answer(Session("s"))

    assert [span.name for span in http_backend.spans] == ["invoke_agent answer"]


@pytest.mark.parametrize(
    ("target", "environment", "protocol", "url"),
    [
        ("http://h:4318", {}, "http/protobuf", "http://h:4318/v1/metrics"),
        ("https://h/otlp/", {}, "http/protobuf", "https://h/otlp/v1/metrics"),
        ("http://h:1/v1/traces?k=v", {}, "http/protobuf", "http://h:1/v1/metrics?k=v"),
        ("http://h:4317", {}, "grpc", "http://h:4317"),
        ("grpcs://h:443", {}, "grpc", "https://h:443"),
        ("http://h:1", {"PROTOCOL": "grpc"}, "grpc", "http://h:1"),
        (
            "http://h:4317",
            {"PROTOCOL": "http/protobuf"},
            "http/protobuf",
            "http://h:4317/v1/metrics",
        ),
        ("otlp", {}, "http/protobuf", None),
        ("otlp", {"PROTOCOL": "http/protobuf", "METRICS_PROTOCOL": "grpc"}, "grpc", None),
    ],
)
def test_a_target_means_a_protocol_and_an_address(
    target: str,
    environment: dict[str, str],
    protocol: str,
    url: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A URL is a base address, as OTLP has it; the environment chooses the protocol.
    """
    for name, value in environment.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)

    assert endpoint(target, "metrics")[:2] == (protocol, url)


def test_an_address_is_told_without_its_secrets() -> None:
    """
    User, password and query of a URL are in no message.
    """
    label = endpoint("https://user:pass@host:4318/otlp?key=secret", "traces").label

    assert label == "https://host:4318/otlp"


# --- bad calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["", "jaeger", "localhost:4318", "ftp://h", "http://", "http://h:x"]
)
def test_an_unknown_target_says_what_works(target: str) -> None:
    """
    A target that means nothing is refused where it is written, with what would work.
    """
    with pytest.raises(ConfigurationError, match=r"'console', 'otlp' .*http://localhost:4318"):
        export_to(target)


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan"), "5"])
def test_a_bad_timeout_is_refused(timeout_s: Any) -> None:
    """
    The block's end takes a positive, finite number of seconds.
    """
    with pytest.raises(ConfigurationError, match="timeout_s must be seconds above 0"):
        export_to("console", timeout_s=timeout_s)


def test_a_block_is_entered_once() -> None:
    """
    A second use of the same object is refused.
    """
    block = export_to("console", file=io.StringIO())
    with block:
        pass

    with pytest.raises(ConfigurationError, match="make a new one"), block:
        pass


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without OTLP's packages the error is the command that installs them.
    """
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ConfigurationError, match=r'pip install "memtrace-otel\[otlp\]"'):
        export_to("http://localhost:4318").__enter__()


def test_an_unknown_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An environment that asks for a protocol that there is not is refused, naming the variable.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/xml")

    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'http/xml'"):
        export_to("otlp")


# --- whom it listens to, what it leaves -----------------------------------------------------------


def test_nothing_global_is_set() -> None:
    """
    Where the application has no provider, the global ones stay unset, and settings come back.
    """
    before = config.current
    with export_to("http://127.0.0.1:9", timeout_s=0.5), export_to("console", file=io.StringIO()):
        assert config.current.tracer_provider is not None
        assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        assert not hasattr(metrics.get_meter_provider(), "shutdown")

    assert config.current == before


def test_the_applications_provider_is_kept() -> None:
    """
    An application's own provider keeps its spans, memtrace's and all others, and shows them to us.
    """
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    out = io.StringIO()
    before = memtrace.configure(tracer_provider=provider)
    try:
        with export_to("console", file=out), checkpoint(Session(), "mine"):
            provider.get_tracer("framework").start_span("theirs").end()
    finally:
        memtrace.configure(tracer_provider=before.tracer_provider)

    assert [span.name for span in kept.get_finished_spans()] == [
        "theirs",
        "memtrace.checkpoint mine",
    ]
    assert "└─ theirs" in out.getvalue()


def test_a_global_provider_is_listened_to() -> None:
    """
    The same with a provider that was set globally, in a process of its own.
    """
    program = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import memtrace
trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
with memtrace.export_to("console", file=sys.stdout), memtrace.checkpoint(memtrace.Session(), "a"):
    trace.get_tracer("framework").start_span("theirs").end()
assert memtrace.config.current.tracer_provider is None
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "└─ theirs" in done.stdout


def test_blocks_leave_one_processor_behind() -> None:
    """
    However often it is used, an application's provider has one processor of ours, which sleeps.
    """
    provider = TracerProvider(shutdown_on_exit=False)
    before = memtrace.configure(tracer_provider=provider)
    try:
        for _ in range(20):
            with export_to("console", file=io.StringIO()):
                pass
    finally:
        memtrace.configure(tracer_provider=before.tracer_provider)

    processors = provider._active_span_processor._span_processors
    assert [type(p) for p in processors] == [_Relay]
    assert processors[0]._targets == ()


def test_blocks_nest_and_may_end_in_any_order() -> None:
    """
    Two blocks at once both see what happens while they run, whichever of them ends first.
    """
    first, second = io.StringIO(), io.StringIO()
    before = config.current
    outer = export_to("console", file=first).__enter__()
    inner = export_to("console", file=second).__enter__()
    with checkpoint(Session(), "both"):
        pass
    outer.__exit__(None, None, None)
    with checkpoint(Session(), "second"):
        pass
    inner.__exit__(None, None, None)

    assert ("both" in first.getvalue(), "checkpoint second" in first.getvalue()) == (True, False)
    assert ("both" in second.getvalue(), "checkpoint second" in second.getvalue()) == (True, True)
    assert config.current == before


def test_a_block_passes_the_callers_error_on() -> None:
    """
    What the block raises comes out as the same object, after the tree was printed.
    """
    error = KeyError("mine")
    out = io.StringIO()
    with (
        pytest.raises(KeyError) as caught,
        export_to("console", file=out),
        checkpoint(Session(), "a"),
    ):
        raise error

    assert caught.value is error
    assert "ERROR KeyError" in out.getvalue()


def test_a_disabled_sdk_is_respected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    With OTEL_SDK_DISABLED=true nothing is set up, and that is said once.
    """
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    export_module._tell_disabled.cache_clear()
    out = io.StringIO()
    for _ in range(2):
        with export_to("console", file=out), export_to("otlp"):
            answer(Session())

    assert out.getvalue() == ""
    assert [record.getMessage() for record in caplog.records] == [
        "memtrace: OTEL_SDK_DISABLED is true, so export_to does nothing"
    ]


def test_the_console_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Without a file the tree goes to standard error, and standard output stays the program's.
    """
    with export_to("console"):
        answer(Session())

    captured = capsys.readouterr()
    assert "invoke_agent answer" in captured.err
    assert captured.out == ""


def test_importing_memtrace_brings_no_sdk() -> None:
    """
    The SDK and the exporters are loaded when `export_to` is used, and not before.
    """
    program = """
import sys, memtrace
assert not [m for m in sys.modules if m.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
with memtrace.export_to("console"):
    pass
assert not [m for m in sys.modules if m.startswith("opentelemetry.exporter")]
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr


def test_log_records_of_other_exporters_pass(caplog: pytest.LogCaptureFixture) -> None:
    """
    An exporter that the application set up logs as before; only ours is kept quiet.
    """
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with export_to("http://127.0.0.1:9", timeout_s=0.5):
        logger.error("from the application's own")

    assert "from the application's own" in caplog.text
