"""A backend in trouble: nobody waits for it, and what it loses is counted and said once."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from otlp import parse, serving, spans_of, until

from memtrace import Session, export_to, managed_agent

DEADLINE_S = 5.0
"""What the README promises of the end of a block, whatever the backend does."""

QUEUE = 2048
"""Spans that OpenTelemetry's batch processor holds unless told otherwise."""


@managed_agent
def answer(session: Session) -> None:
    session.history.append({"role": "user", "content": "why?"})


class Trouble:
    """How a backend answers, and what it was sent.

    Args:
        answers: Status and headers of each answer in turn; the last one stays.
        held: It answers nothing until :meth:`release`.
    """

    def __init__(self, *answers: tuple[Any, dict[str, str]], held: bool = False) -> None:
        self.answers = list(answers)
        self.requests: list[str] = []
        self.spans = 0
        self.url = ""
        self._free = threading.Event()
        if not held:
            self.release()

    def release(self) -> None:
        self._free.set()

    def asked(self, signal: str, spans: int) -> tuple[Any, dict[str, str]]:
        """The answer to a request."""
        self.requests.append(signal)
        self._free.wait(60)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer[0] in (200, grpc.StatusCode.OK):
            self.spans += spans
        return answer


@contextmanager
def by_http(trouble: Trouble) -> Iterator[Trouble]:
    """A backend by HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = parse(self.path, self.headers["content-type"], body)
            traces = self.path.endswith("traces")
            status, headers = trouble.asked(self.path, len(spans_of(request)) if traces else 0)
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
            except OSError:  # who asked has gone
                pass

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Handler) as port:
        trouble.url = f"http://127.0.0.1:{port}"
        try:
            yield trouble
        finally:
            trouble.release()


@contextmanager
def by_grpc(trouble: Trouble) -> Iterator[Trouble]:
    """The same by gRPC."""

    class Backend(
        trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer
    ):
        def Export(self, request: Any, context: Any) -> Any:
            traces = hasattr(request, "resource_spans")
            spans = len(spans_of(request)) if traces else 0
            status, headers = trouble.asked("/v1/traces" if traces else "/v1/metrics", spans)
            if status is not grpc.StatusCode.OK:
                context.set_trailing_metadata(tuple(headers.items()))
                context.abort(status, "in trouble")
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Backend(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Backend(), server)
    trouble.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield trouble
    finally:
        trouble.release()
        server.stop(None).wait()


Backend = Callable[[Trouble], Any]
UNAVAILABLE: Any = grpc.StatusCode.UNAVAILABLE
REFUSED: Any = grpc.StatusCode.INVALID_ARGUMENT
AN_HOUR = {"retry-after": "3600"}
HTTP_AND_GRPC = [
    pytest.param(by_http, (200, {}), id="http"),
    pytest.param(by_grpc, (grpc.StatusCode.OK, {}), id="grpc"),
]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said, by anybody."""
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def lost(line: str) -> tuple[int, int]:
    """Spans that a line says were lost, and of how many."""
    found = re.search(r"([\d,]+) of ([\d,]+) spans", line)
    assert found, line
    some, of = (int(number.replace(",", "")) for number in found.groups())
    return some, of


