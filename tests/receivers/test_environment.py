"""Every variable of OpenTelemetry's that `export_to` is given holds."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from otlp import Received, until

from memtrace import ConfigurationError, Session, checkpoint, export_to, managed_agent

USAGE, DURATION = "memtrace.memory.usage", "gen_ai.invoke_agent.duration"


@managed_agent
def answer(session: Session) -> None:
    session.history.append({"role": "user", "content": "why?"})


def run(runs: int = 2, **options: Any) -> None:
    """Runs within a block that goes where the environment says."""
    session = Session("s")
    with export_to("otlp", timeout_s=30, **options):
        for _ in range(runs):
            answer(session)


@pytest.fixture
def otel(backend: Received, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets variables by their names without `OTEL_`; the endpoint is set already."""

    def set_(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"OTEL_{name}", value)

    set_(EXPORTER_OTLP_ENDPOINT=f"http://{backend.address}", EXPORTER_OTLP_TIMEOUT="30")
    return set_


def test_who_it_is(backend: Received, otel: Any) -> None:
    """
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and the detectors are in the resource.
    """
    otel(
        SERVICE_NAME="support",
        RESOURCE_ATTRIBUTES="deployment.environment.name=staging,service.name=other",
        EXPERIMENTAL_RESOURCE_DETECTORS="process",
    )
    run(metrics=False)

    resource = backend.spans[0]["resource"]
    assert resource["service.name"] == "support"
    assert resource["deployment.environment.name"] == "staging"
    assert resource["process.pid"] > 0


@pytest.mark.parametrize(
    "variables",
    [
        {"TRACES_SAMPLER": "always_off"},
        {"TRACES_SAMPLER": "traceidratio", "TRACES_SAMPLER_ARG": "0"},
        {"TRACES_SAMPLER": "parentbased_traceidratio", "TRACES_SAMPLER_ARG": "0"},
        {"TRACES_EXPORTER": "none"},
    ],
)
def test_spans_may_be_left_out(variables: dict[str, str], backend: Received, otel: Any) -> None:
    """
    What is not sampled, or is to be exported to none, is not sent; metrics count it all the same.
    """
    otel(**variables)
    run()

    assert backend.spans == []
    assert backend.metrics[DURATION]["points"][0]["count"] == 2


def test_metrics_may_be_left_out(backend: Received, otel: Any) -> None:
    """
    With OTEL_METRICS_EXPORTER=none only spans are sent.
    """
    otel(METRICS_EXPORTER="none")
    run()

    assert [path for path, _, _ in backend.requests] == ["/v1/traces"]


def test_limits_of_a_span(backend: Received, otel: Any) -> None:
    """
    Limits of attributes and of their length hold.
    """
    otel(SPAN_ATTRIBUTE_COUNT_LIMIT="3", ATTRIBUTE_VALUE_LENGTH_LIMIT="4")
    run(metrics=False)

    attributes = backend.spans[0]["attributes"]
    assert len(attributes) == 3
    assert {len(value) for value in attributes.values() if isinstance(value, str)} <= {1, 4}


def test_limits_of_events(backend: Received, otel: Any) -> None:
    """
    The limit of events holds.
    """
    otel(SPAN_EVENT_COUNT_LIMIT="0")
    with export_to("otlp", metrics=False), pytest.raises(KeyError), checkpoint(Session()):
        raise KeyError

    assert (backend.spans[-1]["status"], backend.spans[-1]["events"]) == (2, [])


def test_the_ids_generator(backend: Received, otel: Any) -> None:
    """
    OTEL_PYTHON_ID_GENERATOR names an installed one, and another name is an error.
    """
    otel(PYTHON_ID_GENERATOR="random")
    run(metrics=False)
    assert len(backend.spans) == 2

    otel(PYTHON_ID_GENERATOR="of my own")
    with pytest.raises(ConfigurationError, match="OTEL_PYTHON_ID_GENERATOR is 'of my own'"):
        run()


