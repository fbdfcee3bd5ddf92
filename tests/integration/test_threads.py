"""Many threads and many tasks at once: nothing is lost, counted twice, or mixed up."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from memtrace import Session, checkpoint, current_session, managed_agent, propagate

THREADS, CALLS, TASKS = 16, 50, 1_000
HELLO = {"role": "user", "content": "hello"}  # 4 tokens


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Run something in every thread, all of them let loose together."""
    ready = threading.Barrier(THREADS)

    def run(number: int) -> Any:
        ready.wait(60)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


@managed_agent(name="clerk")
def agent(session: Session, number: int) -> Session | None:
    """Adds four tokens to each layer but the agents' states, of which it keeps its own."""
    session.history.append(HELLO)
    session.active_contexts.add("one two three four")
    session.archived_contexts.add("one two three four")
    session.cache.put((number, object()), "one two three four")
    session.agent(f"agent {number}").state = {"number": number}
    return current_session()


@managed_agent(name="clerk")
async def async_agent(session: Session, number: int) -> Session | None:
    """The same, giving way in its middle."""
    session.history.append(HELLO)
    await asyncio.sleep(0)
    session.active_contexts.add("one two three four")
    await asyncio.sleep(0)
    return current_session()


def runs(reader: InMemoryMetricReader) -> int:
    """How many invocations the metrics counted."""
    data = reader.get_metrics_data()
    assert data is not None
    return sum(
        point.count  # type: ignore[union-attr]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "gen_ai.invoke_agent.duration"
        for point in metric.data.data_points
    )


def test_threads_on_one_session(spans: InMemorySpanExporter, metrics: InMemoryMetricReader) -> None:
    """
    Many threads on one session: exact totals, a span and a metric point for each call.
    """
    session = Session("shared", token_budget=1_000_000)
    at_once(lambda number: [agent(session, number) for _ in range(CALLS)])

    calls = THREADS * CALLS
    profile = session.profile()
    assert profile.layer_tokens[:3] == profile.layer_tokens[4:] * 3 == (4 * calls,) * 3
    assert len(session.agents) == THREADS
    assert session.recount() == profile
    assert len(spans.get_finished_spans()) == runs(metrics) == calls


def test_threads_on_sessions_of_their_own(
    spans: InMemorySpanExporter, metrics: InMemoryMetricReader
) -> None:
    """
    Many threads, each with its own session: nothing of one is found in another.
    """
    sessions = [Session(f"own {n}", token_budget=1_000_000) for n in range(THREADS)]
    found = at_once(lambda number: {agent(sessions[number], number) for _ in range(CALLS)})

    assert found == [{session} for session in sessions]
    assert {session.history.tokens for session in sessions} == {4 * CALLS}
    conversations = Counter(
        (span.attributes or {})["gen_ai.conversation.id"] for span in spans.get_finished_spans()
    )
    assert conversations == {session.id: CALLS for session in sessions}
    assert runs(metrics) == THREADS * CALLS


def test_threads_that_read_and_write(metrics: InMemoryMetricReader) -> None:
    """
    Profiles, recounts and collections at the same time as writing see whole states only.
    """
    session = Session("shared", token_budget=1_000_000)

    def work(number: int) -> None:
        for _ in range(CALLS):
            if number % 4 == 0:
                profile = session.recount() if number else session.profile()
                assert profile.total_tokens == sum(profile.layer_tokens)
                assert profile.conversation_history % 4 == 0
                metrics.get_metrics_data()
            else:
                agent(session, number)
                session.history.sync(session.messages()[:40])

    at_once(work)
    assert session.recount() == session.profile()
    assert len(session.history.items) == len(session.messages()) == len(session.history)


def test_threads_on_one_synchronised_list() -> None:
    """
    Threads that synchronise the same growing list leave it as one thread would.
    """
    messages = [{"role": "user", "content": f"message {n}"} for n in range(200)]
    session = Session()
    at_once(lambda number: [session.history.sync(messages[:n]) for n in range(number, 201, 8)])
    session.history.sync(messages)

    assert session.messages() == messages
    assert session.recount() == session.profile()


