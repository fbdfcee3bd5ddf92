"""What leaves the process: spans and metrics, whole, with each provider there may be."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

import memtrace
from memtrace import Session, __version__, checkpoint, managed_agent

HELLO = {"role": "user", "content": "hello"}  # 4 tokens
LAYERS = ["working_memory", "long_term_memory", "cache", "agent_states", "conversation_history"]


def filled() -> Session:
    """A session of 1,000 tokens that holds three of them."""
    session = Session("support-42", token_budget=1_000)
    session.active_contexts.add("one two three")
    return session


def said(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes without the duration, which must be there."""
    attributes = dict(span.attributes or {})
    assert attributes.pop("memtrace.body.duration") >= 0  # type: ignore[operator]
    return attributes


PROFILE = {
    "gen_ai.conversation.id": "support-42",
    "memtrace.budget.tokens": 1_000,
    "memtrace.profile.before.tokens": 3,
    "memtrace.profile.before.utilization": 0.003,
    "memtrace.profile.after.tokens": 7,
    "memtrace.profile.after.utilization": 0.007,
    "memtrace.profile.delta.tokens": 4,
    "memtrace.layer.working_memory.before.tokens": 3,
    "memtrace.layer.working_memory.after.tokens": 3,
    "memtrace.layer.long_term_memory.before.tokens": 0,
    "memtrace.layer.long_term_memory.after.tokens": 0,
    "memtrace.layer.cache.before.tokens": 0,
    "memtrace.layer.cache.after.tokens": 0,
    "memtrace.layer.agent_states.before.tokens": 0,
    "memtrace.layer.agent_states.after.tokens": 0,
    "memtrace.layer.conversation_history.before.tokens": 0,
    "memtrace.layer.conversation_history.after.tokens": 4,
}
RUN = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "clerk",
    "memtrace.session.cleanups": 0,
}


# --- spans, whole -------------------------------------------------------------------------------


def test_span_of_a_run(spans: InMemorySpanExporter) -> None:
    """
    A run's span says who ran, in which session, and what each layer held before and after.
    """
    session = filled()
    managed_agent(name="clerk", session=session)(lambda: session.history.append(HELLO))()

    (span,) = spans.get_finished_spans()
    assert said(span) == {**RUN, **PROFILE}
    assert (span.name, span.kind, span.parent) == ("invoke_agent clerk", SpanKind.INTERNAL, None)
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    scope = span.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version) == ("memtrace", __version__)
    assert scope.schema_url.startswith("https://opentelemetry.io/schemas/")  # type: ignore[union-attr]


def test_span_of_an_observed_list(spans: InMemorySpanExporter) -> None:
    """
    Where a caller's own list is measured there is no session, and the history is that list.
    """

    @managed_agent(name="clerk", messages="messages", token_budget=1_000)
    def agent(messages: list[Any]) -> None:
        messages.append(HELLO)

    agent([{"role": "user", "content": ""}])
    (span,) = spans.get_finished_spans()
    assert said(span) == {
        **RUN,
        **{key: value for key, value in PROFILE.items() if key != "gen_ai.conversation.id"},
        "memtrace.layer.working_memory.before.tokens": 0,
        "memtrace.layer.working_memory.after.tokens": 0,
        "memtrace.layer.conversation_history.before.tokens": 3,
        "memtrace.layer.conversation_history.after.tokens": 7,
    }


def test_span_of_a_checkpoint(spans: InMemorySpanExporter) -> None:
    """
    A checkpoint's span says which it was, in which session, and what each layer held.
    """
    session = filled()
    with checkpoint(session, "index") as step:
        session.history.append(HELLO)

    span = spans.get_finished_spans()[-1]
    assert (span.name, span.kind) == ("memtrace.checkpoint index", SpanKind.INTERNAL)
    assert said(span) == {
        **PROFILE,
        "memtrace.checkpoint.name": "index",
        "memtrace.checkpoint.id": step.id,
    }


def test_span_of_a_run_that_raises(spans: InMemorySpanExporter) -> None:
    """
    An error is the span's status, its type, and one exception event.
    """

    def agent() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError):
        managed_agent(name="clerk", session=filled())(agent)()
    (span,) = spans.get_finished_spans()
    assert said(span)["error.type"] == "LookupError"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "broken")
    (event,) = span.events
    assert event.name == "exception"
    assert (event.attributes or {})["exception.type"] == "LookupError"


