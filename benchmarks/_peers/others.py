"""Peers that do not hand their spans to an OpenTelemetry provider of the application's.

What they send is cut off where it leaves the caller's path, in their favour.
"""

from __future__ import annotations

import os
from typing import Any

from .backend import Ended, Recorder
from .peer import Peer


def ddtrace(mode: str, ended: list[Ended] | None) -> Peer:
    """Datadog's decorator for agents."""
    current = ddtrace_plain(mode, ended).current
    from ddtrace.llmobs import LLMObs
    from ddtrace.llmobs._writer import LLMObsSpanWriter
    from ddtrace.llmobs.decorators import agent

    LLMObsSpanWriter.enqueue = lambda _self, _event: None
    if mode != "off":
        LLMObs.enable(
            ml_app="peers",
            integrations_enabled=False,
            agentless_enabled=True,
            site="datadoghq.com",
            api_key="0",
            sample_rate=0.0 if mode == "unsampled" else 1.0,
        )
    return Peer(agent, current)


def ddtrace_plain(mode: str, ended: list[Ended] | None) -> Peer:
    """Datadog's plain tracer, which knows nothing of agents: a span without their inputs."""
    os.environ["DD_TRACE_ENABLED"] = str(mode != "off").lower()
    os.environ["DD_TRACE_SAMPLE_RATE"] = "0" if mode == "unsampled" else "1"
    os.environ["DD_INSTRUMENTATION_TELEMETRY_ENABLED"] = "false"
    os.environ["DD_REMOTE_CONFIGURATION_ENABLED"] = "false"
    os.environ["DD_TRACE_STARTUP_LOGS"] = "false"
    from ddtrace.trace import TraceFilter, tracer

    class Nowhere(TraceFilter):  # type: ignore[misc]
        def process_trace(self, spans: list[Any]) -> None:
            if ended is not None:
                ended.extend(Ended(span.name, bool(span.error)) for span in spans)

    if mode != "off":  # it would be on again
        tracer.configure(trace_processors=[Nowhere()])
    return Peer(tracer.wrap("call"), lambda: getattr(tracer.current_span(), "span_id", None))


def langsmith(mode: str, ended: list[Ended] | None) -> Peer:
    """LangSmith."""
    os.environ["LANGSMITH_TRACING"] = str(mode != "off").lower()
    os.environ["LANGSMITH_API_KEY"] = "0"
    os.environ["LANGSMITH_ENDPOINT"] = "http://127.0.0.1:9"
    os.environ["LANGSMITH_TRACING_SAMPLING_RATE"] = "0" if mode == "unsampled" else "1"
    os.environ["LANGSMITH_DISABLE_RUN_COMPRESSION"] = "true"
    from langsmith import Client, get_current_run_tree, traceable
    from langsmith.schemas import LangSmithInfo

    update = Client.update_run

    def updated(self: Any, run_id: Any, **run: Any) -> None:
        if ended is not None and run.get("end_time") is not None:
            ended.append(Ended(str(run.get("name")), bool(run.get("error"))))
        update(self, run_id, **run)

    Client.update_run = updated
    Client._put_tracing_queue = lambda *_args: None
    client = Client(info=LangSmithInfo())
    return Peer(
        lambda fn: traceable(fn) if mode == "off" else traceable(client=client)(fn),
        lambda: getattr(get_current_run_tree(), "id", None),
    )


def mlflow(mode: str, ended: list[Ended] | None) -> Peer:
    """MLflow's tracing."""
    os.environ["MLFLOW_TRACE_SAMPLING_RATIO"] = "0" if mode == "unsampled" else "1"
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
    import mlflow
    from mlflow.entities.trace_location import MlflowExperimentLocation
    from mlflow.tracing import provider
    from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter

    MlflowV3SpanExporter._log_spans = lambda *_args, **_options: None
    MlflowV3SpanExporter._log_trace = lambda *_args, **_options: None
    mlflow.tracing.set_destination(MlflowExperimentLocation("0"))
    if mode == "off":
        mlflow.tracing.disable()
    elif ended is not None:
        provider.get_bridged_tracer_provider().add_span_processor(Recorder(ended))
    return Peer(mlflow.trace, lambda: getattr(mlflow.get_current_active_span(), "span_id", None))


def opik(mode: str, ended: list[Ended] | None) -> Peer:
    """Comet's Opik; it has no sampling of its own."""
    os.environ["OPIK_TRACK_DISABLE"] = str(mode == "off").lower()
    os.environ["OPIK_URL_OVERRIDE"] = "http://127.0.0.1:9"
    os.environ["OPIK_WORKSPACE"] = "default"
    os.environ["OPIK_CONSOLE_LOGGING_LEVEL"] = "CRITICAL"
    os.environ["OPIK_SENTRY_ENABLE"] = "false"
    import opik
    from opik import opik_context
    from opik.message_processing import messages, streamer

    def put(_self: Any, message: Any) -> None:
        created = isinstance(message, messages.CreateSpanMessage)
        if ended is not None and created and message.end_time is not None:
            ended.append(Ended(message.name, bool(message.error_info)))

    streamer.Streamer.put = put
    return Peer(opik.track, lambda: getattr(opik_context.get_current_span_data(), "id", None))


def weave(mode: str, ended: list[Ended] | None) -> Peer:
    """Weights & Biases' Weave."""
    os.environ["WEAVE_DISABLED"] = str(mode == "off").lower()
    os.environ["WEAVE_PRINT_CALL_LINK"] = "false"
    import weave
    from weave.trace.context.weave_client_context import set_weave_client_global
    from weave.trace.weave_client import WeaveClient

    if mode != "off":
        finish = WeaveClient.finish_call

        def finished(
            self: Any, call: Any, output: Any = None, exception: Any = None, **options: Any
        ) -> None:
            if ended is not None:
                ended.append(Ended(str(call.op_name), exception is not None))
            finish(self, call, output, exception, **options)

        WeaveClient.finish_call = finished
        set_weave_client_global(WeaveClient("nobody", "peers", _Nowhere(), False))
    rate = 0.0 if mode == "unsampled" else 1.0
    return Peer(
        lambda fn: weave.op(fn, tracing_sample_rate=rate),
        lambda: getattr(weave.get_current_call(), "id", None),
    )


class _Nowhere:
    """A server of Weave's that takes everything, and says so."""

    digest = id = trace_id = "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_args: Any, **_options: Any) -> Any:
        return self
