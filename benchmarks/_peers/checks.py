"""The behaviour matrix: what a decorator must leave as it was. A check raises where it does not."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .backend import Ended
from .peer import Peer

Check = Callable[[Peer, list[Ended]], None]


class _Boom(Exception):
    """Raised by a body, to be known again."""


def returns(peer: Peer, ended: list[Ended]) -> None:
    """What a function returns, and what it raises, is the same object."""
    value, error = object(), _Boom("boom")

    @peer.decorate
    def give() -> object:
        return value

    @peer.decorate
    def fail() -> None:
        raise error

    assert give() is value
    raised: BaseException | None = None
    try:
        fail()
    except _Boom as caught:
        raised = caught
    assert raised is error
    assert [span.failed for span in ended] == [False, True], f"ended: {ended}"


def generator_sends(peer: Peer, ended: list[Ended]) -> None:
    """What is sent or thrown into a generator arrives."""

    @peer.decorate
    def talk() -> Any:
        got = yield "first"
        try:
            yield f"got {got}"
        except _Boom:
            yield "caught"

    steps = talk()
    assert [next(steps), steps.send("this"), steps.throw(_Boom())] == [
        "first",
        "got this",
        "caught",
    ]


def generator_returns(peer: Peer, ended: list[Ended]) -> None:
    """A generator's return value reaches who delegates to it."""

    @peer.decorate
    def inner() -> Any:
        yield 1
        return "value"

    def outer() -> Any:
        got = yield from inner()
        yield got

    assert list(outer()) == [1, "value"]
    assert len(ended) == 1, f"ended: {ended}"


def async_generator_sends(peer: Peer, ended: list[Ended]) -> None:
    """What is sent into an async generator arrives."""

    @peer.decorate
    async def talk() -> Any:
        got = yield "first"
        yield f"got {got}"

    async def main() -> list[Any]:
        steps = talk()
        said = [await anext(steps), await steps.asend("this")]
        await steps.aclose()
        return said

    assert asyncio.run(main()) == ["first", "got this"]


def early_close(peer: Peer, ended: list[Ended]) -> None:
    """A generator closed early runs its ``finally``, and its span ends, once, without an error."""
    closed = []

    @peer.decorate
    def steps() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("sync")

    @peer.decorate
    async def async_steps() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("async")

    async def main() -> None:
        one = async_steps()
        await anext(one)
        await one.aclose()

    one = steps()
    next(one)
    one.close()
    assert closed == ["sync"]
    assert [span.failed for span in ended] == [False], f"ended: {ended}"
    asyncio.run(main())
    assert closed == ["sync", "async"]
    assert [span.failed for span in ended] == [False, False], f"ended: {ended}"


def close_elsewhere(peer: Peer, ended: list[Ended]) -> None:
    """An async generator closed by another task ends, and nothing is complained about."""
    said: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]

    @peer.decorate
    async def steps() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def main() -> None:
        one = steps()
        await asyncio.create_task(one.__anext__())  # type: ignore[arg-type]
        await asyncio.create_task(one.aclose())  # type: ignore[attr-defined]

    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    for logger in loggers:
        logger.addHandler(listener)
    try:
        asyncio.run(main())
    finally:
        for logger in loggers:
            logger.removeHandler(listener)
    assert not [text for text in said if "context" in text.lower()], said[0]
    assert len(ended) == 1, f"ended: {ended}"


def timeout_inside(peer: Peer, ended: list[Ended]) -> None:
    """A timeout that an async generator holds over a ``yield`` fires in its body."""

    @peer.decorate
    async def steps() -> AsyncIterator[str]:
        task = asyncio.current_task()
        if hasattr(asyncio, "timeout"):
            try:
                async with asyncio.timeout(0.05):
                    yield "begun"
                    await asyncio.sleep(2)
            except TimeoutError:
                yield "timed out"
        else:  # what the timeout rests on: every step runs in the task that asked for it
            yield "begun"
            yield "timed out" if asyncio.current_task() is task else "in another task"

    async def main() -> list[str]:
        return [step async for step in steps()]

    began = time.monotonic()
    assert asyncio.run(main()) == ["begun", "timed out"]
    assert time.monotonic() - began < 1.5