def test_loop_in_each_thread(spans: InMemorySpanExporter) -> None:
    """
    Event loops of several threads may share a session.
    """
    session = Session("shared", token_budget=1_000_000)

    async def work(number: int) -> None:
        await asyncio.gather(*(async_agent(session, number) for _ in range(CALLS)))

    at_once(lambda number: asyncio.run(work(number)))
    assert session.history.tokens == session.active_contexts.tokens == 4 * THREADS * CALLS
    assert len(spans.get_finished_spans()) == THREADS * CALLS


@pytest.mark.parametrize("shared", [True, False])
async def test_tasks(
    shared: bool, spans: InMemorySpanExporter, metrics: InMemoryMetricReader
) -> None:
    """
    A thousand tasks, on one session or on one each: exact totals, a span for each call.
    """
    one = Session("shared", token_budget=1_000_000)
    sessions = [one if shared else Session(f"own {n}") for n in range(TASKS)]
    found = await asyncio.gather(*(async_agent(s, n) for n, s in enumerate(sessions)))

    assert found == sessions
    assert sum(session.history.tokens for session in set(sessions)) == 4 * TASKS
    assert all(session.recount() == session.profile() for session in set(sessions))
    assert len(spans.get_finished_spans()) == runs(metrics) == TASKS
    assert all(span.parent is None for span in spans.get_finished_spans())


async def test_tasks_within_a_run(spans: InMemorySpanExporter) -> None:
    """
    Tasks that a run starts are its children, and run in its session.
    """
    session = Session("shared")

    @managed_agent(name="outer", session=session)
    async def outer() -> list[Session | None]:
        inner = managed_agent(name="inner")(current_session)
        return list(await asyncio.gather(*(asyncio.to_thread(inner) for _ in range(10))))

    assert await outer() == [session] * 10
    *children, parent = spans.get_finished_spans()
    assert [child.parent for child in children] == [parent.get_span_context()] * 10


def test_pool_without_and_with_propagate(
    spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    A thread pool loses the run; `propagate` carries session and span into it.
    """
    session = Session("shared")

    def look(*_: Any) -> tuple[Any, Any]:
        return current_session(), get_current_span()

    @managed_agent(session=session)
    def outer(pool: ThreadPoolExecutor) -> Any:
        here = current_session(), get_current_span()
        return here, pool.submit(look).result(), set(pool.map(propagate(look), range(20)))

    with ThreadPoolExecutor(4) as pool:
        here, lost, carried = outer(pool)
        assert lost[0] is None
        assert carried == {here}
        assert here[0] is session
        assert pool.submit(look).result()[0] is None


def test_propagate_keeps_what_the_function_says() -> None:
    """
    A propagated function takes the same arguments, and gives or raises the same.
    """

    def divide(a: int, /, *, by: int) -> float:
        """Division."""
        return a / by

    carried = propagate(divide)
    assert (carried.__name__, carried.__doc__) == ("divide", "Division.")
    assert carried(6, by=3) == 2
    with pytest.raises(ZeroDivisionError):
        carried(1, by=0)
    assert current_session() is None


def test_sessions_are_collected_while_others_run(metrics: InMemoryMetricReader) -> None:
    """
    Sessions that end while others run are collected, and what they did is counted once.
    """
    gone: list[weakref.ref[Session]] = []

    def work(number: int) -> None:
        for _ in range(CALLS):
            session = Session()
            agent(session, number)
            gone.append(weakref.ref(session))
            del session
            if number == 0:
                metrics.get_metrics_data()

    at_once(work)
    gc.collect()
    assert [ref() for ref in gone] == [None] * (THREADS * CALLS)
    data = metrics.get_metrics_data()
    assert data is not None
    added = {
        point.attributes["memtrace.layer.name"]: point.value  # type: ignore[index,union-attr]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "memtrace.layer.added"
        for point in metric.data.data_points
    }
    assert added["conversation_history"] == 4 * THREADS * CALLS


def test_checkpoints_in_threads(spans: InMemorySpanExporter) -> None:
    """
    Checkpoints of several threads do not see each other.
    """
    session = Session("shared")

    def work(number: int) -> None:
        for _ in range(CALLS):
            with checkpoint(session, f"step {number}"):
                assert get_current_span().name == f"memtrace.checkpoint step {number}"  # type: ignore[attr-defined]

    at_once(work)
    names = Counter(span.name for span in spans.get_finished_spans())
    assert {names[f"memtrace.checkpoint step {n}"] for n in range(THREADS)} == {CALLS}
