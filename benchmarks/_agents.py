"""What benchmarks of managed calls share: a session like an agent's, and a do-nothing backend."""

from __future__ import annotations

import argparse
import ast
import asyncio
import inspect
import statistics
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Protocol

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from memtrace import Session
from memtrace.counters import EncodingCounter
from memtrace.vocabulary import CountFunction, offline_function, vocabulary_path


class DoNothing(SpanExporter):
    """An exporter that takes every span and does nothing with it."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def tracing(sampler: Sampler = ALWAYS_ON, *, batch: bool = False) -> TracerProvider:
    """An SDK provider whose spans go nowhere."""
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    processor = BatchSpanProcessor if batch else SimpleSpanProcessor
    provider.add_span_processor(processor(DoNothing()))
    return provider


def full_session(**options: Any) -> Session:
    """A session with items in all five layers, agent states of 90 bytes, and no hook."""
    session = Session(**options)
    session.active_contexts.add("You answer in one sentence.", key="rules", kind="system")
    session.active_contexts.add("def f(x):\n    return x\n", key="f.py", kind="module")
    session.archived_contexts.add("On 3 May we chose PostgreSQL 16.", key="decision")
    session.cache.put("rates", {"EUR": 1.08, "GBP": 1.27})
    session.agent("planner").state = {"step": 3, "goal": "find the failing test"}
    session.agent("writer").state = {"step": 1, "open": ["README.md", "CHANGELOG.md"]}
    session.history.append({"role": "user", "content": "Why does the second test fail?"})
    session.history.append({"role": "assistant", "content": "Its path has backslashes in it."})
    return session


def code() -> str:
    """Source code, as tools read it: some 8,000 lines of the standard library."""
    modules = (argparse, ast, asyncio.base_events, asyncio.streams, inspect, statistics)
    return "\n".join(inspect.getsource(module) for module in modules)


class Called(Protocol):
    """A function, or a method, of one session."""

    def __call__(self, session: Session, /) -> Any: ...


def call_often(fn: Called, session: Session, times: int) -> None:
    """Call a function so many times."""
    for _ in repeat(None, times):
        fn(session)


def tiktoken_function() -> CountFunction:
    """What counts a text by plain tiktoken: the length of ``encode_ordinary``."""
    return offline_function("o200k_base", vocabulary_path("o200k_base"))


class TiktokenCounter(EncodingCounter):
    """memtrace's counter on tiktoken, as it is where the extra ``fast`` is not installed."""

    def __init__(self, count: CountFunction) -> None:
        super().__init__("o200k_base")
        self._plain = count

    def load(self) -> CountFunction:
        """Use tiktoken, whatever else is installed."""
        self._count = self._plain
        return self._plain


def tiktoken_counter(count: CountFunction) -> TiktokenCounter:
    """A counter by that function, loaded."""
    counter = TiktokenCounter(count)
    counter.load()
    return counter
