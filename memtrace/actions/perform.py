"""What every action shares: it is measured before and after, reported, traced and told to hooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns, time_ns
from typing import Any

from opentelemetry.trace import get_current_span

from ..hooks import schedule
from ..memory import Memory, current_run
from ..telemetry import metrics, names, spans
from ..values import ActionReport, Event, Outcome, Stage

Tell = Callable[[list[Awaitable[None]]], None]
"""Takes what async hooks still have to do."""


@dataclass(slots=True)
class Result:
    """What an action says it did; the rest is measured.

    Args:
        items: How many items it removed, replaced or moved.
        reached: Whether its target is reached.
        reason: Why it ran, or why it fell short.
        attributes: For its span.
        declined: It judged that it does not pay.
    """

    items: int = 0
    reached: bool = True
    reason: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    declined: bool = False


def perform(
    memory: Memory,
    action: str,
    stage: Stage,
    work: Callable[[], Result],
    *,
    span_name: str | None = None,
    tell: Tell = schedule,
    hooked: bool = True,
    sweeps: bool = False,
) -> ActionReport:
    """Run an action's work, measure again, and report it. Never raises what the work raised.

    An action that finds nothing to do makes no span and no event. Measuring drops what has
    expired of the cache; for one that `sweeps` this is its own work, so it is counted as found.
    """
    started_ns, clock = time_ns(), perf_counter_ns()
    before = sum(memory.read_tokens() if sweeps else memory.measure())
    error: Exception | None = None
    try:
        result = work()
    except Exception as raised:
        error, result = raised, Result(reason=f"{type(raised).__name__}: {raised}", reached=False)
    after = sum(memory.measure())
    duration_ns = perf_counter_ns() - clock
    outcome = _outcome(result, error, after < before)
    report = ActionReport(
        action, outcome, before, after, result.items, duration_ns / 1e9, result.reason
    )
    if outcome != "no_op":
        _trace(memory, report, result, span_name, (started_ns, started_ns + duration_ns), error)
        with memory.lock:
            memory.record.reported(report)
        if hooked and memory.hooks.of(stage):
            session: Any = memory
            event = Event(stage, session, memory.profile(), report, agent=running_agent())
            pending = memory.hooks.emit(event)
            if pending:
                tell(pending)
    if error is not None:
        spans.failure(action, error)
    return report


def _outcome(result: Result, error: Exception | None, fewer: bool) -> Outcome:
    if error is not None:
        return "failed"
    if result.declined:
        return "declined"
    if not result.reached:
        return "ineffective"
    return "effective" if fewer or result.items else "no_op"


def running_agent() -> str | None:
    """Name of the agent whose run this is, if any."""
    run = current_run()
    return run.agent if run is not None else None


def _trace(
    memory: Memory,
    report: ActionReport,
    result: Result,
    span_name: str | None,
    times_ns: tuple[int, int],
    error: Exception | None,
) -> None:
    attributes: dict[str, Any] = {names.ACTION_OUTCOME: report.outcome, **result.attributes}
    if report.action != "snapshot":
        attributes[names.ACTION_ITEMS] = report.items
        attributes[names.ACTION_TOKENS_BEFORE] = report.tokens_before
        attributes[names.ACTION_TOKENS_AFTER] = report.tokens_after
        attributes[names.ACTION_REASON] = report.reason
    attributes[names.CONVERSATION_ID] = memory.id
    span = spans.start(span_name or names.SPAN_ACTIONS[report.action], attributes, times_ns[0])
    if error is not None and span.is_recording():
        spans.record_error(span, error)
    metrics.record(
        names.METRIC_OPERATION_DURATION,
        report.duration_s,
        _operation(report.action, error),
        span.get_span_context() if span.is_recording() else None,
    )
    span.end(times_ns[1])


def _operation(action: str, error: Exception | None) -> dict[str, Any]:
    attributes = {names.OPERATION: action}
    if error is not None:
        attributes[names.ERROR_TYPE] = spans.error_type(error)
    return attributes


def tell_event(name: str, attributes: Mapping[str, Any]) -> None:
    """Put an event on the span that is current: the run's or the checkpoint's."""
    span = get_current_span()
    if span.is_recording():
        spans.event(span, name, attributes)


def counted(name: str, value: float, **attributes: str) -> None:
    """Add to a counter, under the current agent's name."""
    series = {key: text for key, text in attributes.items() if text}
    pairs = [(_ATTRIBUTES[key], text) for key, text in series.items()]
    agent = running_agent()
    if agent is not None:
        pairs.append((names.AGENT_NAME, agent))
    metrics.count(name, value, tuple(sorted(pairs)))


_ATTRIBUTES = {
    "reason": names.CLEANUP_REASON,
    "strategy": names.COMPRESSION_STRATEGY,
    "decision": names.ACTION_DECISION,
}
