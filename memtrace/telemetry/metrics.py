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
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from .. import config
from .._version import __version__
from ..values import LAYER_NAMES, LayerTokens, TokenBudget
from . import names
from .ledger import Attributes, Ledger, RunPoint

MAX_BUFFERED = 16_384
"""Runs buffered before the recording call drains them itself: some 8 MB, reached at 10,000 runs a
second between two collections a second apart only if one of them is late."""

_NO_SPAN = Context()
"""Given with a point that is nobody's exemplar, so that the SDK looks for none."""

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
        runs, points = self.ledger.runs, self.ledger.points
        if runs:
            self._record_runs(_take_all(runs))
        for name, value, attributes, span in _take_all(points):
            self._others[name].record(value, attributes, context=_context(span))

    def _record_runs(self, batch: list[RunPoint]) -> None:
        # An aligned histogram keeps the last exemplar of each bucket, so only that one is given
        # its span: looking for exemplars is a third of what recording costs.
        seen: set[tuple[int, int, Any]] = set()
        scopes: dict[Any, tuple[Any, Any]] = {}

        def context(which: int, value: float, key: Any, bounds: Any, span: Any) -> Context:
            place = (which, bisect_left(bounds, value), key)
            if span is None or place in seen:
                return _NO_SPAN
            seen.add(place)
            return _context(span)

        record_duration, record_share = self._duration.record, self._utilization.record
        for duration_ns, tokens, budget, attributes, span in reversed(batch):
            key = id(attributes)
            if duration_ns is not None:
                value = duration_ns / 1e9
                bounds: Sequence[float] = names.BUCKETS_DURATION
                record_duration(value, attributes, context=context(0, value, key, bounds, span))
            if tokens is None or budget is None:
                continue
            scoped = scopes.get(key)
            if scoped is None:
                agent = {k: v for k, v in attributes.items() if k == names.AGENT_NAME}
                scoped = scopes[key] = ({**agent, **_WORKING}, {**agent, **_BUDGET})
            bounds = names.BUCKETS_UTILIZATION
            limit = budget.limits[0]
            value = tokens[0] / limit if limit else 0.0
            record_share(value, scoped[0], context=context(1, value, key, bounds, span))
            value = sum(tokens) / budget.total
            record_share(value, scoped[1], context=context(2, value, key, bounds, span))


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


def _read_added(ledger: Ledger) -> Iterable[Observation]:
    sums = ledger.sums()
    return [Observation(sums[i], {names.LAYER_NAME: name}) for i, name in enumerate(LAYER_NAMES)]


def _read_requests(ledger: Ledger) -> Iterable[Observation]:
    hits, misses = ledger.sums()[-2:]
    return [
        Observation(hits, {names.CACHE_RESULT: "hit"}),
        Observation(misses, {names.CACHE_RESULT: "miss"}),
    ]


def _read_usage(ledger: Ledger) -> Iterable[Observation]:
    used = [0] * len(LAYER_NAMES)
    for totals in ledger.living():
        for index, tally in enumerate(totals.tallies):
            used[index] += tally.tokens
    return [
        Observation(n, {names.LAYER_NAME: name}) for n, name in zip(used, LAYER_NAMES, strict=True)
    ]


def _read_limit(ledger: Ledger) -> Iterable[Observation]:
    limit = [0] * len(LAYER_NAMES)
    for totals in ledger.living():
        for index, tokens in enumerate(totals.limits):
            limit[index] += tokens
    return [
        Observation(n, {names.LAYER_NAME: name}) for n, name in zip(limit, LAYER_NAMES, strict=True)
    ]


def _read_sessions(ledger: Ledger) -> Iterable[Observation]:
    return [Observation(len(ledger.living()))]


def _series(name: str) -> Callable[[Ledger], Iterable[Observation]]:
    def read(ledger: Ledger) -> Iterable[Observation]:
        return [Observation(value, dict(key)) for key, value in ledger.series(name)]

    return read


_SUMS = (
    (names.METRIC_ADDED, "{token}", "Tokens that entered a layer", _read_added),
    (names.METRIC_CACHE_REQUESTS, "{request}", "Lookups in sessions' caches", _read_requests),
)
_LEVELS = (
    (names.METRIC_USAGE, "{token}", "Tokens held by live sessions", _read_usage),
    (names.METRIC_LIMIT, "{token}", "Tokens allotted to live sessions", _read_limit),
    (names.METRIC_SESSIONS, "{session}", "Live sessions", _read_sessions),
)
_COUNTERS = (
    (names.METRIC_COMPRESSION_INPUT, "{token}", "Tokens that compressions read"),
    (names.METRIC_COMPRESSION_OUTPUT, "{token}", "Tokens that compressions left"),
    (names.METRIC_CLEANUPS, "{cleanup}", "Cleanups"),
    (names.METRIC_CLEANUP_REMOVED, "{token}", "Tokens that cleanups removed"),
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

    __slots__ = ("config", "instruments", "ledger", "runs")

    def __init__(self) -> None:
        self.config: object = None
        self.ledger = _default
        self.instruments: Instruments | None = None
        self.runs: deque[RunPoint] | None = None


_current = _Current()


def _resolve() -> _Current:
    """Find the provider, and make its instruments if it is a real one that is new."""
    global _current
    with _binding:
        found = _Current()
        settings = config.current
        provider = settings.meter_provider or get_meter_provider()
        if type(provider).__module__.startswith("opentelemetry.metrics"):
            # The API's own providers record nothing. A real one may be set later: look again.
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
    tokens: LayerTokens | None,
    budget: TokenBudget | None,
    attributes: dict[str, Any],
    span: SpanContext | None,
) -> None:
    """Buffer a run's three points. ``attributes`` must be one object a series, never changed."""
    current = _current
    if current.config is not config.current:
        current = _resolve()
    runs = current.runs
    if runs is not None:
        runs.append((duration_ns, tokens, budget, attributes, span))
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
