"""For tests of programs that use memtrace: its spans and metrics as plain values.

::

    from memtrace.testing import assert_no_failures, capture

    def test_the_agent_reports_its_memory():
        with capture() as captured:
            agent(messages)
        assert captured.span("invoke_agent agent").attributes["gen_ai.agent.name"] == "agent"
        assert_no_failures(captured)

With pytest the fixture ``memtrace_capture`` is such a block around one test. ``docs/testing.md``
has an example for each thing that is worth asserting.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from . import config
from .captured import CapturedEvent, CapturedSpan, as_dict, captured_span, point
from .telemetry import names
from .values import MemoryProfile

if TYPE_CHECKING:
    from .session import Session

__all__ = [
    "Captured",
    "CapturedEvent",
    "CapturedSpan",
    "assert_no_failures",
    "assert_no_thrash",
    "assert_within_budget",
    "capture",
    "strict",
]


class Captured:
    """What a :func:`capture` block has seen, while it runs and after it.

    Attributes:
        tracer_provider: The provider that records; give it to other libraries to see their spans.
        meter_provider: The same for metrics.
    """

    def __init__(self) -> None:
        self._recorder = _Recorder()
        self._reader = InMemoryMetricReader()
        self._frozen: dict[str, list[dict[str, Any]]] | None = None
        self.tracer_provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(self._recorder)
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    # --- spans --------------------------------------------------------------------------------

    @property
    def spans(self) -> list[CapturedSpan]:
        """Every span that has ended, in the order in which they began."""
        return self._recorder.ended()

    @property
    def open_spans(self) -> list[str]:
        """Names of the spans that have begun and not ended, in order."""
        return self._recorder.unended()

    def span(self, name: str) -> CapturedSpan:
        """The one span of that name.

        Raises:
            LookupError: There is none, or there are several; the message lists what there is.
        """
        found = self.spans_named(name)
        if len(found) == 1:
            return found[0]
        if found:
            raise LookupError(f"{len(found)} spans are named {name!r}: use spans_named")
        unended = [f"{other} (not ended)" for other in self.open_spans]
        there_are = ", ".join([*(span.name for span in self.spans), *unended]) or "none"
        raise LookupError(f"no span named {name!r} has ended; there are: {there_are}")

    def spans_named(self, name: str) -> list[CapturedSpan]:
        """Every span of that name, in the order in which they began."""
        return [span for span in self.spans if span.name == name]

    def spans_as_dicts(self, *, normalise: bool = True) -> list[dict[str, Any]]:
        """Spans as plain data, for comparison with a golden value.

        Args:
            normalise: Leave out ids and times, and put ``<duration>``, ``<id>`` and
                ``<stacktrace>`` for the values of attributes that differ from run to run.
        """
        return [as_dict(span, normalise=normalise) for span in self.spans]

    def tree(self) -> list[str]:
        """Names of the spans, each indented by two spaces more than its parent."""
        spans = self.spans
        ids = {span.span_id for span in spans}
        below: dict[str | None, list[CapturedSpan]] = {}
        for span in spans:
            parent = span.parent_id if span.parent_id in ids else None
            below.setdefault(parent, []).append(span)
        lines: list[str] = []
        waiting = [(span, 0) for span in reversed(below.get(None, []))]
        while waiting:
            span, depth = waiting.pop()
            lines.append("  " * depth + span.name)
            waiting += [(child, depth + 1) for child in reversed(below.get(span.span_id, []))]
        return lines

    # --- metrics ------------------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """Points by instrument name; after the block, as they were at its end.

        A point has ``attributes``, and ``value``, or for a histogram ``count``, ``sum``,
        ``bounds`` and ``buckets`` (how many fell into each; one more than there are bounds).
        """
        return self._collect() if self._frozen is None else self._frozen

    def metric(
        self, name: str, attributes: Mapping[str, Any] | None = None, /, **more: Any
    ) -> dict[str, Any]:
        """The one point of an instrument that has all these attributes, and maybe others.

        Raises:
            LookupError: There is none, or there are several; the message lists what there is.
        """
        wanted = {**(attributes or {}), **more}
        points = self.metrics
        if name not in points:
            raise LookupError(f"no metric named {name!r}; there are: {', '.join(points) or 'none'}")
        found = [p for p in points[name] if wanted.items() <= p["attributes"].items()]
        if len(found) == 1:
            return found[0]
        given = [point["attributes"] for point in points[name]]
        raise LookupError(f"{len(found)} points of {name} have {wanted}; there are: {given}")

    def _collect(self) -> dict[str, list[dict[str, Any]]]:
        data = self._reader.get_metrics_data()
        found: dict[str, list[dict[str, Any]]] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points = [point(one) for one in metric.data.data_points]
                    found.setdefault(metric.name, []).extend(points)
        return found

    def _freeze(self) -> None:
        self._frozen = self._collect()


class _Recorder(SpanProcessor):
    """Keeps spans in memory, in the order in which they began."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may end a span on a thread that is in here
        self._spans: dict[int, tuple[str, ReadableSpan | None]] = {}

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        with self._lock:
            self._spans[span.context.span_id] = (span.name, None)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            assert span.context is not None
            self._spans[span.context.span_id] = (span.name, span)

    def ended(self) -> list[CapturedSpan]:
        with self._lock:
            by_id = dict(self._spans)
        known = {span_id: name for span_id, (name, _) in by_id.items()}
        return [captured_span(span, known) for _, span in by_id.values() if span is not None]

    def unended(self) -> list[str]:
        with self._lock:
            return [name for name, span in self._spans.values() if span is None]


