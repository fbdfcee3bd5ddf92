"""What metrics are made of before they are metrics: plain numbers, added up in-process.

A synchronous instrument costs a run six times what a dict does, so nothing here touches one.
The instruments read a ledger at collection (see :mod:`memtrace.telemetry.metrics`).

No session lock is ever taken here, and nothing here is ever called with one's own lock held
by a finalizer: a session that is collected only appends to a deque.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from opentelemetry.trace import Span, SpanContext

from ..values import LAYER_NAMES


class Tally(Protocol):
    """Running totals of one layer; see :class:`memtrace.layers.Tally`."""

    @property
    def tokens(self) -> int: ...
    @property
    def added(self) -> int: ...
    @property
    def hits(self) -> int: ...
    @property
    def misses(self) -> int: ...


class Totals(Protocol):
    """A session's totals, which may outlive it."""

    @property
    def tallies(self) -> Sequence[Tally]: ...
    @property
    def limits(self) -> Sequence[int]: ...


Attributes = tuple[tuple[str, str], ...]
RunPoint = tuple["float | None", "float | None", "float | None", Attributes]
"""Of one run: seconds it took, shares of working memory and of the budget held after it, series."""

Point = tuple[str, float, Any, "SpanContext | None"]


Entry = tuple[Totals, list[int]]
"""A session's totals, and what they were when it was admitted."""


class Ledger:
    """Counters, histogram points and live totals of one meter provider in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counters: dict[str, dict[Attributes, float]] = {}
        # A run's three points are one tuple, and nothing in it is tracked by the garbage
        # collector, which would pay as much again for looking at it.
        self.runs: deque[RunPoint] = deque()
        # The last run of every combination of buckets, with its span: what exemplars are.
        self.last: dict[Any, tuple[RunPoint, Span]] = {}
        # The rare others name their instrument.
        self.points: deque[Point] = deque()
        # A collected session's reference goes to `_gone`, and from there to the retired sums
        # under the lock: so that a sum over both counts every session exactly once.
        self._live: dict[weakref.ref[Any], Entry] = {}
        self._gone: deque[weakref.ref[Any]] = deque()
        self._retired = [0] * _SUMS

    def add(self, counter: str, value: float, attributes: Attributes = ()) -> None:
        """Add to a counter."""
        with self._lock:
            series = self.counters.setdefault(counter, {})
            series[attributes] = series.get(attributes, 0) + value

    def series(self, counter: str) -> list[tuple[Attributes, float]]:
        """Values of a counter by attributes."""
        with self._lock:
            return list(self.counters.get(counter, {}).items())

    def admit(self, owner: object, totals: Totals) -> weakref.ref[Any]:
        """Report a session's totals for as long as its owner lives, without keeping it alive.

        What it added before is not counted here.
        """
        ref = weakref.ref(owner, self._gone.append)
        with self._lock:
            self._retire()
            self._live[ref] = totals, _sums_of(totals)
        return ref

    def dismiss(self, ref: weakref.ref[Any]) -> None:
        """Stop reporting a session as live; what it added stays counted."""
        self._gone.append(ref)

    def living(self) -> list[Totals]:
        """Totals of the sessions that live now."""
        with self._lock:
            self._retire()
            return [totals for totals, _ in self._live.values()]

    def sums(self) -> list[int]:
        """Tokens that ever entered by layer, then cache hits and misses; they never shrink."""
        with self._lock:
            self._retire()
            sums = list(self._retired)
            for entry in self._live.values():
                _include(sums, entry)
            return sums

    def clear(self) -> None:
        """Start empty, as a child process must after a fork."""
        self._lock = threading.Lock()
        for held in (self.counters, self.runs, self.last, self.points, self._live, self._gone):
            held.clear()
        self._retired = [0] * _SUMS

    def _retire(self) -> None:
        while self._gone:
            entry = self._live.pop(self._gone.popleft(), None)
            if entry is not None:
                _include(self._retired, entry)


_SUMS = len(LAYER_NAMES) + 2


def _sums_of(totals: Totals) -> list[int]:
    """Tokens that ever entered by layer, then cache hits and misses."""
    sums = [tally.added for tally in totals.tallies]
    return [*sums, sum(t.hits for t in totals.tallies), sum(t.misses for t in totals.tallies)]


def _include(sums: list[int], entry: Entry) -> None:
    totals, before = entry
    for index, value in enumerate(_sums_of(totals)):
        sums[index] += value - before[index]
