"""The five shapes that are timed, each bare, in a hand-written span, and decorated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

from opentelemetry.trace import Tracer

from benchmarks._rounds import rounds

from .backend import provider
from .peer import Peer

SHAPES = ("sync", "async", "method", "generator", "async generator")
YIELDS = 10
CALLS = 40
"""Calls timed together, at most."""
BATCH_S = 0.001
"""So many calls of a dear decorator: what outlasts the scheduler's slice holds others' work too."""
QUESTION = "Why does the second test fail?"

Batch = Callable[[int], None]
Wrap = Callable[[Any], Any]


def plain(question: str) -> str:
    """The function that is decorated."""
    return question


async def coroutine(question: str) -> str:
    """The coroutine function."""
    return question


def generator(question: str) -> Iterator[int]:
    """The generator function: ten steps."""
    yield from range(YIELDS)


async def async_generator(question: str) -> AsyncIterator[int]:
    """The async generator function: ten steps."""
    for number in range(YIELDS):
        yield number


def hand_written(tracer: Tracer) -> dict[str, Any]:
    """The same in a span written by hand, without attributes."""

    def plain(question: str) -> str:
        with tracer.start_as_current_span("x"):
            return question

    async def coroutine(question: str) -> str:
        with tracer.start_as_current_span("x"):
            return question

    def generator(question: str) -> Iterator[int]:
        with tracer.start_as_current_span("x"):
            yield from range(YIELDS)

    async def async_generator(question: str) -> AsyncIterator[int]:
        with tracer.start_as_current_span("x"):
            for number in range(YIELDS):
                yield number

    return {
        "sync": plain,
        "async": coroutine,
        "method": plain,
        "generator": generator,
        "async generator": async_generator,
    }


BARE = {
    "sync": plain,
    "async": coroutine,
    "method": plain,
    "generator": generator,
    "async generator": async_generator,
}


def batch(shape: str, fn: Any, wrap: Wrap, loop: asyncio.AbstractEventLoop) -> Batch:
    """Calls of a function of that shape, decorated; how many, it is told."""
    if shape == "method":

        class Agent:
            @wrap
            def step(self, question: str) -> Any:
                return fn(question)

        return _methods(Agent())
    called = wrap(fn)

    def functions(calls: int) -> None:
        for _ in repeat(None, calls):
            called(QUESTION)

    def generators(calls: int) -> None:
        for _ in repeat(None, calls):
            for _ in called(QUESTION):
                pass

    async def awaits(calls: int) -> None:
        for _ in repeat(None, calls):
            await called(QUESTION)

    async def steps(calls: int) -> None:
        for _ in repeat(None, calls):
            async for _ in called(QUESTION):
                pass

    if shape == "async":
        return lambda calls: loop.run_until_complete(awaits(calls))
    if shape == "async generator":
        return lambda calls: loop.run_until_complete(steps(calls))
    return generators if shape == "generator" else functions


def _methods(agent: Any) -> Batch:
    def methods(calls: int) -> None:
        for _ in repeat(None, calls):
            agent.step(QUESTION)

    return methods


class Timing:
    """All shapes of a peer, ready to be timed turn by turn."""

    def __init__(self, peer: Peer) -> None:
        self._loop = asyncio.new_event_loop()
        self._between = peer.between
        by_hand = hand_written(provider("recording").get_tracer("by hand"))
        self._batches = {
            shape: {
                "bare": batch(shape, BARE[shape], lambda fn: fn, self._loop),
                "by hand": batch(shape, by_hand[shape], lambda fn: fn, self._loop),
                "decorated": batch(shape, BARE[shape], peer.decorate, self._loop),
            }
            for shape in SHAPES
        }

        self._calls = {shape: self._fitting(named) for shape, named in self._batches.items()}

    def _fitting(self, batches: dict[str, Batch]) -> int:
        """How many calls of the dearest make a batch."""
        took = rounds({name: partial(run, 2) for name, run in batches.items()}, 9)
        self._between()
        return max(2, min(CALLS, round(BATCH_S / max(took.values()) * 2)))

    def turn(self, shape: str, count: int) -> tuple[float, float]:
        """Seconds that a span by hand, and the decorator, add to one call; medians."""
        calls = self._calls[shape]
        batches = {name: partial(run, calls) for name, run in self._batches[shape].items()}
        took = rounds(batches, count, between=self._between, collecting=True)
        bare = took["bare"]
        return (took["by hand"] - bare) / calls, (took["decorated"] - bare) / calls