def stays_inside(peer: Peer, ended: list[Ended]) -> None:
    """Between a generator's steps its span is not current to who steps it."""

    @peer.decorate
    def steps() -> Iterator[Any]:
        yield peer.current()
        yield peer.current()

    @peer.decorate
    async def async_steps() -> AsyncIterator[Any]:
        yield peer.current()
        yield peer.current()

    async def main() -> None:
        outside = peer.current()
        one = async_steps()
        inside = await anext(one)
        assert peer.current() == outside != inside, "the async generator's span leaked"
        assert await anext(one) == inside
        assert [step async for step in one] == []

    outside = peer.current()
    one = steps()
    inside = next(one)
    assert peer.current() == outside != inside, "the generator's span leaked"
    assert next(one) == inside
    assert list(one) == []
    asyncio.run(main())


def class_methods(peer: Peer, ended: list[Ended]) -> None:
    """Class and static methods work, in either order of decorators."""

    class Agent:
        @peer.decorate
        @classmethod
        def above(cls, x: int) -> Any:
            return cls, x

        @classmethod
        @peer.decorate
        def below(cls, x: int) -> Any:
            return cls, x

        @peer.decorate
        @staticmethod
        def above_static(x: int) -> Any:
            return x

        @staticmethod
        @peer.decorate
        def below_static(x: int) -> Any:
            return x

    assert [Agent.below(1), Agent().below(1)] == [(Agent, 1)] * 2
    assert [Agent.below_static(1), Agent().below_static(1)] == [1, 1]
    assert [Agent.above(1), Agent().above(1)] == [(Agent, 1)] * 2
    assert [Agent.above_static(1), Agent().above_static(1)] == [1, 1]
    assert len(ended) == 8, f"{len(ended)} spans of 8 calls ended"


def partials(peer: Peer, ended: list[Ended]) -> None:
    """Partials work, of a coroutine function too, which stays one."""

    def add(x: int, y: int) -> int:
        return x + y

    async def wait(x: int, y: int) -> int:
        await asyncio.sleep(0)
        return x + y

    added = peer.decorate(functools.partial(add, 1))
    assert added(2) == 3
    waited = peer.decorate(functools.partial(wait, 1))

    async def main() -> int:
        got = waited(2)
        assert not ended[1:], "its span ended before it ran"
        return int(await got)

    assert asyncio.run(main()) == 3
    assert len(ended) == 2, f"ended: {ended}"


def same_kind(peer: Peer, ended: list[Ended]) -> None:
    """``inspect`` sees what it saw: the kind of function, its name and its parameters."""

    async def coroutine(question: str) -> str:
        """Doc."""
        return question

    def generator(question: str) -> Iterator[str]:
        yield question

    async def async_generator(question: str) -> AsyncIterator[str]:
        yield question

    assert inspect.iscoroutinefunction(peer.decorate(coroutine))
    assert inspect.isgeneratorfunction(peer.decorate(generator))
    assert inspect.isasyncgenfunction(peer.decorate(async_generator))
    assert peer.decorate(coroutine).__doc__ == "Doc."
    assert inspect.signature(peer.decorate(coroutine)) == inspect.signature(coroutine)


class _Hostile:
    def __repr__(self) -> str:
        raise _Boom("repr")

    __str__ = __repr__

    def __deepcopy__(self, memo: Any) -> Any:
        raise _Boom("deepcopy")


def hostile_repr(peer: Peer, ended: list[Ended]) -> None:
    """An argument that cannot be shown or copied reaches the body, and comes back."""
    hostile = _Hostile()

    @peer.decorate
    def give(thing: Any) -> Any:
        return thing

    assert give(hostile) is hostile
    assert len(ended) == 1, f"ended: {ended}"


def cancellation(peer: Peer, ended: list[Ended]) -> None:
    """A cancelled coroutine is cancelled, and its span ends with an error."""

    @peer.decorate
    async def wait() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
        raise AssertionError("the cancellation was lost")

    asyncio.run(main())
    assert [span.failed for span in ended] == [True], f"ended: {ended}"


CHECKS: dict[str, Check] = {
    "what is returned or raised is the same object": returns,
    "`send` and `throw` reach a generator": generator_sends,
    "a generator's return value": generator_returns,
    "`asend` reaches an async generator": async_generator_sends,
    "early close ends body and span, once, without an error": early_close,
    "close from another task": close_elsewhere,
    "`asyncio.timeout` inside an async generator": timeout_inside,
    "no context leaks between steps": stays_inside,
    "class and static methods, either order": class_methods,
    "partials": partials,
    "`inspect` sees kind, name and parameters": same_kind,
    "an argument whose `repr` raises": hostile_repr,
    "cancellation ends the span as an error": cancellation,
}
