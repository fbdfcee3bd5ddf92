"""What a managed call adds to the caller's wall time: `python -m benchmarks.calls [--json PATH]`.

- *Added*: the time of a call less that of the bare function. Medians of interleaved rounds.
- *Raw*: the same function with a hand-written ``with tracer.start_as_current_span("x"):`` and no
  attributes in it, recording SDK provider, do-nothing exporter, same process.
- *Same attributes*: the same with all attributes that the managed call's span ends with, in a
  dictionary made beforehand.
- *Managed*: ``@managed_agent`` on the same function, with a session that has items in all five
  layers, agent states under 200 bytes, and no hook.

Both signals have a real SDK provider. Metrics are collected between the timings and not within
them: the points of a run are recorded at collection, off the caller's path. `benchmarks.cpu`
counts that. The garbage collector runs as it does in an application. Rows *in CPU time* are by the
thread's own clock, which a busy machine does not move.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Tracer

import memtrace
from benchmarks._agents import Called, call_often, full_session, tracing
from benchmarks._rounds import Row, report, rounds
from memtrace import Session, managed_agent

RESULTS = Path(__file__).parent / "results" / "calls.json"
CALLS = 40
"""Calls timed together: about a millisecond. Batches that outlast the scheduler's slice hold
others' work too, the longer ones more of it: on two cores under a load of 5, batches of 80 to 200
calls gave ratios of 2.2 to 6.3 by the clock, and 2.1 to 2.2 in CPU time."""

Batch = Callable[[], None]


def bare(session: Session) -> Session:
    """The function itself."""
    return session


@managed_agent
def managed(session: Session) -> Session:
    """The function, managed."""
    return session


def raw(tracer: Tracer, **options: Any) -> Called:
    """The function in a hand-written span."""

    def call(session: Session) -> Session:
        with tracer.start_as_current_span("x", **options):
            return session

    return call


def functions(fn: Called, session: Session) -> Batch:
    """A batch of calls of a function."""
    return lambda: call_often(fn, session, CALLS)


# --- methods and coroutines ---------------------------------------------------------------------


def methods(tracer: Tracer, session: Session) -> dict[str, Batch]:
    """Batches of calls of a method, which is looked up at each call as it is in real code."""

    class Bare:
        def step(self, session: Session) -> Session:
            return session

    class Raw:
        def step(self, session: Session) -> Session:
            with tracer.start_as_current_span("x"):
                return session

    class Managed:
        @managed_agent
        def step(self, session: Session) -> Session:
            return session

    def batch(thing: Any) -> Batch:
        def run() -> None:
            for _ in repeat(None, CALLS):
                thing.step(session)

        return run

    return {
        "bare method": batch(Bare()),
        "raw method": batch(Raw()),
        "managed method": batch(Managed()),
    }


def coroutines(
    tracer: Tracer, session: Session, loop: asyncio.AbstractEventLoop
) -> dict[str, Batch]:
    """Batches of awaits of a coroutine, all of a batch in one task."""

    async def bare(session: Session) -> Session:
        return session

    async def raw(session: Session) -> Session:
        with tracer.start_as_current_span("x"):
            return session

    @managed_agent
    async def managed(session: Session) -> Session:
        return session

    def batch(fn: Any) -> Batch:
        async def awaits() -> None:
            for _ in repeat(None, CALLS):
                await fn(session)

        return lambda: loop.run_until_complete(awaits())

    return {"bare async": batch(bare), "raw async": batch(raw), "managed async": batch(managed)}


# --- sessions of other kinds --------------------------------------------------------------------


def large_state() -> Session:
    """A session with an agent's state of 20 KB."""
    session = full_session()
    line = "what was found there, in a sentence or two of some eighty characters or so"
    session.agent("reader").state = {f"src/file_{n}.py": line for n in range(205)}
    return session


def hooked() -> Session:
    """A session with one hook that does nothing."""
    session = full_session()
    session.on("after_run")(lambda event: None)
    return session


def deadline() -> Session:
    """A session with a cached value that has a time to live."""
    session = full_session()
    session.cache.put("weather", "rain", ttl_s=86_400)
    return session


def crowded() -> Session:
    """A session with ten agents."""
    session = full_session()
    for number in range(8):
        session.agent(f"agent {number}").state = {"step": number}
    return session


