"""The demo's agents at work on a small package that never changes: a program for the tests to run.

    python work.py FOLDER      makes the package there, and prints what memtrace handed over

Its telemetry goes where the environment's OTEL_* say. The package, and what its programs print,
are the same on every machine, so tokens and with them all that the loop does are too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from opentelemetry import metrics as metrics_api
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import memtrace
from memtrace.captured import point
from memtrace.demo import Journal, Tools, Workbench, planner
from memtrace.prices import Price

TOKEN_BUDGET = 2_700
"""Half of what the work would fill, so that every action of the loop is in the trace."""

NAMES = {"bird": ["Heron", "Stork"], "fish": ["Perch", "Trout"], "tree": ["Alder", "Birch"]}


class SameEverywhere(Tools):
    """Tools whose programs tell their outcome and nothing of the machine."""

    def run(self, code: str) -> str:
        if "run_path" in code:
            return "exit 1\nImportError: attempted relative import with no known parent package"
        return "exit 0\nall well"


def make_package(folder: Path) -> None:
    """A package of three modules with two classes each, on which the others call."""
    for module, names in NAMES.items():
        lines = [f'"""What is known of each {module}."""\n']
        for name in names:
            others = [other for group in NAMES.values() for other in group if other != name]
            lines += [
                f"class {name}:",
                f'    """A {module} by the name of {name.lower()}."""\n',
                *(f"    def near_{other.lower()}(self) -> {other}: ..." for other in others),
                *(f"    # {name} number {n} was seen in May, at noon." for n in range(12)),
                "",
            ]
        (folder / f"{module}.py").write_text("\n".join(lines), "utf-8")
    imports = [f"from .{module} import {', '.join(names)}" for module, names in NAMES.items()]
    public = [name for names in NAMES.values() for name in names]
    (folder / "__init__.py").write_text("\n".join([*imports, f"__all__ = {public}"]), "utf-8")


def work(folder: Path) -> None:
    """What the demo does."""
    make_package(folder)
    # Where no read is cached every pass pays, so each is made where its threshold is.
    policy = memtrace.Policy(prices=Price(cached_read=1.0, cache_write=1.0))
    session = memtrace.Session("demo", token_budget=TOKEN_BUDGET, policy=policy)
    try:
        session.active_contexts.add("You write about a package.", key="system", kind="system")
        bench = Workbench(session, SameEverywhere(folder))
        Journal(bench)
        planner(session, bench)
    finally:
        session.close()


def handed_over(kept: InMemorySpanExporter, reader: InMemoryMetricReader) -> dict[str, Any]:
    """What the SDK was given, in the form in which the receiver has it."""
    data: Any = reader.get_metrics_data()
    return {
        "spans": [json.loads(span.to_json()) for span in kept.get_finished_spans()],
        "metrics": {
            metric.name: sorted((point(p) for p in metric.data.data_points), key=str)
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
        },
    }


def main() -> None:
    """Send it, and print what was handed over."""
    kept, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    memtrace.configure(tracer_provider=provider)
    with memtrace.export_to("otlp"):
        meters: Any = memtrace.config.current.meter_provider or metrics_api.get_meter_provider()
        meters.add_metric_reader(reader)
        work(Path(sys.argv[1]))
        told = handed_over(kept, reader)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