# --- what a backend says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "said", "reason"),
    [
        pytest.param(by_http, (503, AN_HOUR), "", id="503 with Retry-After"),
        pytest.param(by_http, (503, {}), "Service Unavailable", id="503"),
        pytest.param(by_http, (429, AN_HOUR), "", id="429 with Retry-After"),
        pytest.param(by_http, (400, {}), "400", id="400"),
        pytest.param(by_http, (401, {}), "401", id="401"),
        pytest.param(by_http, (404, {}), "404", id="404"),
        pytest.param(by_grpc, (UNAVAILABLE, {}), "UNAVAILABLE", id="UNAVAILABLE"),
        pytest.param(by_grpc, (REFUSED, {}), "INVALID_ARGUMENT", id="INVALID_ARGUMENT"),
    ],
)
def test_what_a_backend_turns_away_is_said_once(
    backend: Backend, said: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Whatever a backend says, the block ends in time, and one line says what was lost and why.
    """
    session = Session("s")
    with backend(Trouble(said)) as trouble, export_to(trouble.url):
        for _ in range(3):
            answer(session)
        started = time.monotonic()
    assert time.monotonic() - started < DEADLINE_S

    (line,) = warnings(caplog)
    assert line.startswith("memtrace: 3 of 3 spans and the last metrics did not reach ")
    assert reason in line


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        pytest.param(by_http, (400, {}), id="400"),
        pytest.param(by_grpc, (REFUSED, {}), id="INVALID_ARGUMENT"),
    ],
)
def test_what_is_turned_away_for_good_is_sent_once(backend: Backend, said: Any) -> None:
    """
    A batch that a backend will never take is not sent again.
    """
    with backend(Trouble(said)) as trouble, export_to(trouble.url):
        answer(Session("s"))

    assert sorted(trouble.requests) == ["/v1/metrics", "/v1/traces"]


def test_a_backend_that_recovers_gets_all(caplog: pytest.LogCaptureFixture) -> None:
    """
    After a 503 with a Retry-After of no time the batch arrives, and nothing is said.
    """
    busy, well = (503, {"retry-after": "0"}), (200, {})
    with by_http(Trouble(busy, busy, well)) as trouble, export_to(trouble.url, metrics=False):
        answer(Session("s"))

    assert (trouble.spans, len(trouble.requests)) == (1, 3)
    assert warnings(caplog) == []


# --- how long it takes --------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "well"), HTTP_AND_GRPC)
def test_the_application_does_not_wait_for_a_slow_backend(
    backend: Backend, well: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    While a backend holds back its answer the application makes three queues full of runs; those
    that there was no place for are counted exactly, and the others arrive once it answers.
    """
    queue, batch = 256, 32
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", str(queue))
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(batch))
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    session = Session("s")
    with backend(Trouble(well, held=True)) as trouble:
        with export_to(trouble.url, metrics=False, timeout_s=60):
            answer(session)
            until(lambda: trouble.requests)  # it has the first batch, and does not answer
            for _ in range(3 * queue):
                answer(session)
            trouble.release()  # had one of them waited for an answer, this were never reached
        first, last = warnings(caplog)

    assert "the queue is full" in first
    assert lost(last) == (3 * queue + 1 - trouble.spans, 3 * queue + 1)
    assert queue <= trouble.spans <= queue + batch


@pytest.mark.parametrize(("backend", "well"), HTTP_AND_GRPC)
def test_a_backend_that_answers_too_late(
    backend: Backend, well: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """
    With a full queue before a backend that does not answer the block ends in time all the same.
    """
    session = Session("s")
    with backend(Trouble(well, held=True)) as trouble, export_to(trouble.url):
        for _ in range(2 * QUEUE):
            answer(session)
        started = time.monotonic()
    assert time.monotonic() - started < DEADLINE_S

    assert lost(warnings(caplog)[-1]) == (2 * QUEUE, 2 * QUEUE)
    assert len([line for line in warnings(caplog) if "spans" in line]) == 1


def test_runs_on_many_threads_do_not_wait_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Eight threads at once end all their runs while a backend holds back its answer.
    """
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")

    def many() -> None:
        session = Session()
        for _ in range(QUEUE // 4):
            answer(session)

    with by_http(Trouble((200, {}), held=True)) as trouble, export_to(trouble.url, timeout_s=0.5):
        answer(Session())
        until(lambda: trouble.requests)
        threads = [threading.Thread(target=many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        ended = not any(thread.is_alive() for thread in threads)

    assert ended


def test_metrics_are_collected_while_none_arrive(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Metrics that a backend turned away are in the next export: sums go on from the beginning.
    """
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    session = Session("s")
    with by_http(Trouble((400, {}))) as trouble, export_to(trouble.url):
        for _ in range(3):
            answer(session)
            seen = len(trouble.requests)
            until(lambda seen=seen: len(trouble.requests) > seen)
        trouble.answers = [(200, {})]
    told = warnings(caplog)

    assert len(told) == 1
    assert told[0].startswith("memtrace: telemetry does not reach ")
    assert trouble.spans == 3