def test_batches(backend: Received, otel: Any) -> None:
    """
    A batch is as large as OTEL_BSP_MAX_EXPORT_BATCH_SIZE says.
    """
    otel(BSP_MAX_EXPORT_BATCH_SIZE="1")
    run(runs=3, metrics=False)

    assert (len(backend.requests), len(backend.spans)) == (3, 3)


def test_intervals(backend: Received, otel: Any) -> None:
    """
    Spans and metrics leave as often as the environment says, and not only at the end.
    """
    otel(BSP_SCHEDULE_DELAY="10", METRIC_EXPORT_INTERVAL="20")
    with export_to("otlp"):
        answer(Session())
        until(lambda: backend.spans and DURATION in backend.metrics)


@pytest.mark.parametrize(("given", "exemplars"), [("always_off", 0), ("trace_based", 1)])
def test_exemplars(given: str, exemplars: int, backend: Received, otel: Any) -> None:
    """
    OTEL_METRICS_EXEMPLAR_FILTER decides whether points lead to spans.
    """
    otel(METRICS_EXEMPLAR_FILTER=given)
    run(runs=1)

    assert min(backend.exemplars, 1) == exemplars


def test_how_metrics_are_added_up(backend: Received, otel: Any) -> None:
    """
    Temporality and the kind of histogram are those that the environment prefers.
    """
    otel(
        EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta",
        EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION="base2_exponential_bucket_histogram",
    )
    run()

    assert backend.metrics[DURATION]["temporality"] == 1
    assert backend.metrics[USAGE]["temporality"] == 2  # an up-down counter's stays, as OTLP has it


def test_headers_and_compression(backend: Received, otel: Any) -> None:
    """
    Headers of the environment and of the call go together; a signal's own come before all others.
    """
    otel(
        EXPORTER_OTLP_HEADERS="api-key=secret,tenant=a",
        EXPORTER_OTLP_METRICS_HEADERS="tenant=b",
        EXPORTER_OTLP_COMPRESSION="gzip",
    )
    run(headers={"X-More": "1"})

    sent = {path: headers for path, _, headers in backend.requests}
    assert sent["/v1/traces"].items() >= {"api-key": "secret", "tenant": "a", "x-more": "1"}.items()
    assert sent["/v1/metrics"].items() >= {"tenant": "b", "x-more": "1"}.items()
    assert "api-key" not in sent["/v1/metrics"]
    assert {headers["content-encoding"] for headers in sent.values()} == {"gzip"}


def test_an_endpoint_of_a_signal(backend: Received, otel: Any) -> None:
    """
    A signal's own endpoint is taken as it stands; the common one gets the signal's path.
    """
    otel(
        EXPORTER_OTLP_TRACES_ENDPOINT=f"http://{backend.address}/mine/v1/traces",
        EXPORTER_OTLP_ENDPOINT=f"http://{backend.address}/base",
    )
    run()

    assert {path for path, _, _ in backend.requests} == {"/mine/v1/traces", "/base/v1/metrics"}


def test_protocols_by_signal(backend: Received, grpc: Received, otel: Any) -> None:
    """
    Each signal may have a protocol of its own.
    """
    otel(
        EXPORTER_OTLP_METRICS_PROTOCOL="grpc",
        EXPORTER_OTLP_METRICS_ENDPOINT=f"http://{grpc.address}",
    )
    run()

    assert (len(backend.spans), set(backend.metrics)) == (2, set())
    assert DURATION in grpc.metrics


def test_json_needs_a_package_of_its_own(otel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where OTLP's JSON exporter is missing, the error is the command that installs it.
    """
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.json.http.trace_exporter", None)
    otel(EXPORTER_OTLP_PROTOCOL="http/json")

    with pytest.raises(ConfigurationError, match='pip install "opentelemetry-exporter-otlp-json'):
        run()


def test_python_says_nothing_meanwhile(
    backend: Received, otel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Where all arrives nothing is logged.
    """
    run()

    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