@contextmanager
def capture() -> Iterator[Captured]:
    """Catch memtrace's spans and metrics for the length of a block; nothing leaves the process.

    The providers in use are put back afterwards. OpenTelemetry's global ones are not touched.

    >>> import memtrace
    >>> with capture() as captured:
    ...     with memtrace.checkpoint(memtrace.Session(), "read"):
    ...         pass
    >>> captured.tree()
    ['memtrace.checkpoint read']
    """
    captured = Captured()
    before = config.configure(
        tracer_provider=captured.tracer_provider, meter_provider=captured.meter_provider
    )
    try:
        yield captured
    finally:
        config.configure(
            tracer_provider=before.tracer_provider, meter_provider=before.meter_provider
        )
        captured._freeze()


@contextmanager
def strict() -> Iterator[None]:
    """Raise memtrace's own failures for the length of a block, instead of logging them."""
    before = config.configure(strict=True)
    try:
        yield
    finally:
        config.configure(strict=before.strict)


def assert_within_budget(memory: Session | MemoryProfile) -> None:
    """Assert that a session, or a profile of one, holds no more than its budget.

    Raises:
        AssertionError: It holds more; the message has the figures by layer.

    >>> import memtrace
    >>> assert_within_budget(memtrace.Session(token_budget=1000))
    """
    profile = memory if isinstance(memory, MemoryProfile) else memory.profile()
    over = profile.total_tokens - profile.token_budget
    if over <= 0:
        return
    layers = "\n".join(
        f"  {name:<20} {usage.tokens:>10,} of {usage.limit:>10,} tokens in {usage.items:,} items"
        for name, usage in profile.layers.items()
    )
    raise AssertionError(
        f"{profile.total_tokens:,} tokens are {over:,} over the budget of "
        f"{profile.token_budget:,} ({profile.utilization_rate:.0%}):\n{layers}"
    )


def assert_no_failures(captured: Captured) -> None:
    """Assert that memtrace itself, and every hook, did without a failure.

    Raises:
        AssertionError: Something failed; the message says what, and how often.
    """
    failures = [
        f"{point['attributes'].get(names.COMPONENT, 'unknown')}: {point['value']:g} times"
        for point in captured.metrics.get(names.METRIC_FAILURES, [])
        if point["value"]
    ]
    if failures:
        raise AssertionError("memtrace's own failures, " + "; ".join(failures))


def assert_no_thrash(captured: Captured) -> None:
    """Assert that no session was cleaned up more often than it ran, and that no loop gave up.

    The first shows after ten runs of a session (``Policy.cleanup_window``), the second after two
    passes that freed too little (``Policy.ineffective_passes``).

    Raises:
        AssertionError: An alert says so; the message says which, and how often.

    >>> with capture() as captured:
    ...     pass
    >>> assert_no_thrash(captured)
    """
    told = {"cleanup_frequency": "more cleanups than runs", "unreachable_target": "a loop gave up"}
    points = captured.metrics.get(names.METRIC_ALERTS, [])
    thrash = [
        f"{told[point['attributes'][names.THRESHOLD_NAME]]}: {point['value']:g} times"
        for point in points
        if point["attributes"][names.THRESHOLD_NAME] in told and point["value"]
    ]
    if thrash:
        raise AssertionError("memory was thrashed, " + "; ".join(thrash))
