"""What metrics are made of before they are metrics: plain numbers, added up in-process.

A synchronous instrument costs a run six times what a dict does, so nothing here touches one.
The instruments read a ledger at collection (see :mod:`memtrace.telemetry.metrics`).
No session lock is ever taken here. What sessions hold is in :mod:`memtrace.telemetry.living`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from opentelemetry.trace import Span, SpanContext

from .living import Living

Attributes = tuple[tuple[str, str], ...]
RunPoint = tuple["float | None", "float | None", "float | None", Attributes]
"""Of one run: seconds it took, shares of working memory and of the budget held after it, series."""

Point = tuple[str, float, Any, "SpanContext | None"]


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
        self.live = Living()

    def add(self, counter: str, value: float, attributes: Attributes = ()) -> None:
        """Add to a counter."""
        with self._lock:
            series = self.counters.setdefault(counter, {})
            series[attributes] = series.get(attributes, 0) + value

    def series(self, counter: str) -> list[tuple[Attributes, float]]:
        """Values of a counter by attributes."""
        with self._lock:
            return list(self.counters.get(counter, {}).items())

    def clear(self) -> None:
        """Start empty, as a child process must after a fork."""
        self._lock = threading.Lock()
        for held in (self.counters, self.runs, self.last, self.points):
            held.clear()
        self.live.clear()
