"""A backend that does nothing, and no way out to the network."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import Status, StatusCode


class Ended(NamedTuple):
    """A span, a trace or a run of a peer's that has ended.

    Args:
        name: Its name.
        failed: Whether it says that what it was about failed.
    """

    name: str
    failed: bool


class DoNothing(SpanExporter):
    """An exporter that takes every span and does nothing with it."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


class Recorder(SpanProcessor):
    """Notes each span that ends."""

    def __init__(self, ended: list[Ended]) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        status: Status = span.status
        self._ended.append(Ended(span.name, status.status_code is StatusCode.ERROR))


def processors(ended: list[Ended] | None) -> list[SpanProcessor]:
    """What a provider is given: spans go nowhere, and are noted where that is asked for."""
    if ended is None:
        return [SimpleSpanProcessor(DoNothing())]
    return [Recorder(ended)]


def provider(mode: str, ended: list[Ended] | None = None) -> TracerProvider:
    """An SDK provider whose spans go nowhere; in the mode ``unsampled`` it samples none."""
    sampler = ALWAYS_OFF if mode == "unsampled" else ALWAYS_ON
    made = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    for processor in processors(ended):
        made.add_span_processor(processor)
    return made


def block_network() -> None:
    """Let no socket of this process connect, and no name be looked up."""

    def refuse(*_args: Any, **_options: Any) -> Any:
        raise OSError("the network is blocked here")

    socket.socket.connect = refuse  # type: ignore[method-assign,assignment]
    socket.socket.connect_ex = refuse  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = refuse
    socket.create_connection = refuse