def test_error_whose_text_cannot_be_read(spans: InMemorySpanExporter) -> None:
    """
    An exception that cannot even be printed is reported by its type.
    """

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    def agent() -> None:
        raise Mute

    with pytest.raises(Mute):
        managed_agent(name="clerk", session=filled())(agent)()
    (span,) = spans.get_finished_spans()
    assert str(said(span)["error.type"]).endswith("Mute")
    assert [event.name for event in span.events] == ["exception"]


def test_attributes_of_ones_own(spans: InMemorySpanExporter) -> None:
    """
    `attributes=` go on the span beside memtrace's own.
    """
    own = {"gen_ai.agent.id": "a-1", "team": "support"}
    managed_agent(name="clerk", session=Session(), attributes=own)(lambda: None)()

    assert said(spans.get_finished_spans()[0]).items() >= {**own, **RUN}.items()


def test_nested_runs_are_child_spans(spans: InMemorySpanExporter) -> None:
    """
    An agent that calls another has its span as a child, in the same trace.
    """
    session = Session()
    inner = managed_agent(name="inner", session=session)(lambda: None)
    managed_agent(name="outer", session=session)(inner)()

    child, parent = spans.get_finished_spans()
    assert (child.name, parent.name) == ("invoke_agent inner", "invoke_agent outer")
    assert child.parent == parent.get_span_context()


# --- on a span that is there --------------------------------------------------------------------


