"""Spans: starting them, saying on them what memory held, and ending them once."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from .. import config
from .._version import __version__
from ..values import LayerTokens
from . import metrics, names

if TYPE_CHECKING:
    from ..outlook import Forecast

logger = logging.getLogger("memtrace")

_BLIND = re.compile(
    r"(ParentBased|root|(remote|local)Parent(Not)?Sampled|Always(On|Off)Sampler"
    r"|TraceIdRatioBased|[{}:,.0-9]|e-)*"
)
"""Descriptions of the samplers that the specification defines, none of which reads attributes."""


class _Source:
    """The tracer of a configuration, and whether its sampler may want to see attributes."""

    __slots__ = ("config", "early", "provider", "start")

    def __init__(self, settings: config.Config, provider: trace.TracerProvider) -> None:
        self.provider = provider
        tracer = provider.get_tracer(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self.start = tracer.start_span
        # Until the application sets a provider this one is a proxy: look again each time.
        self.config = None if isinstance(provider, trace.ProxyTracerProvider) else settings
        # Attributes given both at the start and at the end cost a tenth of a span more than
        # those given at the end alone, so only a sampler that may read them makes that worth it.
        sampler = getattr(tracer, "sampler", None)
        describe = getattr(sampler, "get_description", str)
        self.early = sampler is not None and not _BLIND.fullmatch(describe())


_source: _Source | None = None


def source() -> _Source:
    """What starts spans under the present configuration."""
    global _source
    found = _source
    settings = config.current
    if found is None or found.config is not settings:
        provider = settings.tracer_provider or trace.get_tracer_provider()
        if found is None or found.config is not None or found.provider is not provider:
            found = _source = _Source(settings, provider)
    return found


def start(name: str, attributes: Mapping[str, AttributeValue], start_ns: int) -> Span:
    """A new span under the current one, current to nobody. For all but the hottest path.

    Args:
        start_ns: Nanoseconds since the epoch.
    """
    return source().start(name, None, attributes=attributes, start_time=start_ns)


def identity(
    attributes: Mapping[str, AttributeValue], conversation: str | None
) -> Mapping[str, AttributeValue]:
    """Who a span is about."""
    return (
        attributes if conversation is None else {**attributes, names.CONVERSATION_ID: conversation}
    )


# Bound here because a module's attribute costs a look-up, and a run makes sixteen.
_CONVERSATION_ID = names.CONVERSATION_ID
_BODY_DURATION, _BUDGET_TOKENS, _DELTA_TOKENS = (
    names.BODY_DURATION,
    names.BUDGET_TOKENS,
    names.DELTA_TOKENS,
)
_BEFORE_TOKENS, _BEFORE_UTILIZATION = names.BEFORE_TOKENS, names.BEFORE_UTILIZATION
_AFTER_TOKENS, _AFTER_UTILIZATION = names.AFTER_TOKENS, names.AFTER_UTILIZATION
(_WORKING_BEFORE, _LONG_BEFORE, _CACHE_BEFORE, _AGENTS_BEFORE, _HISTORY_BEFORE) = names.LAYER_BEFORE
(_WORKING_AFTER, _LONG_AFTER, _CACHE_AFTER, _AGENTS_AFTER, _HISTORY_AFTER) = names.LAYER_AFTER
_BLANK: dict[str, AttributeValue] = dict.fromkeys(
    (
        *(_BODY_DURATION, _BUDGET_TOKENS, _DELTA_TOKENS),
        *(_BEFORE_TOKENS, _BEFORE_UTILIZATION, _AFTER_TOKENS, _AFTER_UTILIZATION),
        *names.LAYER_BEFORE,
        *names.LAYER_AFTER,
    ),
    0,
)
"""What a run says of memory, to be filled in."""


def run_attributes(
    who: Mapping[str, AttributeValue],
    conversation: str | None,
    before: LayerTokens,
    total: int,
    after: LayerTokens,
    total_: int,
    limit: int,
    body_s: float,
) -> dict[str, AttributeValue]:
    """What a run says on its span: who it was, what memory held before and after, how long."""
    # A copy to fill in: a dict that grows to this size costs twice as much.
    attributes = _BLANK.copy()
    attributes[_BODY_DURATION] = body_s
    attributes[_BUDGET_TOKENS] = limit
    attributes[_BEFORE_TOKENS] = total
    attributes[_BEFORE_UTILIZATION] = total / limit
    attributes[_AFTER_TOKENS] = total_
    attributes[_AFTER_UTILIZATION] = total_ / limit
    attributes[_DELTA_TOKENS] = total_ - total
    (
        attributes[_WORKING_BEFORE],
        attributes[_LONG_BEFORE],
        attributes[_CACHE_BEFORE],
        attributes[_AGENTS_BEFORE],
        attributes[_HISTORY_BEFORE],
    ) = before
    (
        attributes[_WORKING_AFTER],
        attributes[_LONG_AFTER],
        attributes[_CACHE_AFTER],
        attributes[_AGENTS_AFTER],
        attributes[_HISTORY_AFTER],
    ) = after
    attributes.update(who)
    if conversation is not None:
        attributes[_CONVERSATION_ID] = conversation
    return attributes


def forecast_attributes(ahead: Forecast | None) -> dict[str, AttributeValue]:
    """What a run that leaves memory near a threshold says of the turns left."""
    if ahead is None:
        return {}
    attributes: dict[str, AttributeValue] = {names.FORECAST_TOKENS: ahead.tokens_per_turn}
    for place, left in enumerate((ahead.to_80, ahead.to_90, ahead.to_100)):
        if left.turns < inf:
            # Of one type always: a backend may refuse an attribute that changes its own.
            attributes[names.FORECAST_TURNS[place]] = float(left.turns)
            attributes[names.FORECAST_LOW[place]] = float(left.low)
            attributes[names.FORECAST_HIGH[place]] = float(left.high)
    return attributes


def error_type(error: BaseException) -> str:
    """An exception's type as the conventions want it: qualified, unless it is a builtin."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def record_error(span: Span, error: BaseException) -> None:
    """Put an exception and the status that follows from it on a span."""
    try:
        text = str(error)
    except Exception:
        text = "(its text could not be read)"
    span.set_attribute(names.ERROR_TYPE, error_type(error))
    span.set_status(Status(StatusCode.ERROR, text or None))
    try:
        span.record_exception(error)
    except Exception:
        span.add_event(
            "exception", {"exception.type": error_type(error), "exception.message": text}
        )


