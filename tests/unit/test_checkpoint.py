"""Checkpoints: a task's step, with memory measured around it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, StatusCode, get_current_span

import memtrace
from memtrace import (
    ConfigurationError,
    Session,
    checkpoint,
    checkpoints,
    current_session,
    managed_agent,
)

BROKEN = LookupError("broken")


def steps(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    """Ended spans of checkpoints."""
    return [s for s in spans.get_finished_spans() if s.name.startswith("memtrace.checkpoint ")]


def test_block_runs_in_its_session(spans: InMemorySpanExporter) -> None:
    """
    Within the block its session and its span are current; after it, what was before.
    """
    session = Session()
    with checkpoint(session, "index") as step:
        assert current_session() is session
        assert get_current_span().name == "memtrace.checkpoint index"  # type: ignore[attr-defined]
    assert current_session() is None
    assert get_current_span() is INVALID_SPAN

    (span,) = steps(spans)
    assert span.attributes is not None
    assert span.attributes["memtrace.checkpoint.name"] == step.name == "index"
    assert span.attributes["memtrace.checkpoint.id"] == step.id


async def test_block_may_be_async(spans: InMemorySpanExporter) -> None:
    """
    `async with` does the same, across awaits.
    """
    session = Session()
    async with checkpoint(session, "index"):
        await asyncio.sleep(0)
        assert current_session() is session
    assert current_session() is None

    assert [span.name for span in steps(spans)] == ["memtrace.checkpoint index"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_blocks_error_passes(asynchronous: bool, spans: InMemorySpanExporter) -> None:
    """
    The block's exception comes out as the same object, and the span ends in error.
    """

    async def block() -> None:
        async with AsyncExitStack() as stack:
            if asynchronous:
                await stack.enter_async_context(checkpoint(Session()))
            else:
                stack.enter_context(checkpoint(Session()))
            raise BROKEN

    with pytest.raises(LookupError) as error:
        await block()
    assert error.value is BROKEN
    (span,) = steps(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "LookupError"
    assert current_session() is None


async def test_cancelled_block_ends_its_span(spans: InMemorySpanExporter) -> None:
    """
    A block that is cancelled ends its span in error, and the cancellation goes on.
    """

    async def work() -> None:
        async with checkpoint(Session()):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    (span,) = steps(spans)
    assert (span.attributes or {})["error.type"] == "asyncio.exceptions.CancelledError"


async def test_cancelled_on_entering(spans: InMemorySpanExporter) -> None:
    """
    A checkpoint cancelled in an async hook before its block ends its span and leaves no context.
    """
    session = Session()

    @session.on("checkpoint")
    async def hook(event: Any) -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        try:
            async with checkpoint(session):
                pytest.fail("entered")
        finally:
            assert current_session() is None

    task = asyncio.create_task(work())
    for _ in range(3):
        await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert len(steps(spans)) == 1


def test_blocks_nest(spans: InMemorySpanExporter) -> None:
    """
    A checkpoint within another, or within a run, makes a child span.
    """
    session = Session()

    @managed_agent(session=session)
    def agent() -> None:
        with checkpoint(session, "outer"), checkpoint(session, "inner"):
            pass

    agent()
    inner, outer = steps(spans)
    assert inner.parent == outer.get_span_context()
    assert outer.parent == spans.get_finished_spans()[-1].get_span_context()


def test_runs_within_a_block_are_its_children(spans: InMemorySpanExporter) -> None:
    """
    An agent called in the block runs in the block's session and span.
    """
    session = Session()
    with checkpoint(session, "index"):
        assert managed_agent(current_session)() is session

    run = spans.get_finished_spans()[-2]
    assert run.parent == steps(spans)[0].get_span_context()


def test_block_in_a_generator_that_is_left(spans: InMemorySpanExporter) -> None:
    """
    A block in a generator that is closed early ends its span without an error.
    """

    def work() -> Iterator[int]:
        with checkpoint(Session()):
            yield 1

    generator = work()
    next(generator)
    generator.close()

    assert [span.status.status_code for span in steps(spans)] == [StatusCode.UNSET]
    assert current_session() is None


def test_checkpoint_is_entered_once() -> None:
    """
    A checkpoint that was entered before is refused: each step is its own.
    """
    step = checkpoint(Session(), "index")
    with step:
        pass

    with pytest.raises(ConfigurationError, match="'index' was entered before: make a new one"):
        step.__enter__()


@pytest.mark.parametrize("given", [None, "support-42", Session])
def test_checkpoint_takes_a_session(given: Any) -> None:
    """
    What is no session is refused, in a checkpoint and in a loop of them, before it begins.
    """
    with pytest.raises(ConfigurationError, match="checkpoint takes a Session, got"):
        checkpoint(given, "index")
    with pytest.raises(ConfigurationError, match="checkpoint takes a Session, got"):
        checkpoints(given, [1])


def test_switched_off_the_block_just_runs(spans: InMemorySpanExporter) -> None:
    """
    Switched off, a checkpoint does nothing, also where it is switched on in the block.
    """
    memtrace.configure(enabled=False)
    with checkpoint(Session()):
        memtrace.configure(enabled=True)
        assert current_session() is None

    assert steps(spans) == []


# --- loops of them ------------------------------------------------------------------------------


def test_loop_makes_a_step_a_value(spans: InMemorySpanExporter) -> None:
    """
    Each value of an iterable is given as it is, in a checkpoint of its own.
    """
    session, values = Session(), [object(), object()]
    seen = [
        (value, current_session(), get_current_span()) for value in checkpoints(session, values)
    ]

    assert [value for value, _, _ in seen] == values
    assert [session for _, session, _ in seen] == [session, session]
    assert [span.name for span in steps(spans)] == [
        "memtrace.checkpoint step 0",
        "memtrace.checkpoint step 1",
    ]
    assert [span.get_span_context() for _, _, span in seen] == [
        span.get_span_context() for span in steps(spans)
    ]


def test_loop_steps_are_siblings(spans: InMemorySpanExporter) -> None:
    """
    Steps of a loop have the same parent, by the name that they were given.
    """
    session = Session()
    with checkpoint(session, "whole"):
        for _ in checkpoints(session, range(2), name="page"):
            pass

    *pages, whole = steps(spans)
    assert [page.parent for page in pages] == [whole.get_span_context()] * 2
    assert [page.name for page in pages] == [
        "memtrace.checkpoint page 0",
        "memtrace.checkpoint page 1",
    ]


def test_loop_left_early(spans: InMemorySpanExporter) -> None:
    """
    A loop that is left early leaves no context, and its last step is no error.
    """
    for value in checkpoints(Session(), range(5)):
        if value == 1:
            break
    gc.collect()

    assert current_session() is None
    assert [span.status.status_code for span in steps(spans)] == [StatusCode.UNSET] * 2


def test_loop_asks_for_values_as_it_goes() -> None:
    """
    Values are asked for one at a time, outside any checkpoint.
    """
    asked: list[Any] = []

    def values() -> Iterator[int]:
        for value in range(2):
            asked.append(current_session())
            yield value

    assert list(checkpoints(Session(), values())) == [0, 1]
    assert asked == [None, None]
