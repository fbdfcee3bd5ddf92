"""Spans and data points as plain values, and made comparable from run to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CapturedEvent:
    """Something that happened within a span.

    Args:
        name: Its name.
        attributes: Its attributes, sequences as lists.
        time_ns: Nanoseconds since the epoch.
    """

    name: str
    attributes: dict[str, Any]
    time_ns: int


@dataclass(frozen=True, slots=True)
class CapturedSpan:
    """A span that has ended.

    Args:
        name: Its name.
        parent: Name of its parent, if that was captured too.
        kind: ``INTERNAL``, ``CLIENT`` …
        status: ``UNSET``, ``OK`` or ``ERROR``.
        message: What the status says, or None.
        attributes: Its attributes, sequences as lists.
        events: Its events in order, exceptions among them.
        scope: Name of the instrumentation that made it.
        start_ns: Nanoseconds since the epoch.
        end_ns: The same, of its end.
        span_id: 16 hexadecimal digits.
        parent_id: The same of its parent, or None.
        trace_id: 32 hexadecimal digits.
    """

    name: str
    parent: str | None
    kind: str
    status: str
    message: str | None
    attributes: dict[str, Any]
    events: tuple[CapturedEvent, ...]
    scope: str
    start_ns: int
    end_ns: int
    span_id: str
    parent_id: str | None
    trace_id: str

    @property
    def duration_s(self) -> float:
        """Seconds from its start to its end."""
        return (self.end_ns - self.start_ns) / 1e9


def captured_span(span: Any, known: Mapping[int, str]) -> CapturedSpan:
    """A span of the SDK's as plain values; ``known`` has names by span id, for its parent's."""
    context, parent = span.context, span.parent
    return CapturedSpan(
        name=span.name,
        parent=known.get(parent.span_id) if parent is not None else None,
        kind=span.kind.name,
        status=span.status.status_code.name,
        message=span.status.description,
        attributes=_plain(span.attributes),
        events=tuple(
            CapturedEvent(event.name, _plain(event.attributes), event.timestamp)
            for event in span.events
        ),
        scope=span.instrumentation_scope.name if span.instrumentation_scope is not None else "",
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        span_id=f"{context.span_id:016x}",
        parent_id=f"{parent.span_id:016x}" if parent is not None else None,
        trace_id=f"{context.trace_id:032x}",
    )


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in (attributes or {}).items()
    }


def point(given: Any) -> dict[str, Any]:
    """A metric's data point of the SDK's as plain data."""
    attributes = _plain(given.attributes)
    if not hasattr(given, "bucket_counts"):
        return {"attributes": attributes, "value": given.value}
    return {
        "attributes": attributes,
        "count": given.count,
        "sum": given.sum,
        "bounds": list(given.explicit_bounds),
        "buckets": list(given.bucket_counts),
    }


def as_dict(span: CapturedSpan, *, normalise: bool) -> dict[str, Any]:
    """A span as plain data, with its values made the same from run to run if asked."""
    tidy = _normalised if normalise else dict
    data: dict[str, Any] = {
        "name": span.name,
        "parent": span.parent,
        "kind": span.kind,
        "status": span.status,
        "message": span.message,
        "attributes": tidy(span.attributes),
        "events": [{"name": e.name, "attributes": tidy(e.attributes)} for e in span.events],
    }
    if not normalise:
        for key in ("scope", "start_ns", "end_ns", "span_id", "parent_id", "trace_id"):
            data[key] = getattr(span, key)
        for event, plain in zip(span.events, data["events"], strict=True):
            plain["time_ns"] = event.time_ns
    return data


_RANDOM_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _normalised(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _stable(key, value) for key, value in attributes.items()}


def _stable(key: str, value: Any) -> Any:
    if key.endswith((".duration", ".duration_s")):
        return "<duration>"
    if key.endswith(".stacktrace"):
        return "<stacktrace>"
    if isinstance(value, str) and _RANDOM_ID.fullmatch(value):
        return "<id>"
    return value
