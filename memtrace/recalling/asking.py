"""A session's questions to its own memory, each traced as ``search_memory``."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import perf_counter_ns, time_ns
from typing import Any, TypeVar

from .. import config
from ..errors import ConfigurationError
from ..memory import Memory
from ..telemetry import metrics, names, spans
from ..values import Item
from .context import Context, context
from .passages import text_of
from .recaller import Recaller

T = TypeVar("T")

_WIDTH = 100
"""Texts that a search looks at beyond what it was asked for: several may be of one item, and
neighbours put each other right."""


def recalled(memory: Memory, recaller: Recaller, query: str, k: int) -> list[Item]:
    """The items that have most to do with a query, the best first.

    Raises:
        ConfigurationError: The query is no text, or ``k`` no whole number ≥ 0.
        StoreError: The store cannot be read or written.
    """
    _check_query(query)
    _check_count("k", k, "session.recall(query, k=10)")

    def work(told: dict[str, Any]) -> list[Item]:
        items: dict[str, Item] = {}
        for text in recaller.search(query, _WIDTH + 4 * k) if k else ():
            if len(items) == k:
                break
            if text.item not in items and (item := recaller.item(text)) is not None:
                items[text.item] = item
        told[names.MEMORY_COUNT] = len(items)
        found = list(items.values())
        if config.current.capture_content:
            told[names.MEMORY_RECORDS] = _records(found)
        return found

    return _traced(memory, "recall", query, work)


def gathered(memory: Memory, recaller: Recaller, query: str, max_tokens: int) -> list[Any]:
    """Messages to send about a query.

    Raises:
        ConfigurationError: The query is no text, ``max_tokens`` no whole number, or less than
            the system prompt has.
        StoreError: The store cannot be read or written.
    """
    _check_query(query)
    _check_count("max_tokens", max_tokens, "session.context_for(query, max_tokens=4000)")

    def work(told: dict[str, Any]) -> list[Any]:
        made: Context = context(memory, recaller, query, max_tokens)
        told[names.MEMORY_COUNT] = made.recalled
        told[names.CONTEXT_TOKENS] = made.tokens
        told[names.CONTEXT_LIMIT] = max_tokens
        return made.messages

    return _traced(memory, "context_for", query, work)


def _traced(memory: Memory, operation: str, query: str, work: Callable[[dict[str, Any]], T]) -> T:
    """Do the work within a span of its own, whose attributes it completes."""
    told: dict[str, Any] = {
        names.OPERATION_NAME: names.SEARCH_MEMORY,
        names.CONVERSATION_ID: memory.id,
        names.MEMORY_STORE: memory.id,
    }
    if config.current.capture_content:
        told[names.MEMORY_QUERY] = query.encode("utf-8", "replace").decode()
    span = spans.start(names.SEARCH_MEMORY, told, time_ns())
    clock = perf_counter_ns()
    found: dict[str, Any] = {}
    series: dict[str, Any] = {names.OPERATION: operation}
    try:
        return work(found)
    except BaseException as error:
        series[names.ERROR_TYPE] = spans.error_type(error)
        if span.is_recording():
            spans.record_error(span, error)
        raise
    finally:
        recording = span.is_recording()
        if recording:
            span.set_attributes(found)
        metrics.record(
            names.METRIC_OPERATION_DURATION,
            (perf_counter_ns() - clock) / 1e9,
            series,
            span.get_span_context() if recording else None,
        )
        span.end()


def _records(items: list[Item]) -> str:
    """Items as the convention's memory records, in JSON."""
    records = [
        {
            "id": item.id,
            "content": text_of(item.content).encode("utf-8", "replace").decode(),
            "metadata": {"kind": item.kind, "layer": item.layer.value},
        }
        for item in items
    ]
    return json.dumps(records, ensure_ascii=False)


def _check_query(query: object) -> None:
    if not isinstance(query, str):
        raise ConfigurationError(f"a query is text, got {query!r}")


def _check_count(name: str, value: object, example: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(
            f"{name} must be a whole number ≥ 0, got {value!r}; for example {example}"
        )
