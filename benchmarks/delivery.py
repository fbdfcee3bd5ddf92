"""What sending costs, come what may: `python -m benchmarks.delivery [--json PATH] [--quick]`.

- *Backend down*: ``export_to`` in three tracer providers side by side, one to a backend in a
  process of its own that takes all, one to a port where nobody listens, one to a backend that
  takes connections and never answers. Batches of managed calls take turns between them; before the
  timing each queue that nobody empties is filled. What a call adds: its time less the bare
  function's. *By the SDK's own set-up*: the batch processor and exporter of OpenTelemetry alone,
  as ``opentelemetry-instrument`` makes them.
- *A million calls*: resident memory of a process that does nothing else, at its end less that
  after the first 100,000 calls (``--quick``: 200,000 and 50,000). Every span goes to a do-nothing
  exporter as it ends, and metrics are collected every 10,000 calls. The same *through export_to*,
  both signals sent in the background, is told without a bar: how many spans wait in the SDK's queue
  at a moment is some megabytes more or less.
- *One collection*: of all of memtrace's metrics by a reader that keeps them, for so many live
  sessions with items in all layers, a hundred of which took in a message since the last one.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import memtrace
from benchmarks._agents import call_often, full_session, tracing
from benchmarks._backends import black_hole, healthy, refused
from benchmarks._rounds import Row, report, rounds
from benchmarks.calls import CALLS, bare, managed
from memtrace import Session, config, export_to

RESULTS = Path(__file__).parent / "results" / "delivery.json"
QUEUE = 2_048
"""Spans that OpenTelemetry's batch processor holds."""

COLLECTED = 10_000
"""Calls between two collections while memory is measured."""

MESSAGE = {"role": "assistant", "content": "Its path has backslashes in it."}


class World(NamedTuple):
    """Providers of an application of its own.

    Args:
        enter: Makes calls go through them from now on.
        provider: That of spans.
    """

    enter: Callable[[], Any]
    provider: TracerProvider


# --- down against healthy -------------------------------------------------------------------------


def world(stack: ExitStack, url: str) -> World:
    """Providers of an application of its own, sent to a backend by `export_to`."""
    provider = TracerProvider(shutdown_on_exit=False)
    before = memtrace.configure(tracer_provider=provider, meter_provider=None)
    stack.enter_context(export_to(url, timeout_s=1))
    meters = config.current.meter_provider
    memtrace.configure(tracer_provider=before.tracer_provider, meter_provider=None)

    def enter() -> None:
        memtrace.configure(tracer_provider=provider, meter_provider=meters)

    return World(enter, provider)


def plain_world(url: str) -> World:
    """The same by OpenTelemetry's own batch processor, spans alone."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    return World(
        lambda: memtrace.configure(tracer_provider=provider, meter_provider=meters), provider
    )


def down_rows(count: int) -> list[Row]:
    """Calls with the backend down against calls with a healthy one."""
    session = full_session()
    with ExitStack() as stack:
        worlds = {
            "healthy": world(stack, stack.enter_context(healthy())),
            "refused": world(stack, refused()),
            "black hole": world(stack, stack.enter_context(black_hole())),
            "plain": plain_world(refused()),
        }
        for name, world_ in worlds.items():
            world_.enter()
            call_often(managed, session, CALLS if name == "healthy" else 2 * QUEUE)
        took = {
            clock: in_worlds(worlds, session, count, function)
            for clock, function in {"": time.perf_counter, "cpu": time.thread_time}.items()
        }

    def times(name: str, clock: str = "") -> float:
        base = took[clock]["bare"]
        return (took[clock][name] - base) / (took[clock]["healthy"] - base)

    return [
        Row("refused: added by a call / with a healthy backend", times("refused"), 1.1),
        Row("black hole: the same", times("black hole"), 1.1),
        Row("in CPU time: refused", times("refused", "cpu"), 1.1),
        Row("in CPU time: black hole", times("black hole", "cpu"), 1.1),
        Row("refused, by the SDK's own set-up", times("plain")),
        Row(
            "added by a call, healthy",
            (took[""]["healthy"] - took[""]["bare"]) / CALLS * 1e6,
            unit="µs",
        ),
    ]


def in_worlds(
    worlds: dict[str, World], session: Session, count: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median seconds of a batch in each world, taken in turn, and of the bare function's."""

    def timed(call: Any) -> float:
        start = clock()
        call_often(call, session, CALLS)
        return clock() - start

    names = list(worlds)
    seconds: dict[str, list[float]] = {name: [] for name in (*names, "bare")}
    for turn in range(count):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            worlds[name].enter()
            call_often(managed, session, 1)  # finds its tracer and its instruments
            seconds[name].append(timed(managed))
        seconds["bare"].append(timed(bare))
        worlds["healthy"].provider.force_flush()
    return {name: statistics.median(spent) for name, spent in seconds.items()}


