"""Each peer as its users set it up, except that what it sends goes nowhere.

Content capture and all else stay as they come. Modes: ``recording``; ``unsampled``, by the peer's
own sampling; ``off``, by its own switch; ``checks``, which is recording with what ended noted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from . import others
from .backend import DoNothing, Ended, Recorder, processors, provider
from .peer import Peer


def current_span() -> Any:
    """OpenTelemetry's current span, as a value."""
    return trace.get_current_span().get_span_context().span_id


def opentelemetry(mode: str, ended: list[Ended] | None) -> Peer:
    """The decorator that OpenTelemetry itself offers."""
    if mode == "off":
        return Peer(trace.NoOpTracer().start_as_current_span("call"), current_span)
    tracer = provider(mode, ended).get_tracer("peers")
    return Peer(lambda fn: tracer.start_as_current_span("call")(fn), current_span)


def memtrace(mode: str, ended: list[Ended] | None) -> Peer:
    """memtrace: a session with items in all five layers, both profiles, every metric."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    import memtrace
    from benchmarks._agents import full_session

    reader = InMemoryMetricReader()
    memtrace.configure(
        enabled=mode != "off",
        tracer_provider=provider(mode, ended),
        meter_provider=MeterProvider([reader], shutdown_on_exit=False),
    )
    decorate = memtrace.managed_agent(session=full_session())
    return Peer(decorate, current_span, reader.collect)


def openinference(mode: str, ended: list[Ended] | None) -> Peer:
    """Arize's OpenInference."""
    from openinference.instrumentation import OITracer, TraceConfig

    made: Any = trace.NoOpTracerProvider() if mode == "off" else provider(mode, ended)
    return Peer(OITracer(made.get_tracer("peers"), TraceConfig()).agent, current_span)


def traceloop(mode: str, ended: list[Ended] | None) -> Peer:
    """Traceloop's OpenLLMetry."""
    os.environ["TRACELOOP_TELEMETRY"] = "false"
    os.environ["TRACELOOP_METRICS_ENABLED"] = "false"
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import agent

    if mode == "off":
        os.environ["TRACELOOP_TRACING_ENABLED"] = "false"
    Traceloop.init(
        app_name="peers",
        api_endpoint="http://127.0.0.1:9",
        telemetry_enabled=False,
        instruments=set(),
        processor=processors(ended),
        sampler=ALWAYS_OFF if mode == "unsampled" else None,
    )
    return Peer(agent(name="call"), current_span)


def agentops(mode: str, ended: list[Ended] | None) -> Peer:
    """AgentOps; it has no sampling of its own, and is off before it is initialised."""
    os.environ["AGENTOPS_AUTO_INIT"] = "False"
    import agentops
    from agentops.sdk import core
    from agentops.sdk.decorators import operation
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    if mode != "off":
        core.AuthenticatedOTLPExporter = lambda **_options: DoNothing()
        core.OTLPMetricExporter = lambda **_options: None
        core.PeriodicExportingMetricReader = lambda _exporter: InMemoryMetricReader()
        agentops.init(
            api_key="00000000-0000-0000-0000-000000000000",
            auto_start_session=False,
            instrument_llm_calls=False,
        )
        if ended is not None:
            core.tracer.provider.add_span_processor(Recorder(ended))
    return Peer(operation, current_span)


def logfire(mode: str, ended: list[Ended] | None) -> Peer:
    """Pydantic's Logfire; off before it is configured."""
    os.environ["LOGFIRE_IGNORE_NO_CONFIG"] = "1"
    import logfire

    if mode != "off":
        logfire.configure(
            send_to_logfire=False,
            console=False,
            metrics=False,
            additional_span_processors=processors(ended),
            sampling=logfire.SamplingOptions(head=0.0 if mode == "unsampled" else 1.0),
        )
    return Peer(logfire.instrument("call"), current_span)


def langfuse(mode: str, ended: list[Ended] | None) -> Peer:
    """Langfuse."""
    from langfuse import Langfuse, observe

    made = TracerProvider(sampler=ALWAYS_OFF if mode == "unsampled" else ALWAYS_ON)
    if ended is not None:
        made.add_span_processor(Recorder(ended))
    Langfuse(
        public_key="pk-lf-0",
        secret_key="sk-lf-0",
        base_url="http://127.0.0.1:9",
        tracing_enabled=mode != "off",
        tracer_provider=made,
        span_exporter=DoNothing(),
    )
    return Peer(observe(), current_span)


SDKS: dict[str, Callable[[str, list[Ended] | None], Peer]] = {
    "memtrace": memtrace,
    "opentelemetry": opentelemetry,
    "traceloop": traceloop,
    "agentops": agentops,
    "logfire": logfire,
    "openinference": openinference,
    "langfuse": langfuse,
    "opik": others.opik,
    "ddtrace": others.ddtrace,
    "ddtrace (plain)": others.ddtrace_plain,
    "langsmith": others.langsmith,
    "mlflow": others.mlflow,
    "weave": others.weave,
}
