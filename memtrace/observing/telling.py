"""How an observed call is told: on the span of the model call, or on one of memtrace's own.

The conventions' span of a model call (``chat {model}``) is made by other instrumentations, and a
backend counts calls and cost by it. So memtrace makes no second one: where such a span is current
it adds its own attributes to that. Where there is none, ``memtrace.observe {model}`` is made, an
INTERNAL span without the conventions' operation and usage, which nobody mistakes for a model call.
It is current to nobody: other spans stand where they stood.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, get_current_span
from opentelemetry.util.types import AttributeValue

from ..counters import default_counter, get_counter
from ..errors import MemtraceError
from ..telemetry import names, spans
from .facts import Observation

_WORKING, _HISTORY = names.CALL_LAYERS[0], names.CALL_LAYERS[-1]


def inference_span(context: Context) -> Span | None:
    """The span of the model call that is current and recorded; None: there is none."""
    span = get_current_span(context)
    if not span.is_recording():
        return None
    # The API only writes attributes; the SDK's spans can be read.
    attributes: Any = getattr(span, "attributes", None) or {}
    told = (
        attributes.get(names.OPERATION_NAME) in names.INFERENCE
        or attributes.get(names.OPENINFERENCE_KIND) == "LLM"
    )
    return span if told else None


def carried(seen: Observation) -> dict[str, AttributeValue]:
    """Attributes that say what a call carried."""
    attributes: dict[str, AttributeValue] = {
        names.CALL_CONVERSATION: seen.conversation,
        names.CALL_TURN: seen.turn,
        names.CALL_MESSAGES: seen.messages,
        names.CALL_TOKENS: seen.tokens,
        names.CALL_DUPLICATE: seen.duplicate_tokens,
        names.CALL_REPEATED: seen.repeated_tokens,
        names.CALL_NEW: seen.new_tokens,
        _WORKING: seen.working_tokens,
        _HISTORY: seen.history_tokens,
        names.COUNTING: "exact" if seen.exact else "estimate",
    }
    for kind, tokens in seen.kinds.items():
        attributes[names.CALL_KINDS[kind]] = tokens
    if seen.growth_tokens is not None:
        attributes[names.CALL_GROWTH] = seen.growth_tokens
    if seen.partial:
        attributes[names.CALL_PARTIAL] = True
    return attributes


def billed(seen: Observation) -> dict[str, AttributeValue]:
    """Attributes that say what the provider billed; only what it said."""
    sent, cached, answered = seen.usage
    told: dict[str, AttributeValue | None] = {
        names.USAGE_INPUT: sent,
        names.USAGE_CACHED: cached,
        names.USAGE_OUTPUT: answered,
        names.USAGE_RATIO: seen.billed_ratio,
    }
    return {name: value for name, value in told.items() if value is not None}


def make_span(seen: Observation, context: Context, start_ns: int, end_ns: int) -> None:
    """A span of memtrace's own for a call that has ended."""
    attributes = {**carried(seen), **billed(seen)}
    if seen.model:
        attributes[names.REQUEST_MODEL] = seen.model
    if seen.error:
        attributes[names.ERROR_TYPE] = seen.error
    span = spans.source().start(
        f"{names.SPAN_OBSERVE} {seen.model}".rstrip(),
        context,
        attributes=attributes,
        start_time=start_ns,
    )
    if seen.error:
        span.set_status(Status(StatusCode.ERROR, seen.error))
    span.end(end_ns)


@lru_cache(maxsize=256)
def is_exact(model: str) -> bool:
    """Whether the configured encoding counts a model's tokens as the model does."""
    try:
        counter, theirs = default_counter(), get_counter(model or None)
    except MemtraceError:  # its name reads like an encoding that there is not
        return False
    return counter.exact and theirs.exact and counter.name == theirs.name