# --- a million calls ------------------------------------------------------------------------------


def resident_bytes() -> int:
    """Resident memory of this process, once its garbage is gone."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def grow(place: str, first: int, calls: int) -> None:
    """Make so many calls, and print how many bytes grew after the first of them."""
    os.environ["OTEL_METRIC_EXPORT_INTERVAL"] = "1000"
    logging.disable()
    session, reader = full_session(), InMemoryMetricReader()

    def some(count: int) -> int:
        for _ in range(count // COLLECTED):
            call_often(managed, session, COLLECTED)
            if place == "nowhere":
                reader.collect()
        return resident_bytes()

    if place == "nowhere":
        meters = MeterProvider([reader], shutdown_on_exit=False)
        memtrace.configure(tracer_provider=tracing(), meter_provider=meters)
    with nullcontext() if place == "nowhere" else export_to(place, timeout_s=1):
        before = some(first)
        print(some(calls - first) - before)


def memory_rows(quick: bool) -> list[Row]:
    """Growth of a process of its own, by where its telemetry goes."""
    first, calls = (50_000, 200_000) if quick else (100_000, 1_000_000)
    rows = []
    with healthy() as url:
        for name, place in {"": "nowhere", "healthy": url, "refused": refused()}.items():
            command = [sys.executable, "-m", "benchmarks.delivery", "--grow", place]
            done = subprocess.run(
                [*command, str(first), str(calls)], capture_output=True, text=True, check=True
            )
            label = f"through export_to, {name}: the same"
            if not name:
                label = f"{calls:,} calls: growth of memory after the first {first:,}"
            rows.append(Row(label, int(done.stdout) / 1e6, None if name else 1.0, "MB"))
    return rows


# --- one collection -------------------------------------------------------------------------------


def collecting(sessions: int) -> tuple[list[Session], InMemoryMetricReader]:
    """So many live sessions, and a reader of their metrics."""
    reader = InMemoryMetricReader()
    memtrace.configure(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    made = [full_session() for _ in range(sessions)]
    for session in made[:100]:
        managed(session)
    return made, reader


def series(reader: InMemoryMetricReader) -> int:
    """How many points a collection gives."""
    data: Any = reader.get_metrics_data()
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def collection_rows(count: int) -> list[Row]:
    """A collection with many sessions against one with few."""
    few, reader_of_few = collecting(100)
    many, reader_of_many = collecting(10_000)

    def work() -> None:
        for session in (*few, *many[:100]):
            session.history.pop()
            session.history.append(MESSAGE)

    readers = {"few": reader_of_few.collect, "many": reader_of_many.collect}
    took = rounds(readers, count, between=work)
    more = series(reader_of_many) - series(reader_of_few)
    return [
        Row("one collection with 10,000 live sessions / with 100", took["many"] / took["few"], 20),
        Row("series exported with 10,000 less those with 100", more, 0, "series"),
        Row("one collection with 10,000 live sessions", took["many"] * 1e3, unit="ms"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and calls")
    parser.add_argument("--grow", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.grow:
        place, first, calls = options.grow
        grow(place, int(first), int(calls))
        return 0
    logging.disable()
    before = memtrace.configure()
    rows = [*down_rows(51 if options.quick else 301), *collection_rows(11)]
    memtrace.configure(tracer_provider=before.tracer_provider, meter_provider=before.meter_provider)
    rows += memory_rows(options.quick)
    return 0 if report("Sending, with the backend well and down", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