def test_current_span_gets_the_attributes(
    spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    With span="current" memtrace's attributes go on the span that is there; no second is made.
    """
    session = filled()
    agent = managed_agent(name="clerk", session=session, span="current", attributes={"team": "a"})
    with tracer_provider.get_tracer("framework").start_as_current_span("invoke_agent theirs"):
        agent(lambda: session.history.append(HELLO))()
        assert get_current_span().is_recording()

    (span,) = spans.get_finished_spans()
    assert span.name == "invoke_agent theirs"
    assert said(span).items() >= {**PROFILE, "team": "a"}.items()


def test_current_span_keeps_its_conversation(
    spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    With span="current" the conversation's id that its owner gave it stays.
    """
    tracer = tracer_provider.get_tracer("framework")
    for told in ({}, {"gen_ai.conversation.id": "theirs"}):
        with tracer.start_as_current_span("invoke_agent", attributes=told):
            managed_agent(session=filled(), span="current")(lambda: None)()

    without, with_one = spans.get_finished_spans()
    assert said(without)["gen_ai.conversation.id"] != "theirs"
    assert said(with_one)["gen_ai.conversation.id"] == "theirs"


def test_current_span_keeps_its_status(
    spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    With span="current" an error is left to whoever owns the span.
    """
    tracer = tracer_provider.get_tracer("framework")
    with tracer.start_as_current_span("theirs"), pytest.raises(ZeroDivisionError):
        managed_agent(session=filled(), span="current")(lambda: 1 / 0)()

    (span,) = spans.get_finished_spans()
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())


def test_no_current_span_is_no_error(spans: InMemorySpanExporter) -> None:
    """
    With span="current" and no span there, the function just runs.
    """
    assert managed_agent(session=filled(), span="current")(lambda: 42)() == 42
    assert spans.get_finished_spans() == ()


# --- events -------------------------------------------------------------------------------------


def broken_hook(event: Any) -> None:
    raise LookupError("broken")


@pytest.mark.parametrize("stage", ["before_run", "after_run"])
def test_event_is_on_the_span_it_belongs_to(stage: str, spans: InMemorySpanExporter) -> None:
    """
    What happened in a run is an event on the run's span, and a hook's span is its child.
    """
    session = filled()
    session.on(stage)(broken_hook)
    managed_agent(name="clerk", session=session)(lambda: None)()

    hook, run = spans.get_finished_spans()
    assert (hook.name, hook.parent) == ("memtrace.hook broken_hook", run.get_span_context())
    (event,) = run.events
    assert event.name == "memtrace.hook.failed"
    assert dict(event.attributes or {}) == {
        "memtrace.hook.name": "broken_hook",
        "memtrace.hook.stage": stage,
        "error.type": "LookupError",
    }


def run_script(script: str, **environment: str) -> str:
    """What a script prints, run by an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_events_may_be_log_records() -> None:
    """
    With log_events=True events are log records instead of span events.
    """
    script = """
        import logging
        from opentelemetry import _logs
        from opentelemetry.sdk.trace import TracerProvider
        import memtrace

        kept = []

        class Logger(_logs.NoOpLogger):
            def emit(self, *args, **kwargs):
                kept.extend(args)

        class Provider(_logs.LoggerProvider):
            def get_logger(self, name, *args, **kwargs):
                return Logger(name)

        _logs.set_logger_provider(Provider())
        memtrace.configure(log_events=True, tracer_provider=TracerProvider())
        logging.disable()
        session = memtrace.Session()
        session.on("after_run")(lambda event: 1 / 0)
        memtrace.managed_agent(session=session)(lambda: None)()
        (record,) = kept
        attributes = record.attributes
        print(record.event_name, attributes["error.type"], record.trace_id != 0)
    """

    assert run_script(script) == "memtrace.hook.failed ZeroDivisionError True"


# --- metrics ------------------------------------------------------------------------------------


def read(reader: InMemoryMetricReader) -> dict[str, dict[tuple[Any, ...], Any]]:
    """Points by metric and attributes' values; of a histogram its count."""
    data = reader.get_metrics_data()
    return {
        metric.name: {
            tuple(sorted((point.attributes or {}).values(), key=str)): getattr(
                point, "value", getattr(point, "count", None)
            )
            for point in metric.data.data_points
        }
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def metric(reader: InMemoryMetricReader, name: str) -> Any:
    """One metric as the SDK gives it."""
    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    (found,) = (metric for metric in scope.metrics if metric.name == name)
    return found


def test_metrics_of_two_runs(metrics: InMemoryMetricReader) -> None:
    """
    Every metric that two runs feed, one of them failed: names, attributes and values.
    """
    session = filled()
    managed_agent(name="clerk", session=session)(lambda: session.history.append(HELLO))()
    session.cache.put("rates", "one two")
    session.cache.get("rates")
    session.cache.get("weather")
    with pytest.raises(ZeroDivisionError):
        managed_agent(name="clerk", session=session)(lambda: 1 / 0)()

    held = dict.fromkeys(LAYERS, 0) | {"working_memory": 3, "cache": 2}
    held["conversation_history"] = 4
    limits = dict(zip(LAYERS, (400, 150, 100, 100, 250), strict=True))
    found = read(metrics)
    assert {name: points for name, points in found.items() if points} == {
        "gen_ai.invoke_agent.duration": {("clerk",): 1, ("ZeroDivisionError", "clerk"): 1},
        "memtrace.memory.utilization": {("clerk", "working_memory"): 2, ("budget", "clerk"): 2},
        "memtrace.memory.usage": {(layer,): tokens for layer, tokens in held.items()},
        "memtrace.memory.limit": {(layer,): limit for layer, limit in limits.items()},
        "memtrace.layer.added": {(layer,): tokens for layer, tokens in held.items()},
        "memtrace.session.active": {(): 1},
        "memtrace.cache.requests": {("hit",): 1, ("miss",): 1},
    }


@pytest.mark.parametrize(
    ("name", "unit", "attributes", "bounds"),
    [
        (
            "gen_ai.invoke_agent.duration",
            "s",
            {"gen_ai.agent.name"},
            (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6),
        ),
        (
            "memtrace.memory.utilization",
            "1",
            {"gen_ai.agent.name", "memtrace.scope"},
            (0.1, 0.25, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.25),
        ),
        (
            "memtrace.hook.duration",
            "s",
            {"memtrace.hook.name", "memtrace.hook.stage"},
            (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        ),
    ],
)
def test_buckets(
    name: str, unit: str, attributes: set[str], bounds: Any, metrics: InMemoryMetricReader
) -> None:
    """
    Histograms have the documented unit, attributes and boundaries.
    """
    session = filled()
    session.on("after_run")(lambda event: None)
    managed_agent(name="clerk", session=session)(lambda: None)()

    found = metric(metrics, name)
    assert found.unit == unit
    for point in found.data.data_points:
        assert point.explicit_bounds == pytest.approx(bounds)
        assert set(point.attributes) == attributes


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("memtrace.memory.usage", "{token}"),
        ("memtrace.memory.limit", "{token}"),
        ("memtrace.layer.added", "{token}"),
        ("memtrace.session.active", "{session}"),
        ("memtrace.cache.requests", "{request}"),
    ],
)
def test_units(name: str, unit: str, metrics: InMemoryMetricReader) -> None:
    """
    What is counted has its unit; counters only rise, levels do not.
    """
    session = filled()
    found = metric(metrics, name)

    assert session.id == "support-42"
    assert found.unit == unit
    assert found.data.is_monotonic is (name in ("memtrace.layer.added", "memtrace.cache.requests"))


def test_duration_is_the_spans(spans: InMemorySpanExporter, metrics: InMemoryMetricReader) -> None:
    """
    The duration that is exported is the span's own.
    """
    managed_agent(session=filled())(lambda: None)()

    (span,) = spans.get_finished_spans()
    (point,) = metric(metrics, "gen_ai.invoke_agent.duration").data.data_points
    assert span.start_time is not None
    assert span.end_time is not None
    assert point.sum == pytest.approx((span.end_time - span.start_time) / 1e9, rel=1e-6)


def test_utilization_falls_in_its_bucket(metrics: InMemoryMetricReader) -> None:
    """
    Utilization is recorded as it is after the run, of working memory and of the budget.
    """
    session = filled()
    session.active_contexts.add(" word" * 197)  # 200 of 400, and of 1,000
    managed_agent(name="clerk", session=session)(lambda: None)()

    points = metric(metrics, "memtrace.memory.utilization").data.data_points
    sums = {point.attributes["memtrace.scope"]: point.sum for point in points}
    assert sums == pytest.approx({"working_memory": 0.5, "budget": 0.2})


def test_checkpoint_feeds_utilization_alone(metrics: InMemoryMetricReader) -> None:
    """
    A checkpoint is no invocation: it feeds the utilization, without an agent's name.
    """
    with checkpoint(filled()):
        pass

    found = read(metrics)
    assert found.get("gen_ai.invoke_agent.duration", {}) == {}
    assert found["memtrace.memory.utilization"] == {("budget",): 1, ("working_memory",): 1}


def test_failures_are_counted(metrics: InMemoryMetricReader) -> None:
    """
    What memtrace swallows on the caller's path is counted, by component.
    """
    session = filled()
    session.on("after_run")(broken_hook)
    managed_agent(session=session)(lambda: None)()
    managed_agent(session=lambda: None)(lambda: None)()  # type: ignore[arg-type,return-value]

    assert read(metrics)["memtrace.failures"] == {("hook",): 1, ("session lookup",): 1}


def test_two_readers_are_both_right() -> None:
    """
    A cumulative and a delta reader each see every run exactly once.
    """
    kinds = (Counter, ObservableCounter, Histogram)
    delta = InMemoryMetricReader(
        preferred_temporality=dict.fromkeys(kinds, AggregationTemporality.DELTA)
    )
    whole = InMemoryMetricReader()
    provider = MeterProvider([delta, whole])
    memtrace.configure(meter_provider=provider)
    session = filled()
    agent = managed_agent(name="clerk", session=session)(lambda: session.history.append(HELLO))

    seen = []
    for runs in (3, 2):
        for _ in range(runs):
            agent()
        for found in (read(delta), read(whole)):
            runs_seen = found["gen_ai.invoke_agent.duration"]["clerk",]
            seen.append((runs_seen, found["memtrace.layer.added"]["conversation_history",]))
    provider.shutdown()
    assert seen == [(3, 12), (3, 12), (2, 8), (5, 20)]


@pytest.mark.parametrize("end", [Session.close, lambda session: None])
def test_session_that_ended_before_the_first_export(
    end: Any, metrics: InMemoryMetricReader
) -> None:
    """
    What a session did stays counted after its end; as a level it vanishes.
    """
    session = filled()
    managed_agent(name="clerk", session=session)(lambda: None)()
    end(session)
    del session
    gc.collect()

    found = read(metrics)
    assert found["gen_ai.invoke_agent.duration"] == {("clerk",): 1}
    assert found["memtrace.layer.added"]["working_memory",] == 3
    assert found["memtrace.memory.usage"]["working_memory",] == 0
    assert found["memtrace.session.active"] == {(): 0}


def test_counters_never_fall(metrics: InMemoryMetricReader) -> None:
    """
    Between two collections a counter stays where it was, though sessions ended meanwhile.
    """
    added = []
    for _ in range(3):
        session = filled()
        added.append(read(metrics)["memtrace.layer.added"]["working_memory",])
        del session
        gc.collect()
        added.append(read(metrics)["memtrace.layer.added"]["working_memory",])

    assert added == [3, 3, 6, 6, 9, 9]


def test_many_runs_between_two_exports(metrics: InMemoryMetricReader) -> None:
    """
    More runs than are buffered are all counted.
    """
    from memtrace.telemetry.metrics import MAX_BUFFERED

    agent = managed_agent(name="clerk", session=filled())(lambda: None)
    for _ in range(MAX_BUFFERED + 10):
        agent()

    assert read(metrics)["gen_ai.invoke_agent.duration"] == {("clerk",): MAX_BUFFERED + 10}


# --- providers ----------------------------------------------------------------------------------


def test_unsampled(metrics: InMemoryMetricReader) -> None:
    """
    Where nothing is sampled no span is exported, the metrics are whole, the function runs.
    """
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    memtrace.configure(tracer_provider=provider)
    session = filled()

    assert managed_agent(name="clerk", session=session)(memtrace.current_session)() is session
    assert exporter.get_finished_spans() == ()
    assert read(metrics)["gen_ai.invoke_agent.duration"] == {("clerk",): 1}


def test_sampler_sees_who_it_is_about() -> None:
    """
    A sampler of one's own sees the agent's name and the session when it decides.
    """
    seen: list[Any] = []

    class Nosy(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            seen.append(kwargs.get("attributes") or args[4])
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "Nosy"

    memtrace.configure(tracer_provider=TracerProvider(sampler=Nosy()))
    managed_agent(name="clerk", session=filled())(lambda: None)()
    assert [dict(attributes) for attributes in seen] == [
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "clerk",
            "gen_ai.conversation.id": "support-42",
        }
    ]


def test_no_sdk() -> None:
    """
    Without an SDK the functions run, nothing is buffered, and no global provider is set.
    """
    script = """
        import sys
        from opentelemetry import metrics, trace
        import memtrace
        from memtrace.telemetry.metrics import ledger

        session = memtrace.Session()
        agent = memtrace.managed_agent(session=session)(lambda: 42)
        assert [agent() for _ in range(100)] == [42] * 100
        with memtrace.checkpoint(session):
            pass
        assert not ledger().runs and not ledger().points
        assert "opentelemetry.sdk" not in sys.modules
        print(type(trace.get_tracer_provider()).__name__, trace._TRACER_PROVIDER)
    """

    assert run_script(script) == "ProxyTracerProvider None"


def test_providers_set_after_the_first_runs() -> None:
    """
    Providers that the application sets late get every later run, and what was held before.
    """
    script = """
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        import memtrace

        session = memtrace.Session()
        session.active_contexts.add("one two three")
        agent = memtrace.managed_agent(session=session)(lambda: None)
        agent()
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([reader]))
        agent()
        agent()
        print(len(exporter.get_finished_spans()), end=" ")
        (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
        points = {m.name: m.data.data_points for m in scope.metrics}
        print(points["gen_ai.invoke_agent.duration"][0].count, end=" ")
        print(points["memtrace.layer.added"][0].value, points["memtrace.session.active"][0].value)
    """

    assert run_script(script) == "2 2 3 1"


def test_sdk_disabled_by_the_environment() -> None:
    """
    OTEL_SDK_DISABLED is the application's word: functions run, nothing is exported.
    """
    script = """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        import memtrace

        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        memtrace.configure(tracer_provider=provider)
        session = memtrace.Session()
        print(memtrace.managed_agent(session=session)(lambda: 42)(), end=" ")
        print(len(exporter.get_finished_spans()))
    """

    assert run_script(script, OTEL_SDK_DISABLED="true") == "42 0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_child_of_a_fork_starts_empty() -> None:
    """
    After a fork the child counts what it did itself, and nothing of its parent's.
    """
    script = """
        import os, sys
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        import memtrace

        def work(words):
            session = memtrace.Session()
            session.active_contexts.add(" word" * words)
            memtrace.managed_agent(session=session)(lambda: None)()
            return session

        def report():
            reader = InMemoryMetricReader()
            metrics.set_meter_provider(MeterProvider([reader]))
            kept = work(3)
            (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
            points = {m.name: m.data.data_points for m in scope.metrics}
            names = "memtrace.layer.added", "memtrace.session.active"
            print(*(points[name][0].value for name in names), flush=True)

        parents = work(100)
        child = os.fork()
        if child == 0:
            report()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        report()
    """

    assert run_script(script).splitlines() == ["3 1", "103 2"]


def test_span_processor_that_raises(metrics: InMemoryMetricReader) -> None:
    """
    A span processor of the application's that raises does not reach the caller.
    """
    from opentelemetry.sdk.trace import SpanProcessor

    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise LookupError("broken")

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise LookupError("broken")

    provider = TracerProvider()
    provider.add_span_processor(Broken())
    memtrace.configure(tracer_provider=provider)
    assert managed_agent(session=filled())(lambda: 42)() == 42
