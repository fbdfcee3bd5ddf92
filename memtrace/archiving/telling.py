"""What is told of a session that was put away: a span, a metric's point, hooks."""

from __future__ import annotations

from time import time_ns
from typing import Any

from ..hooks import schedule
from ..memory import Memory
from ..telemetry import metrics, names, spans
from ..values import ActionReport, Event, MemoryProfile, Outcome


def told(
    session: str,
    started_ns: int,
    tokens: tuple[int, int],
    items: int,
    reason: str,
    outcome: Outcome,
    error: Exception | None = None,
) -> ActionReport:
    """The report of one session, after a span for it; where nothing was done there is none.

    Args:
        session: Its id.
        started_ns: When it began: nanoseconds since the epoch.
        tokens: Held in memory, or by its last snapshot, before and after.
        items: The same in items, before.
        reason: Why it ran, or why it fell short.
        outcome: What came of it.
        error: What it failed with.
    """
    ended_ns = max(started_ns, time_ns())
    took_s = (ended_ns - started_ns) / 1e9
    report = ActionReport("archive", outcome, *tokens, items, took_s, reason)
    if outcome == "no_op":
        return report
    span = spans.start(
        names.SPAN_ARCHIVE,
        {
            names.ACTION_OUTCOME: outcome,
            names.ACTION_ITEMS: items,
            names.ACTION_TOKENS_BEFORE: tokens[0],
            names.ACTION_TOKENS_AFTER: tokens[1],
            names.ACTION_REASON: reason,
            names.MOVED_TOKENS: tokens[0] - tokens[1],
            names.CONVERSATION_ID: session,
        },
        started_ns,
    )
    attributes: dict[str, Any] = {names.OPERATION: "archive"}
    if error is not None:
        attributes[names.ERROR_TYPE] = spans.error_type(error)
        spans.record_error(span, error)
    metrics.record(
        names.METRIC_OPERATION_DURATION,
        took_s,
        attributes,
        span.get_span_context() if span.is_recording() else None,
    )
    span.end(ended_ns)
    return report


def tell_hooks(memory: Memory, profile: MemoryProfile, report: ActionReport) -> None:
    """Have a session's hooks know, with its profile as it was: what they touch brings it back."""
    with memory.lock:
        memory.record.reported(report)
    if memory.hooks.of("archive"):
        session: Any = memory
        pending = memory.hooks.emit(Event("archive", session, profile, report))
        if pending:
            schedule(pending)
