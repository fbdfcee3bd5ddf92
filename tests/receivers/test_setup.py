"""Set-up with nothing in the code: `opentelemetry-instrument`, and a configuration file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from otlp import Received
from programs import HERE, python

RUN = "invoke_agent answer"
USAGE, DURATION = "memtrace.memory.usage", "gen_ai.invoke_agent.duration"
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))


def arrived(backend: Received) -> None:
    """All of the application's three runs is there, metrics included."""
    assert [span["name"] for span in backend.spans].count(RUN) == 3
    assert backend.metrics[DURATION]["points"][0]["count"] == 3
    assert {USAGE, "memtrace.layer.added", "memtrace.memory.utilization"} <= set(backend.metrics)


def test_opentelemetry_instrument(backend: Received) -> None:
    """
    `opentelemetry-instrument python app.py` sends spans and metrics, with nothing in the code.
    """
    python(
        INSTRUMENT,
        sys.executable,
        str(HERE / "app.py"),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{backend.address}",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_LOGS_EXPORTER="none",
        OTEL_SERVICE_NAME="support",
    )

    arrived(backend)
    assert backend.spans[0]["resource"]["service.name"] == "support"


CONFIGURATION = """
file_format: "1.0"
resource:
  attributes:
    - {name: service.name, value: support}
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_http: {endpoint: "${BACKEND}/v1/traces"}
meter_provider:
  readers:
    - periodic:
        exporter:
          otlp_http: {endpoint: "${BACKEND}/v1/metrics"}
"""


def test_a_configuration_file(backend: Received, tmp_path: Path) -> None:
    """
    So does OTEL_CONFIG_FILE: a declarative configuration sets both providers up.
    """
    file = tmp_path / "otel.yaml"
    file.write_text(CONFIGURATION, "utf-8")
    python(
        INSTRUMENT,
        sys.executable,
        str(HERE / "app.py"),
        OTEL_CONFIG_FILE=str(file),
        BACKEND=f"http://{backend.address}",
    )

    arrived(backend)
    assert backend.spans[0]["resource"]["service.name"] == "support"


# --- a provider that is there stays -------------------------------------------------------------

KEEPS = """
import logging, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import memtrace
from memtrace import Session, export_to, managed_agent

logging.basicConfig()
kept, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracers, meters = TracerProvider(), MeterProvider([reader])
tracers.add_span_processor(SimpleSpanProcessor(kept))

@managed_agent
def answer(session): ...

def set_up():
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)

early = sys.argv[1] == "before"
if early:
    set_up()
answer(Session())
with export_to("otlp"):
    answer(Session())
if not early:
    set_up()
answer(Session())

assert trace.get_tracer_provider() is tracers
assert metrics.get_meter_provider() is meters
assert memtrace.config.current.tracer_provider is memtrace.config.current.meter_provider is None
assert len(kept.get_finished_spans()) == (3 if early else 1)
names = {m.name for r in reader.get_metrics_data().resource_metrics
         for s in r.scope_metrics for m in s.metrics}
assert "memtrace.memory.usage" in names
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_applications_providers_stay(when: str, backend: Received) -> None:
    """
    Providers that the application set, before memtrace's first use or after it, are its own still.
    """
    python("-c", KEEPS, when, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{backend.address}")

    assert len(backend.spans) == 1
    # Its metrics stay with the application's provider; where there was none, they are sent.
    assert bool(backend.metrics) is (when == "after")


def test_a_block_under_opentelemetry_instrument(backend: Received, tmp_path: Path) -> None:
    """
    An `export_to` in a program under `opentelemetry-instrument` takes nothing from its providers.
    """
    program = tmp_path / "app.py"
    program.write_text(
        "import sys, memtrace\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from app import answer\n"
        "with memtrace.export_to('console', file=sys.stdout):\n"
        "    answer(memtrace.Session(), 'why?')\n"
    )
    said = python(
        INSTRUMENT,
        sys.executable,
        str(program),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{backend.address}",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_LOGS_EXPORTER="none",
    )

    assert RUN in said
    assert RUN in [span["name"] for span in backend.spans]
    assert DURATION in backend.metrics
