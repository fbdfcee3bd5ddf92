"""What managed calls cost the whole process, collection included: `python -m benchmarks.cpu`.

- *CPU*: processor time of the process, all threads of it, over so many seconds of calls at a
  fixed rate, less that of the same loop around the bare function. The kinds take turns in slices;
  at the end of a slice everything is flushed, and that counts too.
- *Managed*: spans through a batch processor to a do-nothing exporter, metrics through a reader
  that exports every second.
- *Raw*: the same number of calls with a hand-written span without attributes, the same batch
  processor, and no metrics.

And, of the histograms: what two such readers exported, one cumulative and one delta, is compared
with the number of calls made.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import Counter as SumCounter
from opentelemetry.sdk.metrics import Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

import memtrace
from benchmarks._agents import Called, call_often, full_session, tracing
from benchmarks._rounds import Row, report
from benchmarks.calls import bare, managed, raw

RESULTS = Path(__file__).parent / "results" / "cpu.json"
TICK_S = 0.01
SLICES = 6
_HISTOGRAMS = ("gen_ai.invoke_agent.duration", "memtrace.memory.utilization")


def paced(fn: Called, calls: int, rate: float) -> None:
    """Call a function so often, at a rate, in bursts of 10 ms; as fast as it goes where it lags."""
    session = full_session()
    burst = max(1, round(rate * TICK_S))
    due = time.perf_counter()
    for done in range(0, calls, burst):
        call_often(fn, session, min(burst, calls - done))
        due += TICK_S
        time.sleep(max(0.0, due - time.perf_counter()))


class Kept(MetricExporter):
    """An exporter that keeps the counts of histograms, by name and attributes."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        kinds = (SumCounter, Histogram, ObservableCounter)
        super().__init__(preferred_temporality=dict.fromkeys(kinds, temporality))
        self._delta = temporality is AggregationTemporality.DELTA
        self.counts: dict[tuple[str, Any], int] = {}

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_options: Any
    ) -> MetricExportResult:
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name in _HISTOGRAMS:
                        for point in metric.data.data_points:
                            self._add((metric.name, tuple((point.attributes or {}).items())), point)
        return MetricExportResult.SUCCESS

    def _add(self, series: tuple[str, Any], point: Any) -> None:
        before = self.counts.get(series, 0) if self._delta else 0
        self.counts[series] = before + point.count

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_options: Any) -> None:
        pass


def metering(*temporalities: AggregationTemporality) -> tuple[MeterProvider, list[Kept]]:
    """A provider with a reader of each temporality that exports every second."""
    exporters = [Kept(temporality) for temporality in temporalities]
    readers = [PeriodicExportingMetricReader(kept, 1_000) for kept in exporters]
    return MeterProvider(readers, shutdown_on_exit=False), exporters


# --- slices: each gives the CPU seconds it took ---------------------------------------------------


def spent(work: Callable[[], Any]) -> float:
    """CPU seconds of the whole process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def bare_slice(calls: int, rate: float) -> float:
    """The loop alone."""
    return spent(lambda: paced(bare, calls, rate))


def raw_slice(calls: int, rate: float) -> float:
    """Hand-written spans."""
    provider = tracing(batch=True)
    call = raw(provider.get_tracer("raw"))

    def work() -> None:
        paced(call, calls, rate)
        provider.force_flush()

    cpu = spent(work)
    provider.shutdown()
    return cpu


def managed_slice(calls: int, rate: float) -> float:
    """Managed calls, with spans and metrics."""
    provider = tracing(batch=True)
    meters, _ = metering(AggregationTemporality.CUMULATIVE)
    memtrace.configure(tracer_provider=provider, meter_provider=meters)

    def work() -> None:
        paced(managed, calls, rate)
        provider.force_flush()
        meters.force_flush()

    cpu = spent(work)
    provider.shutdown()
    meters.shutdown()
    return cpu


def cpu_rows(seconds: float, rate: float) -> list[Row]:
    """CPU of managed calls against raw ones."""
    kinds = {"bare": bare_slice, "raw": raw_slice, "managed": managed_slice}
    cpu = dict.fromkeys(kinds, 0.0)
    calls = round(seconds * rate / SLICES)
    for _ in range(SLICES):
        for kind, run in kinds.items():
            cpu[kind] += run(calls, rate)
    of_raw, of_managed = cpu["raw"] - cpu["bare"], cpu["managed"] - cpu["bare"]
    made = calls * SLICES
    return [
        Row("CPU of managed calls, collection included / raw", of_managed / of_raw, 3.0),
        Row("CPU of a raw call", of_raw / made * 1e6, unit="µs"),
        Row("CPU of a managed call", of_managed / made * 1e6, unit="µs"),
    ]


def count_rows(seconds: float, rate: float) -> list[Row]:
    """What histograms exported against the calls made."""
    meters, exporters = metering(AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA)
    provider = tracing(batch=True)
    memtrace.configure(tracer_provider=provider, meter_provider=meters)
    calls = round(seconds * rate)
    start = time.perf_counter()
    paced(managed, calls, rate)
    took = time.perf_counter() - start
    meters.shutdown()
    provider.shutdown()
    off = 0
    for kept in exporters:
        # One series of durations, and one of utilization for each of its two scopes.
        off += abs(3 - len(kept.counts)) * calls
        off += sum(abs(count - calls) for count in kept.counts.values())
    return [
        Row("histogram counts exported by two readers, away from calls made", off, 0, "calls"),
        Row("calls made a second", calls / took, unit="calls"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=10_000.0, help="calls a second")
    options = parser.parse_args(arguments)
    rows = [
        *cpu_rows(options.seconds, options.rate),
        *count_rows(min(options.seconds, 10.0), options.rate),
    ]
    return 0 if report("CPU of managed calls, and their metrics", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
