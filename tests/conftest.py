"""What every test stands on: an environment without settings of ours, and hypothesis' profiles."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import memtrace
from memtrace.telemetry import reviews

collect_ignore = ["typing"]  # for mypy and pyright: not to be run

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MEMTRACE_* or OTEL_* variable of the caller's shell reaches a test."""
    for name in list(os.environ):
        if name.startswith(("MEMTRACE_", "OTEL_")) and name != "MEMTRACE_SESSIONS":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """What a test configures is undone after it."""
    before = memtrace.configure()
    yield
    memtrace.configure(**{f.name: getattr(before, f.name) for f in dataclasses.fields(before)})


@pytest.fixture(autouse=True)
def _reviews() -> Iterator[None]:
    """The stores whose reviews a test's process counts are those of that test alone."""
    yield
    reviews.settle()
    for name in reviews.followed():
        reviews.forget(name)


@pytest.fixture
def tracer_provider() -> Iterator[TracerProvider]:
    """An SDK provider of its own, which memtrace is configured with; the global one is not set."""
    provider = TracerProvider()
    memtrace.configure(tracer_provider=provider)
    yield provider
    provider.shutdown()


@pytest.fixture
def spans(tracer_provider: TracerProvider) -> InMemorySpanExporter:
    """Where every span ended in the test is found."""
    exporter = InMemorySpanExporter()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def metrics() -> Iterator[InMemoryMetricReader]:
    """A reader of every metric of what happens in the test."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    memtrace.configure(meter_provider=provider)
    yield reader
    provider.shutdown()


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def recorded_sessions() -> list[Path]:
    """Recorded sessions, found through MEMTRACE_SESSIONS; none where that is unset."""
    folder = os.environ.get("MEMTRACE_SESSIONS")
    return sorted(Path(folder).glob("*/*.jsonl")) if folder else []


@pytest.fixture(scope="session")
def postgres(root: Path) -> Iterator[Any]:
    """A PostgreSQL server that runs as long as the tests do; see tests/postgres.py."""
    # Under importlib mode tests cannot import each other.
    path = root / "tests" / "postgres.py"
    spec = importlib.util.spec_from_file_location("memtrace_tests_postgres", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Server(fsync="off")  # of the machine's crash nothing is tested
    yield server
    server.remove()