def event(span: Span, name: str, attributes: Mapping[str, AttributeValue]) -> None:
    """Tell of something that happened: an event on the span it belongs to, or a log record."""
    if config.current.log_events:
        _log_event(span, name, attributes)
    else:
        span.add_event(name, attributes)


def _log_event(span: Span, name: str, attributes: Mapping[str, Any]) -> None:
    from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

    get_logger(names.SCOPE, __version__, schema_url=names.SCHEMA_URL).emit(
        LogRecord(
            context=trace.set_span_in_context(span),
            severity_number=SeverityNumber.INFO,
            event_name=name,
            attributes=dict(attributes),
        )
    )


_told: set[str] = set()


def failure(component: str, error: BaseException) -> None:
    """One of memtrace's own failures: raised where strict, else logged, counted, and on the span.

    The first failure of a component is logged with its traceback, later ones in one line.
    """
    if config.current.strict:
        raise error
    logger.error(
        "memtrace failed in %s and goes on without it: %s: %s",
        component,
        type(error).__name__,
        error,
        exc_info=error if component not in _told else None,
    )
    _told.add(component)
    metrics.count(names.METRIC_FAILURES, 1, ((names.COMPONENT, component),))
    span = trace.get_current_span()
    if span.is_recording():
        span.add_event(
            names.EVENT_FAILURE, {names.COMPONENT: component, names.ERROR_TYPE: error_type(error)}
        )