OTHERS = {
    "agent state of 20 KB": large_state,
    "one hook that does nothing": hooked,
    "cached value with a time to live": deadline,
    "ten agents": crowded,
}


# --- rows ---------------------------------------------------------------------------------------


def attributes_of(session: Session, meters: MeterProvider) -> dict[str, Any]:
    """All attributes that a managed call's span ends with."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    memtrace.configure(tracer_provider=provider, meter_provider=meters)
    managed(session)
    return dict(exporter.get_finished_spans()[0].attributes or {})


def recording_rows(meters: MeterProvider, collect: Batch, count: int) -> list[Row]:
    """Rows of calls whose spans are recorded."""
    session = full_session()
    attributes = attributes_of(session, meters)
    provider = tracing()
    tracer = provider.get_tracer("raw")
    memtrace.configure(tracer_provider=provider, meter_provider=meters)
    loop = asyncio.new_event_loop()
    batches: dict[str, Batch] = {
        "bare": functions(bare, session),
        "raw": functions(raw(tracer), session),
        "same attributes": functions(raw(tracer, attributes=attributes), session),
        "managed": functions(managed, session),
        **methods(tracer, session),
        **coroutines(tracer, session, loop),
        **{name: functions(managed, make()) for name, make in OTHERS.items()},
    }
    took = rounds(batches, count, between=collect, collecting=True)
    some = {name: run for name, run in batches.items() if name not in OTHERS}
    cpu = rounds(some, count, between=collect, collecting=True, clock=time.thread_time)
    loop.close()

    def in_cpu_time(kind: str) -> float:
        base = cpu[f"bare{kind}"]
        return (cpu[f"managed{kind}"] - base) / (cpu[f"raw{kind}"] - base)

    def added(name: str, base: str = "bare") -> float:
        return took[name] - took[base]

    base = added("raw")
    of_function = added("managed") / base
    of_method = added("managed method", "bare method") / added("raw method", "bare method")
    of_coroutine = added("managed async", "bare async") / added("raw async", "bare async")
    return [
        Row("added by a managed call / raw", of_function, 1.75),
        Row("the same of a coroutine, / that of a function", of_coroutine / of_function, 1.15),
        Row("the same of a method, / that of a function", of_method / of_function, 1.15),
        Row("/ a span with the same attributes", added("managed") / added("same attributes"), 1.25),
        *(Row(f"{name}: added / raw", added(name) / base) for name in OTHERS),
        Row("added by a raw span", base / CALLS * 1e6, unit="µs"),
        Row("added by a managed call", added("managed") / CALLS * 1e6, unit="µs"),
        Row("added by a managed coroutine / raw", of_coroutine),
        Row("added by a managed method / raw", of_method),
        Row("in CPU time: added by a managed call / raw", in_cpu_time("")),
        Row("in CPU time: added by a managed coroutine / raw", in_cpu_time(" async")),
        Row("in CPU time: added by a managed method / raw", in_cpu_time(" method")),
    ]


def unsampled_rows(meters: MeterProvider, collect: Batch, count: int) -> list[Row]:
    """The row of calls whose spans are not sampled, against raw ones that are not either."""
    session = full_session()
    provider = tracing(ALWAYS_OFF)
    memtrace.configure(tracer_provider=provider, meter_provider=meters)
    batches = {
        "bare": functions(bare, session),
        "raw": functions(raw(provider.get_tracer("raw")), session),
        "managed": functions(managed, session),
    }
    took = rounds(batches, count, between=collect, collecting=True)
    ratio = (took["managed"] - took["bare"]) / (took["raw"] - took["bare"])
    return [Row("unsampled: added / raw unsampled", ratio, 1.8)]


def off_rows(count: int) -> list[Row]:
    """The row of calls while memtrace is switched off."""
    session = full_session()
    before = memtrace.configure(enabled=False)
    batches = {"bare": functions(bare, session), "managed": functions(managed, session)}
    took = rounds(batches, count, collecting=True)
    memtrace.configure(enabled=before.enabled)
    return [Row("switched off: added", (took["managed"] - took["bare"]) / CALLS * 1e6, 2, "µs")]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=501)
    options = parser.parse_args(arguments)
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    rows = [
        *recording_rows(meters, reader.collect, options.rounds),
        *unsampled_rows(meters, reader.collect, options.rounds),
        *off_rows(options.rounds),
    ]
    return 0 if report("A managed call on the caller's path", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
