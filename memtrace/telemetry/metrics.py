"""The instruments: made once for a meter provider, filled from its ledger at collection.

Counters and gauges are observable over plain numbers, so that cumulative and delta readers both
come out right. Histograms are buffered and recorded at collection: recording the three points of
a run costs as much as the run's span, under the same lock, wherever it happens. While there is
no metrics SDK nothing is buffered.
"""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.context import Context, create_key, set_value
from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, set_span_in_context

from .. import config
from .._version import __version__
from ..values import LAYER_NAMES, TokenBudget
from . import names, reviews
from .ledger import Attributes, Ledger, RunPoint

MAX_BUFFERED = 16_384
"""Runs buffered before the recording call drains them itself: some 3 MB, reached at 10,000 runs a
second between two collections a second apart only if one of them is late."""

_NO_SPAN = set_value(create_key("memtrace-no-span"), True, Context())
"""Given with a point that is nobody's exemplar. Not empty: for an empty one the SDK takes the
current context."""

_DURATIONS, _SHARES = names.BUCKETS_DURATION, names.BUCKETS_UTILIZATION
_WORKING = {names.SCOPE_ATTRIBUTE: "working_memory"}
_BUDGET = {names.SCOPE_ATTRIBUTE: "budget"}


class Instruments:
    """Every instrument of one meter provider, reading one ledger."""

    def __init__(self, meter: Meter, ledger: Ledger) -> None:
        self.ledger = ledger
        histogram = meter.create_histogram
        self._duration = histogram(
            names.METRIC_DURATION,
            unit="s",
            description="Duration of an agent's invocation",
            explicit_bucket_boundaries_advisory=names.BUCKETS_DURATION,
        )
        self._utilization = histogram(
            names.METRIC_UTILIZATION,
            unit="1",
            description="Tokens held after a run or a checkpoint, as a share of what is allotted",
            explicit_bucket_boundaries_advisory=names.BUCKETS_UTILIZATION,
        )
        self._others: dict[str, Histogram] = {
            name: histogram(
                name, unit=unit, description=text, explicit_bucket_boundaries_advisory=buckets
            )
            for name, unit, text, buckets in _OTHER_HISTOGRAMS
        }
        # The first callback of a collection drains the histograms' points. Which one comes
        # first is the SDK's choice, so each of them may: a second drain finds nothing.
        for name, unit, text, read in _SUMS:
            meter.create_observable_counter(
                name, callbacks=[self._callback(read)], unit=unit, description=text
            )
        for name, unit, text, read in _LEVELS:
            meter.create_observable_up_down_counter(
                name, callbacks=[self._callback(read)], unit=unit, description=text
            )
        for name, unit, text in _COUNTERS:
            meter.create_observable_counter(
                name, callbacks=[self._callback(_series(name))], unit=unit, description=text
            )

    def _callback(
        self, read: Callable[[Ledger], Iterable[Observation]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            self.drain()
            return read(self.ledger)

        return callback

    def drain(self) -> None:
        """Record every buffered point."""
        if self.ledger.runs:
            self._record_runs()
        for name, value, attributes, span in _take_all(self.ledger.points):
            self._others[name].record(value, attributes, context=_context(span))

    def _record_runs(self) -> None:
        # An aligned histogram keeps the last exemplar of each bucket, so only the last runs are
        # given their spans: looking for exemplars is a third of what recording costs.
        last, self.ledger.last = self.ledger.last, {}
        spans = {id(point): span for point, span in list(last.values())}
        series: dict[Attributes, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {}
        record_duration, record_share = self._duration.record, self._utilization.record
        for point in _take_all(self.ledger.runs):
            duration, working, whole, attributes = point
            known = series.get(attributes)
            if known is None:
                agent = {k: v for k, v in attributes if k == names.AGENT_NAME}
                known = dict(attributes), {**agent, **_WORKING}, {**agent, **_BUDGET}
                series[attributes] = known
            span = spans.get(id(point))
            context = _NO_SPAN if span is None else set_span_in_context(span, _NO_SPAN)
            if duration is not None:
                record_duration(duration, known[0], context)
            if working is not None and whole is not None:
                record_share(working, known[1], context)
                record_share(whole, known[2], context)


def _take_all(queue: Any) -> list[Any]:
    taken = []
    for _ in range(len(queue)):
        try:
            taken.append(queue.popleft())
        except IndexError:  # another reader was quicker
            break
    return taken


def _context(span: SpanContext | None) -> Context:
    if span is None:
        return _NO_SPAN
    return set_span_in_context(NonRecordingSpan(span), _NO_SPAN)


# --- what each instrument reads -----------------------------------------------------------------


_Read = Callable[[Ledger], Iterable[Observation]]


def _by_layer(amounts: Iterable[int]) -> Iterable[Observation]:
    return [
        Observation(n, {names.LAYER_NAME: name})
        for name, n in zip(LAYER_NAMES, amounts, strict=True)
    ]


def _read_added(ledger: Ledger) -> Iterable[Observation]:
    return _by_layer(ledger.live.read().added)


def _read_requests(ledger: Ledger) -> Iterable[Observation]:
    sums = ledger.live.read()
    return [
        Observation(sums.hits, {names.CACHE_RESULT: "hit"}),
        Observation(sums.misses, {names.CACHE_RESULT: "miss"}),
    ]


def _read_usage(ledger: Ledger) -> Iterable[Observation]:
    return _by_layer(ledger.live.read().tokens)


def _read_limit(ledger: Ledger) -> Iterable[Observation]:
    return _by_layer(ledger.live.read().limits)


def _read_sessions(ledger: Ledger) -> Iterable[Observation]:
    return [Observation(ledger.live.read().sessions)]


def _read_due(_ledger: Ledger) -> Iterable[Observation]:
    due = reviews.due()
    return [] if due is None else [Observation(due)]


def _series(name: str) -> _Read:
    def read(ledger: Ledger) -> Iterable[Observation]:
        return [Observation(value, dict(key)) for key, value in ledger.series(name)]

    return read


_SUMS: tuple[tuple[str, str, str, _Read], ...] = (
    (names.METRIC_ADDED, "{token}", "Tokens that entered a layer", _read_added),
    (names.METRIC_CACHE_REQUESTS, "{request}", "Lookups in sessions' caches", _read_requests),
)
_LEVELS: tuple[tuple[str, str, str, _Read], ...] = (
    (names.METRIC_USAGE, "{token}", "Tokens held by live sessions", _read_usage),
    (names.METRIC_LIMIT, "{token}", "Tokens allotted to live sessions", _read_limit),
    (names.METRIC_SESSIONS, "{session}", "Live sessions", _read_sessions),
    (names.METRIC_REVIEW_DUE, "{session}", "Sessions past their retention review", _read_due),
    (names.METRIC_NET, "{token}", "What passes are expected to save", _series(names.METRIC_NET)),
)
_COUNTERS = (
    (names.METRIC_COMPRESSION_INPUT, "{token}", "Tokens that compressions read"),
    (names.METRIC_COMPRESSION_OUTPUT, "{token}", "Tokens that compressions left"),
    (names.METRIC_CLEANUPS, "{cleanup}", "Cleanups"),
    (names.METRIC_CLEANUP_REMOVED, "{token}", "Tokens that cleanups removed"),
    (names.METRIC_JUDGEMENTS, "{judgement}", "Passes judged by what they cost and save"),
    (names.METRIC_REREAD, "{token}", "Tokens that passes made providers read again"),
    (names.METRIC_ALERTS, "{alert}", "Thresholds crossed"),
    (names.METRIC_FAILURES, "{failure}", "memtrace's own failures, kept from the caller"),
)
_OTHER_HISTOGRAMS = (
    (names.METRIC_OPERATION_DURATION, "s", "Duration of memtrace's own work", names.BUCKETS_SHORT),
    (names.METRIC_HOOK_DURATION, "s", "Duration of a user's hook", names.BUCKETS_SHORT),
    (
        names.METRIC_COMPRESSION_RATIO,
        "1",
        "Tokens a compression left, as a share of those it read",
        names.BUCKETS_RATIO,
    ),
)


# --- which ledger, which instruments ------------------------------------------------------------

_binding = threading.RLock()
_default = Ledger()  # of the global provider, whether or not there is one yet
_bound: dict[int, tuple[weakref.ref[MeterProvider], Instruments]] = {}  # by provider's id


class _Current:
    """The instruments of the present configuration, or None while there is no metrics SDK."""

    __slots__ = ("config", "idle", "instruments", "ledger", "runs")

    def __init__(self) -> None:
        self.config: object = None
        self.idle: object = None  # the API's own provider, which records nothing
        self.ledger = _default
        self.instruments: Instruments | None = None
        self.runs: deque[RunPoint] | None = None


_current = _Current()


def _resolve() -> _Current:
    """Find the provider, and make its instruments if it is a real one that is new."""
    global _current
    settings = config.current
    provider = settings.meter_provider or get_meter_provider()
    if provider is _current.idle:  # a real one may be set later, so each time it is looked again
        return _current
    with _binding:
        found = _Current()
        if type(provider).__module__.startswith("opentelemetry.metrics"):
            found.idle = provider
            _current = found
            return found
        instruments = _instruments_of(provider)
        found.instruments, found.ledger = instruments, instruments.ledger
        found.runs = found.ledger.runs
        found.config = settings
        _current = found
        return found


def _instruments_of(provider: MeterProvider) -> Instruments:
    """A provider's instruments, made the first time it is met."""
    # Providers are known by identity: one that compares by value cannot be a dictionary's key.
    known = _bound.get(id(provider))
    if known is not None and known[0]() is provider:
        return known[1]
    ledger = Ledger() if config.current.meter_provider is not None else _default
    meter = provider.get_meter(names.SCOPE, __version__, names.SCHEMA_URL)
    instruments = Instruments(meter, ledger)
    _bound[id(provider)] = weakref.ref(provider), instruments
    return instruments


def ledger() -> Ledger:
    """The ledger to add to now."""
    current = _current
    if current.config is not config.current:
        current = _resolve()
    return current.ledger


def record_run(
    duration_ns: int | None,
    working_tokens: int,
    tokens: int,
    budget: TokenBudget | None,
    series: Attributes,
    span: Span | None,
) -> None:
    """Buffer a run's three points: what it took, and what it left in memory.

    Args:
        duration_ns: Of an agent's run; None: of a checkpoint.
        working_tokens: In working memory.
        tokens: In all layers.
        budget: What they are held against; None: they were not measured.
        series: Attributes of its metrics.
        span: Its span, if that is recorded.
    """
    current = _current
    if current.config is not config.current:
        current = _resolve()
    runs = current.runs
    if runs is None:
        return
    duration = None if duration_ns is None else duration_ns / 1e9
    working = whole = None
    if budget is not None:
        limit = budget.limits[0]
        working = working_tokens / limit if limit else 0.0
        whole = tokens / budget.total
    point = duration, working, whole, series
    runs.append(point)
    if span is not None:
        buckets = (
            series,
            bisect_left(_DURATIONS, duration or 0.0),
            bisect_left(_SHARES, working or 0.0),
            bisect_left(_SHARES, whole or 0.0),
        )
        current.ledger.last[buckets] = point, span
    if len(runs) >= MAX_BUFFERED:
        current.instruments.drain()  # type: ignore[union-attr]


def record(name: str, value: float, attributes: dict[str, Any], span: SpanContext | None) -> None:
    """Buffer one point of another histogram."""
    current = _current
    if current.config is not config.current:
        current = _resolve()
    instruments = current.instruments
    if instruments is not None:
        points = instruments.ledger.points
        points.append((name, value, attributes, span))
        if len(points) >= MAX_BUFFERED:
            instruments.drain()


def count(name: str, value: float = 1, attributes: Attributes = ()) -> None:
    """Add to a counter."""
    ledger().add(name, value, attributes)


def _after_fork() -> None:
    global _binding, _current
    _binding = threading.RLock()
    _default.clear()
    for _, instruments in list(_bound.values()):
        instruments.ledger.clear()
    _current = _Current()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
