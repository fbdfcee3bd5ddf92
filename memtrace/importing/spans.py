"""Spans out of traces: OTLP as JSON or protobuf, and Jaeger's JSON, as plain values."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from .sources import Source

_RESOURCES = ("resourceSpans", "resource_spans", "batches", "resourceLogs", "resource_logs")
_SCOPES = (
    "scopeSpans",
    "scope_spans",
    "instrumentationLibrarySpans",
    "scopeLogs",
    "scope_logs",
)


class Span(NamedTuple):
    """A span, or a log record that belongs to one.

    Args:
        trace: Its trace's id.
        id: Its own.
        start: Nanoseconds since the epoch.
        attributes: By name; values as plain data.
        events: Name and attributes of each, in order.
        record: It is a log record: it has one event, and ``id`` is of the span that it is of.
    """

    trace: str
    id: str
    start: int
    attributes: Mapping[str, Any]
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    record: bool = False


def is_trace(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object holds spans in a form that is known here."""
    inner = value.get("trace")
    if isinstance(inner, Mapping) and is_trace(inner):
        return True
    return any(isinstance(value.get(key), list) for key in _RESOURCES) or _is_jaeger(value)


def _is_jaeger(value: Mapping[str, Any]) -> bool:
    data = value.get("data")
    if isinstance(data, list):
        return bool(data) and isinstance(data[0], Mapping) and "spans" in data[0]
    return "traceID" in value and isinstance(value.get("spans"), list)


def spans(source: Source) -> Iterator[Span]:
    """All spans of a file, in the order of the file.

    Raises:
        ConfigurationError: It is protobuf, and not what OTLP has; or there is nothing to read it
            with.
    """
    if source.binary:
        yield from _otlp(_protobuf(source))
        return
    for _, value in source:
        yield from _of(value)


def _of(value: Mapping[str, Any]) -> Iterator[Span]:
    inner = value.get("trace")
    if isinstance(inner, Mapping) and is_trace(inner):
        value = inner
    if _is_jaeger(value):
        data = value["data"] if isinstance(value.get("data"), list) else [value]
        for trace in _mappings(data):
            for span in _mappings(trace.get("spans")):
                yield _jaeger(span)
    else:
        yield from _otlp(value)


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    return (v for v in value if isinstance(v, Mapping)) if isinstance(value, list) else iter(())


# --- OTLP -----------------------------------------------------------------------------------------


def _protobuf(source: Source) -> dict[str, Any]:
    try:
        from google.protobuf.json_format import MessageToDict
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )
    except ImportError as error:
        raise ConfigurationError(
            f"{source.path} is no text: to read OTLP in protobuf, pip install 'memtrace-otel[otlp]'"
        ) from error
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(source.whole())
    except DecodeError:
        request.Clear()
    if not request.resource_spans:
        raise ConfigurationError(
            f"{source.path}: neither text nor an OTLP export of traces in protobuf, by its bytes"
        )
    value: dict[str, Any] = MessageToDict(request)
    return value


def _otlp(value: Mapping[str, Any]) -> Iterator[Span]:
    for resource in (r for key in _RESOURCES for r in _mappings(value.get(key))):
        for scope in (s for key in _SCOPES for s in _mappings(resource.get(key))):
            for span in _mappings(scope.get("spans")):
                yield _span(span)
            for record in _mappings(scope.get("logRecords", scope.get("log_records"))):
                yield _log_record(record)


def _span(span: Mapping[str, Any]) -> Span:
    events = [
        (str(event.get("name")), _attributes(event.get("attributes")))
        for event in _mappings(span.get("events"))
    ]
    return Span(
        _hex(_either(span, "traceId", "trace_id")),
        _hex(_either(span, "spanId", "span_id")),
        _number(_either(span, "startTimeUnixNano", "start_time_unix_nano")),
        _attributes(span.get("attributes")),
        events,
    )


def _log_record(record: Mapping[str, Any]) -> Span:
    attributes = _attributes(record.get("attributes"))
    name = _either(record, "eventName", "event_name") or attributes.get("event.name")
    body = _plain(record.get("body"))
    return Span(
        _hex(_either(record, "traceId", "trace_id")),
        _hex(_either(record, "spanId", "span_id")),
        _number(_either(record, "timeUnixNano", "time_unix_nano")),
        {},
        [(str(name), {**attributes, **(body if isinstance(body, Mapping) else {})})],
        record=True,
    )


def _either(value: Mapping[str, Any], *names: str) -> Any:
    return next((value[name] for name in names if name in value), None)


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _hex(value: Any) -> str:
    """An id in hex: protobuf's own JSON form has base64 instead, which is shorter."""
    text = str(value or "")
    if len(text) in (24, 12):  # 16 or 8 bytes in base64
        try:
            return base64.b64decode(text, validate=True).hex()
        except (binascii.Error, ValueError):
            return text
    return text


def _attributes(value: Any) -> dict[str, Any]:
    return {str(pair.get("key")): _plain(pair.get("value")) for pair in _mappings(value)}


def _plain(value: Any) -> Any:
    """An OTLP value as plain data."""
    if not isinstance(value, Mapping):
        return value
    for kind, held in value.items():
        if kind in ("stringValue", "string_value", "boolValue", "doubleValue", "bytesValue"):
            return held
        if kind in ("intValue", "int_value"):
            return _number(held)
        if kind in ("arrayValue", "array_value") and isinstance(held, Mapping):
            return [_plain(v) for v in held.get("values") or ()]
        if kind in ("kvlistValue", "kvlist_value") and isinstance(held, Mapping):
            return _attributes(held.get("values"))
    return None


# --- Jaeger ---------------------------------------------------------------------------------------


def _jaeger(span: Mapping[str, Any]) -> Span:
    events = []
    for log in _mappings(span.get("logs")):
        fields = {str(f.get("key")): f.get("value") for f in _mappings(log.get("fields"))}
        events.append((str(fields.pop("event", "")), fields))
    tags = {str(tag.get("key")): tag.get("value") for tag in _mappings(span.get("tags"))}
    return Span(
        str(span.get("traceID")),
        str(span.get("spanID")),
        _number(span.get("startTime")) * 1_000,
        tags,
        events,
    )
