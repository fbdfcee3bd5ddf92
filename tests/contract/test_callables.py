"""The contract of ``@managed_agent``: every kind of callable × every way out of it.

A *scenario* is a body and a consumer that drives it. Each scenario is run twice, with the bare
function and with the decorated one, and whatever the consumer saw must be the same: values and
exceptions by identity, warnings, logs, exceptions that could not be raised. Then the decorated
run's telemetry is looked at. A *placement* is how the body was made a callable.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import functools
import gc
import inspect
import logging
import pickle
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, StatusCode, get_current_span

import memtrace
from memtrace import Session, current_session, managed_agent


class BrokenError(Exception):
    """What bodies and consumers raise."""


VALUE, OTHER = object(), object()
BROKEN = BrokenError("of the body")
THROWN = BrokenError("of the consumer")
SESSION = Session("contract")


class World:
    """What one run of a scenario sees: in the body, and as its consumer."""

    def __init__(self, provider: TracerProvider) -> None:
        self.tracer = provider.get_tracer("of the consumer")
        self.consumer: Span | None = None
        self.outcomes: list[Any] = []
        self.leaks: list[Any] = []
        self.inside: list[tuple[Session | None, Span]] = []
        self.called = 0

    def begin(self) -> None:
        """Said by a body when it starts."""
        self.called += 1
        self.look()

    def look(self) -> None:
        """Said by a body: what is current in it now."""
        self.inside.append((current_session(), get_current_span()))

    def check(self) -> None:
        """Said by a consumer between steps: nothing of the body may be current."""
        if current_session() is not None or get_current_span() is not self.consumer:
            self.leaks.append((current_session(), get_current_span()))

    def note(self, call: Callable[[], Any]) -> None:
        """Do something as the consumer, and keep what came of it."""
        try:
            self.outcomes.append(("gave", call()))
        except BaseException as error:
            self.outcomes.append(("raised", _told(error)))
        self.check()

    async def anote(self, awaitable: Awaitable[Any]) -> None:
        """The same for something to await."""
        try:
            self.outcomes.append(("gave", await awaitable))
        except BaseException as error:
            self.outcomes.append(("raised", _told(error)))
        self.check()


def _told(error: BaseException) -> Any:
    """An exception by identity where it is the scenario's own, else by all it says."""
    if isinstance(error, BrokenError):
        return error
    return type(error), str(error), type(error.__cause__)


class Pause:
    """Something to await for who steps a coroutine by hand."""

    def __await__(self) -> Iterator[Any]:
        return (yield VALUE)


def at_once() -> Any:
    """A timeout that is over as soon as the loop turns."""
    return asyncio.timeout(0) if sys.version_info >= (3, 11) else contextlib.AsyncExitStack()


async def forever() -> None:
    """Wait; on 3.10, where there is no asyncio.timeout, until that is over."""
    if sys.version_info >= (3, 11):
        await asyncio.Event().wait()
    else:
        await asyncio.wait_for(asyncio.Event().wait(), 1e-9)


async def turns() -> None:
    """Let the loop do all that is due."""
    for _ in range(5):
        await asyncio.sleep(0)


Start = Callable[[], Any]


@dataclass(frozen=True)
class Scenario:
    """A body, its consumer, and what telemetry must say of it.

    Args:
        body: The function; its last argument is the World.
        drive: The consumer; given what starts the body, and the World.
        spans: How many ended spans there must be.
        error: What the span must call its error; None: the run is no error.
    """

    body: Callable[..., Any]
    drive: Callable[[Start, World], Any]
    spans: int = 1
    error: type[BaseException] | None = None

    @property
    def shape(self) -> str:
        return shape(self.body)


def shape(body: Callable[..., Any]) -> str:
    """Which of the four kinds of function a body is."""
    if inspect.iscoroutinefunction(body):
        return "coroutine"
    if inspect.isasyncgenfunction(body):
        return "async generator"
    return "generator" if inspect.isgeneratorfunction(body) else "function"


# --- bodies -------------------------------------------------------------------------------------


def returns(*args: Any) -> Any:
    args[-1].begin()
    return VALUE


def raises(*args: Any) -> Any:
    args[-1].begin()
    raise BROKEN


def interrupts(*args: Any) -> Any:
    args[-1].begin()
    raise KeyboardInterrupt


def exits(*args: Any) -> Any:
    args[-1].begin()
    raise SystemExit(3)


async def co_returns(*args: Any) -> Any:
    args[-1].begin()
    await asyncio.sleep(0)
    args[-1].look()
    return VALUE


async def co_returns_at_once(*args: Any) -> Any:
    args[-1].begin()
    return VALUE


async def co_raises(*args: Any) -> Any:
    args[-1].begin()
    await asyncio.sleep(0)
    raise BROKEN


async def co_waits(*args: Any) -> Any:
    args[-1].begin()
    try:
        await asyncio.Event().wait()
    finally:
        args[-1].look()


async def co_times_out(*args: Any) -> Any:
    args[-1].begin()
    async with at_once():
        await forever()


async def co_survives_timeout(*args: Any) -> Any:
    args[-1].begin()
    with contextlib.suppress(asyncio.TimeoutError):
        async with at_once():
            await forever()
    args[-1].look()
    return VALUE


async def co_survives_cancel(*args: Any) -> Any:
    args[-1].begin()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return VALUE


async def co_pauses(*args: Any) -> Any:
    args[-1].begin()
    given = await Pause()
    try:
        await Pause()
    except BrokenError:
        await Pause()
    args[-1].look()
    return given


async def co_ignores_exit(*args: Any) -> Any:
    args[-1].begin()
    try:
        await Pause()
    except GeneratorExit:
        await Pause()


def gen_returns(*args: Any) -> Any:
    args[-1].begin()
    yield VALUE
    args[-1].look()
    yield OTHER
    return BROKEN


def gen_raises(*args: Any) -> Any:
    args[-1].begin()
    yield VALUE
    raise BROKEN


def gen_echoes(*args: Any) -> Any:
    args[-1].begin()
    given: Any = None
    while given is not VALUE:
        args[-1].look()
        try:
            given = yield given
        except BrokenError as error:
            given = error
    return given


def gen_cleans_up(*args: Any) -> Any:
    args[-1].begin()
    try:
        yield VALUE
        yield OTHER
    finally:
        args[-1].look()


def gen_ignores_exit(*args: Any) -> Any:
    args[-1].begin()
    try:
        yield VALUE
    except GeneratorExit:
        yield OTHER


gen_lambda = lambda *args: (args[-1].begin(), (yield VALUE), args[-1].look())  # noqa: E731


def gen_answers_exit(*args: Any) -> Any:
    args[-1].begin()
    try:
        yield VALUE
    except GeneratorExit:
        return OTHER


def gen_raises_on_exit(*args: Any) -> Any:
    args[-1].begin()
    try:
        yield VALUE
    finally:
        raise BROKEN


async def agen_returns(*args: Any) -> Any:
    args[-1].begin()
    yield VALUE
    await asyncio.sleep(0)
    args[-1].look()
    yield OTHER


async def agen_raises(*args: Any) -> Any:
    args[-1].begin()
    yield VALUE
    raise BROKEN


async def agen_echoes(*args: Any) -> Any:
    args[-1].begin()
    given: Any = None
    while given is not VALUE:
        args[-1].look()
        try:
            given = yield given
        except BrokenError as error:
            given = error


async def agen_cleans_up(*args: Any) -> Any:
    args[-1].begin()
    try:
        yield VALUE
        yield OTHER
    finally:
        await asyncio.sleep(0)
        args[-1].look()


async def agen_ignores_exit(*args: Any) -> Any:
    args[-1].begin()
    try:
        yield VALUE
    except GeneratorExit:
        yield OTHER


async def agen_raises_on_exit(*args: Any) -> Any:
    args[-1].begin()
    try:
        yield VALUE
    finally:
        raise BROKEN


async def agen_waits(*args: Any) -> Any:
    args[-1].begin()
    yield VALUE
    await asyncio.Event().wait()


async def agen_pauses(*args: Any) -> Any:
    args[-1].begin()
    await Pause()
    yield OTHER


async def agen_times_out(*args: Any) -> Any:
    args[-1].begin()
    async with at_once():
        yield VALUE
        await forever()


async def agen_survives_timeout(*args: Any) -> Any:
    args[-1].begin()
    with contextlib.suppress(asyncio.TimeoutError):
        async with at_once():
            await forever()
    yield VALUE


# --- consumers ----------------------------------------------------------------------------------


def call(start: Start, world: World) -> None:
    world.note(start)


def step(*sent: Any) -> Callable[[Start, World], None]:
    """Step by hand: None and values are sent, exceptions thrown, at the end it is dropped."""

    def drive(start: Start, world: World) -> None:
        stepped = start()
        for value in sent:
            thrown = isinstance(value, BaseException)
            world.note(functools.partial(stepped.throw if thrown else stepped.send, value))

    return drive


def close(steps: int, times: int = 1, more: bool = True) -> Callable[[Start, World], None]:
    """Step a number of times, then close a number of times, then ask for more."""

    def drive(start: Start, world: World) -> None:
        stepped = start()
        for _ in range(steps):
            world.note(lambda: stepped.send(None))
        for _ in range(times):
            world.note(stepped.close)
        if more:
            world.note(lambda: stepped.send(None))

    return drive


def never_started(start: Start, world: World) -> None:
    world.note(lambda: type(start()).__name__)


def close_in_other_context(start: Start, world: World) -> None:
    stepped = start()
    contextvars.Context().run(stepped.send, None)
    world.check()
    contextvars.copy_context().run(stepped.close)
    world.check()


def close_in_other_thread(start: Start, world: World) -> None:
    generator = start()
    world.note(lambda: next(generator))
    thread = threading.Thread(target=generator.close)
    thread.start()
    thread.join()
    world.check()


def collect(start: Start, world: World) -> None:
    stepped = start()
    world.note(functools.partial(stepped.send, None))
    del stepped
    gc.collect()
    world.check()


def collect_in_a_cycle(start: Start, world: World) -> None:
    stepped = start()
    world.note(functools.partial(stepped.send, None))
    cycle = [stepped]
    cycle.append(cycle)  # type: ignore[arg-type]
    del stepped, cycle
    gc.collect()
    world.check()


def loop_over(start: Start, world: World) -> None:
    for value in start():
        world.note(lambda value=value: value)
    world.check()


def delegate(start: Start, world: World) -> None:
    def outer() -> Any:
        return (yield from start())

    generator = outer()
    for _ in range(3):
        world.note(lambda: next(generator))


def break_off(start: Start, world: World) -> None:
    for _ in start():
        world.check()
        break
    world.check()


def raise_in_loop(start: Start, world: World) -> None:
    def consume() -> None:
        for _ in start():
            raise THROWN

    world.note(consume)


async def wait_for_it(start: Start, world: World) -> None:
    await world.anote(start())


async def wait_for_task(start: Start, world: World) -> None:
    await world.anote(asyncio.create_task(start()))


async def wait_twice(start: Start, world: World) -> None:
    coroutine = start()
    await world.anote(coroutine)
    await world.anote(coroutine)


async def gather_two(start: Start, world: World) -> None:
    await world.anote(asyncio.gather(start(), start()))


async def cancel(start: Start, world: World) -> None:
    task = asyncio.create_task(start())
    await turns()
    world.check()
    task.cancel("enough")
    await world.anote(task)


async def cancel_before_start(start: Start, world: World) -> None:
    task = asyncio.create_task(start())
    task.cancel()
    await world.anote(task)


async def wait_not_long(start: Start, world: World) -> None:
    await world.anote(asyncio.wait_for(start(), 1e-9))


async def aloop_over(start: Start, world: World) -> None:
    async for value in start():
        world.note(lambda value=value: value)
    world.check()


def astep(*sent: Any) -> Callable[[Start, World], Any]:
    """As :func:`step`, for async generators."""

    async def drive(start: Start, world: World) -> None:
        stepped = start()
        for value in sent:
            thrown = isinstance(value, BaseException)
            await world.anote((stepped.athrow if thrown else stepped.asend)(value))
        await stepped.aclose()

    return drive


def aclose(steps: int, times: int = 1) -> Callable[[Start, World], Any]:
    """As :func:`close`, for async generators."""

    async def drive(start: Start, world: World) -> None:
        stepped = start()
        for _ in range(steps):
            await world.anote(stepped.asend(None))
        for _ in range(times):
            await world.anote(stepped.aclose())
        await world.anote(stepped.asend(None))

    return drive


async def abreak_off(start: Start, world: World) -> None:
    async for _ in start():
        world.check()
        break
    gc.collect()
    await turns()
    world.check()


async def araise_in_loop(start: Start, world: World) -> None:
    async def consume() -> None:
        async with contextlib.aclosing(start()) as generator:
            async for _ in generator:
                raise THROWN

    await world.anote(consume())


async def aclose_in_other_task(start: Start, world: World) -> None:
    generator = start()
    await world.anote(generator.asend(None))
    await world.anote(asyncio.create_task(generator.aclose()))


async def step_in_other_tasks(start: Start, world: World) -> None:
    async def step(generator: AsyncIterator[Any]) -> Any:
        return await anext(generator)

    generator = start()
    for _ in range(3):
        await world.anote(asyncio.create_task(step(generator)))


async def cancel_a_step(start: Start, world: World) -> None:
    async def consume() -> None:
        async for value in start():
            world.note(lambda value=value: value)

    task = asyncio.create_task(consume())
    await turns()
    task.cancel()
    await world.anote(task)


async def left_to_the_loop(start: Start, world: World) -> None:
    world.kept = start()  # type: ignore[attr-defined]  # alive until the loop shuts down
    await world.anote(world.kept.asend(None))  # type: ignore[attr-defined]


def acollect_without_loop(start: Start, world: World) -> None:
    """Nobody's loop: the generator is dropped while it waits in the middle of a step."""
    generator = start()
    awaitable = generator.asend(None)
    world.note(functools.partial(awaitable.send, None))
    del awaitable, generator
    gc.collect()
    world.check()


# --- the table ----------------------------------------------------------------------------------

TIMEOUT = asyncio.TimeoutError
CANCELLED = asyncio.CancelledError
AFTER_EXIT = GeneratorExit("thrown, not closed")

SCENARIOS = {
    "returns": Scenario(returns, call),
    "raises": Scenario(raises, call, error=BrokenError),
    "is interrupted": Scenario(interrupts, call, error=KeyboardInterrupt),
    "exits": Scenario(exits, call, error=SystemExit),
    # Coroutines.
    "coroutine returns": Scenario(co_returns, wait_for_it),
    "coroutine returns at once": Scenario(co_returns_at_once, wait_for_it),
    "coroutine returns to a task": Scenario(co_returns, wait_for_task),
    "coroutines gathered": Scenario(co_returns, gather_two, spans=2),
    "coroutine raises": Scenario(co_raises, wait_for_it, error=BrokenError),
    "coroutine cancelled": Scenario(co_waits, cancel, error=CANCELLED),
    "coroutine survives cancellation": Scenario(co_survives_cancel, cancel),
    "coroutine cancelled before its start": Scenario(co_waits, cancel_before_start, spans=0),
    "coroutine times out inside": Scenario(co_times_out, wait_for_it, error=TIMEOUT),
    "coroutine survives a timeout": Scenario(co_survives_timeout, wait_for_it),
    "coroutine timed out from outside": Scenario(co_waits, wait_not_long, error=CANCELLED),
    "coroutine never awaited": Scenario(co_returns, never_started, spans=0),
    "coroutine awaited twice": Scenario(co_returns, wait_twice),
    "coroutine closed before its start": Scenario(co_pauses, close(0), spans=0),
    "coroutine closed early": Scenario(co_pauses, close(1)),
    "coroutine closed in another context": Scenario(co_pauses, close_in_other_context),
    "coroutine closed twice": Scenario(co_pauses, close(2, times=2)),
    "coroutine collected": Scenario(co_pauses, collect),
    "coroutine collected in a cycle": Scenario(co_pauses, collect_in_a_cycle),
    "coroutine sent and thrown to": Scenario(co_pauses, step(None, OTHER, THROWN, None)),
    "coroutine raises what is thrown": Scenario(
        co_pauses, step(None, THROWN, None), error=BrokenError
    ),
    "coroutine thrown to before its start": Scenario(co_pauses, step(THROWN), spans=0),
    "coroutine given StopIteration": Scenario(
        co_pauses, step(None, StopIteration(1)), error=RuntimeError
    ),
    "coroutine ignores its closing": Scenario(
        co_ignores_exit, close(1, more=False), error=RuntimeError
    ),
    # Generators.
    "generator exhausted": Scenario(gen_returns, loop_over),
    "generator returns": Scenario(gen_returns, step(None, None, None, None)),
    "generator lambda": Scenario(gen_lambda, loop_over),
    "generator delegated to": Scenario(gen_returns, delegate),
    "generator raises": Scenario(gen_raises, step(None, None, None), error=BrokenError),
    "generator sent to": Scenario(gen_echoes, step(None, OTHER, None, VALUE)),
    "generator sent to before its start": Scenario(gen_echoes, step(OTHER), spans=0),
    "generator thrown to": Scenario(gen_echoes, step(None, THROWN, OTHER, VALUE)),
    "generator raises what is thrown": Scenario(
        gen_cleans_up, step(None, THROWN, None), error=BrokenError
    ),
    "generator thrown to before its start": Scenario(gen_echoes, step(THROWN), spans=0),
    "generator given StopIteration": Scenario(
        gen_returns, step(None, StopIteration(1)), error=RuntimeError
    ),
    "generator given GeneratorExit": Scenario(gen_cleans_up, step(None, AFTER_EXIT, None)),
    "generator closed before its start": Scenario(gen_returns, close(0), spans=0),
    "generator closed early": Scenario(gen_cleans_up, close(1)),
    "generator closed twice": Scenario(gen_cleans_up, close(1, times=2)),
    "generator closed after its end": Scenario(gen_returns, close(3)),
    "generator closed in another context": Scenario(gen_cleans_up, close_in_other_context),
    "generator closed in another thread": Scenario(gen_cleans_up, close_in_other_thread),
    "generator answers its closing": Scenario(gen_answers_exit, close(1)),
    "generator ignores its closing": Scenario(gen_ignores_exit, close(1), error=RuntimeError),
    "generator raises on its closing": Scenario(gen_raises_on_exit, close(1), error=BrokenError),
    "generator broken off": Scenario(gen_cleans_up, break_off),
    "generator's consumer raises": Scenario(gen_cleans_up, raise_in_loop),
    "generator collected": Scenario(gen_cleans_up, collect),
    "generator collected in a cycle": Scenario(gen_returns, collect_in_a_cycle),
    "generator never started": Scenario(gen_returns, never_started, spans=0),
    # Async generators.
    "async generator exhausted": Scenario(agen_returns, aloop_over),
    "async generator asked past its end": Scenario(agen_returns, astep(None, None, None, None)),
    "async generator raises": Scenario(agen_raises, astep(None, None, None), error=BrokenError),
    "async generator sent to": Scenario(agen_echoes, astep(None, OTHER, None, VALUE)),
    "async generator sent to before its start": Scenario(agen_echoes, astep(OTHER), spans=0),
    "async generator thrown to": Scenario(agen_echoes, astep(None, THROWN, OTHER, VALUE)),
    "async generator raises what is thrown": Scenario(
        agen_cleans_up, astep(None, THROWN, None), error=BrokenError
    ),
    "async generator thrown to before its start": Scenario(agen_echoes, astep(THROWN), spans=0),
    "async generator given StopIteration": Scenario(
        agen_returns, astep(None, StopIteration(1)), error=RuntimeError
    ),
    "async generator given StopAsyncIteration": Scenario(
        agen_returns, astep(None, StopAsyncIteration(1)), error=RuntimeError
    ),
    "async generator given GeneratorExit": Scenario(agen_cleans_up, astep(None, AFTER_EXIT, None)),
    "async generator closed before its start": Scenario(agen_returns, aclose(0), spans=0),
    "async generator closed early": Scenario(agen_cleans_up, aclose(1)),
    "async generator closed twice": Scenario(agen_cleans_up, aclose(1, times=2)),
    "async generator closed after its end": Scenario(agen_returns, aclose(3)),
    "async generator closed in another task": Scenario(agen_cleans_up, aclose_in_other_task),
    "async generator stepped in other tasks": Scenario(agen_returns, step_in_other_tasks),
    "async generator ignores its closing": Scenario(
        agen_ignores_exit, aclose(1), error=RuntimeError
    ),
    "async generator raises on its closing": Scenario(
        agen_raises_on_exit, aclose(1), error=BrokenError
    ),
    "async generator broken off and collected": Scenario(agen_cleans_up, abreak_off),
    "async generator's consumer raises": Scenario(agen_cleans_up, araise_in_loop),
    "async generator cancelled in a step": Scenario(agen_waits, cancel_a_step, error=CANCELLED),
    "async generator times out inside": Scenario(
        agen_times_out, astep(None, None, None), error=TIMEOUT
    ),
    "async generator survives a timeout": Scenario(agen_survives_timeout, aloop_over),
    "async generator closed by its loop": Scenario(agen_cleans_up, left_to_the_loop),
    "async generator collected in a step": Scenario(agen_pauses, acollect_without_loop),
    "async generator never started": Scenario(agen_returns, never_started, spans=0),
}


# --- placements ---------------------------------------------------------------------------------

Decorate = Callable[[Any], Any]


def _member(make: Callable[[Any, Decorate], Any], on_class: bool) -> Callable[..., Any]:
    def place(body: Any, decorate: Decorate) -> Any:
        agent_class = type("Agent", (), {"run": make(body, decorate)})
        return agent_class.run if on_class else agent_class().run  # type: ignore[attr-defined]

    return place


def _callable_object(body: Any, decorate: Decorate) -> Any:
    return decorate(type("Agent", (), {"__call__": body})())


def _nested(body: Any, decorate: Decorate) -> Any:
    free = body

    @decorate
    def sync_inner(world: World) -> Any:
        return free(world)

    @decorate
    async def coroutine_inner(world: World) -> Any:
        return await free(world)

    @decorate
    def generator_inner(world: World) -> Any:
        return (yield from free(world))

    inner = {
        "function": sync_inner,
        "coroutine": coroutine_inner,
        "generator": generator_inner,
        "async generator": decorate(functools.partial(free, free)),
    }
    return inner[shape(body)]


def _unbound(body: Any, decorate: Decorate) -> Any:
    agent_class = type("Agent", (), {"run": decorate(body)})
    return functools.partial(agent_class.run, agent_class())  # type: ignore[attr-defined]


def _bound(body: Any, decorate: Decorate) -> Any:
    return decorate(type("Agent", (), {"run": body})().run)


PLACEMENTS: dict[str, Callable[[Any, Decorate], Any]] = {
    "function": lambda body, decorate: decorate(body),
    "nested function": _nested,
    "lambda": lambda body, decorate: decorate(lambda *args: body(*args)),
    "partial": lambda body, decorate: decorate(functools.partial(body, "bound")),
    "callable object": _callable_object,
    "method": _member(lambda body, decorate: decorate(body), on_class=False),
    "method of the class": _unbound,
    "bound method": _bound,
    "class method below": _member(lambda b, d: d(classmethod(b)), on_class=True),
    "class method above": _member(lambda b, d: classmethod(d(b)), on_class=True),
    "static method below": _member(lambda b, d: d(staticmethod(b)), on_class=True),
    "static method above": _member(lambda b, d: staticmethod(d(b)), on_class=False),
}


# --- the harness --------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _quick_collection() -> Iterator[None]:
    """What was there before is left out of the collections that the scenarios ask for."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass
class Observed:
    """All that can be seen of one run of a scenario, telemetry aside."""

    world: World
    logs: list[tuple[str, str]] = field(default_factory=list)
    warned: set[str] = field(default_factory=set)
    unraisable: list[tuple[Any, str]] = field(default_factory=list)


class _Logs(logging.Handler):
    def __init__(self, kept: list[tuple[str, str]]) -> None:
        super().__init__(logging.WARNING)
        self.kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.name, record.getMessage()))


def observe(scenario: Scenario, run: Any, provider: TracerProvider) -> Observed:
    """Drive a callable as the scenario says, within a span of the consumer's own."""
    world = World(provider)
    seen = Observed(world)
    handler = _Logs(seen.logs)
    hook, sys.unraisablehook = (
        sys.unraisablehook,
        lambda told: seen.unraisable.append((told.exc_type, str(told.exc_value))),
    )
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with world.tracer.start_as_current_span("consumer") as world.consumer:
                driven = scenario.drive(functools.partial(run, world), world)
                if inspect.iscoroutine(driven):
                    asyncio.run(driven)
            del driven
            gc.collect()
    finally:
        logging.getLogger().removeHandler(handler)
        sys.unraisablehook = hook
    seen.warned = {str(warning.message) for warning in warned}
    return seen


def decorate(body: Any) -> Any:
    return managed_agent(name="agent", session=SESSION)(body)


def runs(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    """The decorated runs' spans, ended ones only."""
    return [span for span in spans.get_finished_spans() if span.name == "invoke_agent agent"]


each_case = pytest.mark.parametrize(
    ("scenario", "place"),
    [
        pytest.param(scenario, place, id=f"{name}-{placement}")
        for name, scenario in SCENARIOS.items()
        for placement, place in PLACEMENTS.items()
        if placement != "lambda" or scenario.shape == "function"  # it calls; it does not await
    ],
)


@each_case
def test_outcome_is_the_bare_functions(
    scenario: Scenario, place: Any, spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    The consumer gets the same values and exceptions, the very objects, as of the bare function,
    and nobody logs, warns or fails to raise anything that the bare function would not.
    """
    bare = observe(scenario, place(scenario.body, lambda body: body), tracer_provider)
    managed = observe(scenario, place(scenario.body, decorate), tracer_provider)

    assert managed.world.outcomes == bare.world.outcomes
    assert managed.world.called == bare.world.called
    assert managed.logs == bare.logs == []
    assert managed.unraisable == bare.unraisable
    assert managed.warned == bare.warned


@each_case
def test_one_span_ends_once(
    scenario: Scenario, place: Any, spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    A call that began its body leaves exactly one ended span, in error exactly if it failed.
    """
    observe(scenario, place(scenario.body, decorate), tracer_provider)

    ended = runs(spans)
    error = scenario.error
    status = StatusCode.UNSET if error is None else StatusCode.ERROR
    assert [span.status.status_code for span in ended] == [status] * scenario.spans
    for span in ended:
        assert span.attributes is not None
        assert span.attributes.get("error.type") == (error and error_type(error))
        assert [event.name for event in span.events] == (["exception"] if error else [])


def error_type(error: type[BaseException]) -> str:
    """An error's type as the conventions write it."""
    name = error.__qualname__
    return name if error.__module__ == "builtins" else f"{error.__module__}.{name}"


@each_case
def test_context_is_the_bodys_alone(
    scenario: Scenario, place: Any, spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    The body sees its session and its span at every step; its consumer never sees them between.
    """
    world = observe(scenario, place(scenario.body, decorate), tracer_provider).world

    assert world.leaks == []
    own = {span.context.span_id for span in runs(spans)}
    assert len(world.inside) >= world.called
    for session, span in world.inside:
        assert session is SESSION
        assert span.get_span_context().span_id in own
    assert get_current_span() is not world.consumer


# --- what the body makes current ----------------------------------------------------------------


def _steps_of(world: World, kind: str) -> Any:
    """A body that opens a span of its own and looks after every step, of one of three shapes."""

    async def coroutine(*args: Any) -> None:
        with world.tracer.start_as_current_span("child"):
            for _ in range(3):
                world.look()
                await asyncio.sleep(0)

    def generator(*args: Any) -> Iterator[Any]:
        with world.tracer.start_as_current_span("child"):
            for _ in range(3):
                world.look()
                yield VALUE

    async def async_generator(*args: Any) -> AsyncIterator[Any]:
        with world.tracer.start_as_current_span("child"):
            for _ in range(3):
                world.look()
                yield VALUE

    return {"coroutine": coroutine, "generator": generator}.get(kind, async_generator)


@pytest.mark.parametrize("kind", ["coroutine", "generator", "async generator"])
def test_bodys_own_span_stays_current(
    kind: str, spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    A span that the body opens is current at each of its steps, and its parent is the run's.
    """
    world = World(tracer_provider)
    drive = {"coroutine": wait_for_it, "generator": loop_over}.get(kind, aloop_over)
    scenario = Scenario(_steps_of(world, kind), drive)
    seen = observe(scenario, decorate(scenario.body), tracer_provider)

    (child,) = (span for span in spans.get_finished_spans() if span.name == "child")
    (run,) = runs(spans)
    assert child.parent is not None
    assert child.parent.span_id == run.context.span_id
    assert [span.get_span_context().span_id for _, span in world.inside] == [
        child.context.span_id
    ] * 3
    assert seen.world.leaks == seen.logs == []


def test_generators_run_side_by_side(
    spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    Two generators stepped in turn do not see each other, and both spans have the same parent.
    """
    world = World(tracer_provider)
    with world.tracer.start_as_current_span("consumer") as world.consumer:
        managed = decorate(gen_returns)
        for _ in zip(managed(world), managed(world), strict=True):
            world.check()

    first, second = runs(spans)
    assert first.parent == second.parent == world.consumer.get_span_context()
    assert len({span.get_span_context().span_id for _, span in world.inside}) == 2
    assert world.leaks == []


@pytest.mark.parametrize("body", [returns, co_returns, gen_returns, agen_returns])
def test_kind_stays_what_it_was(body: Any) -> None:
    """
    `inspect` and `asyncio` take a decorated function for what the bare one is.
    """
    managed = decorate(body)

    assert inspect.iscoroutinefunction(managed) == inspect.iscoroutinefunction(body)
    assert inspect.isgeneratorfunction(managed) == inspect.isgeneratorfunction(body)
    assert inspect.isasyncgenfunction(managed) == inspect.isasyncgenfunction(body)
    assert inspect.signature(managed) == inspect.signature(body)
    assert (managed.__name__, managed.__doc__) == (body.__name__, body.__doc__)


@pytest.mark.parametrize("body", [returns, co_returns, gen_returns, agen_returns])
def test_bad_arguments_raise_at_the_call(body: Any, spans: InMemorySpanExporter) -> None:
    """
    A call that does not fit the signature raises the same TypeError, at once and without a span.
    """
    with pytest.raises(TypeError) as bare:
        body(unknown=1)
    with pytest.raises(TypeError) as managed:
        decorate(body)(unknown=1)

    assert str(managed.value) == str(bare.value)


@managed_agent
def at_module_level() -> int:
    return 42


def test_copied_and_pickled_by_name() -> None:
    """
    A decorated function is copied and pickled as a plain one is: as itself.
    """
    assert copy.copy(at_module_level) is copy.deepcopy(at_module_level) is at_module_level
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


@pytest.mark.parametrize("body", [gen_returns, co_pauses])
def test_collection_waits_for_no_lock(body: Any, spans: InMemorySpanExporter) -> None:
    """
    An abandoned run may be collected while another thread holds the session's lock: it ends.
    """
    session = Session()
    stepped = managed_agent(name="agent", session=session)(body)(World(TracerProvider()))
    stepped.send(None)
    kept = [stepped]
    del stepped
    collector = threading.Thread(target=kept.clear, daemon=True)
    with session.lock:
        collector.start()
        collector.join(60)
        assert not collector.is_alive()

    assert [span.status.status_code for span in runs(spans)] == [StatusCode.UNSET]


@pytest.mark.parametrize("body", [co_returns, agen_returns])
def test_cancelled_in_a_hook(
    body: Any, spans: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """
    A run cancelled while an async hook is awaited before it ends its span; the body never runs.
    """
    session = Session()
    world = World(tracer_provider)

    @session.on("before_run")
    async def hook(event: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        started = managed_agent(name="agent", session=session)(body)(world)
        step = started if inspect.iscoroutine(started) else anext(started)
        task = asyncio.ensure_future(step)
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [span.status.status_code for span in runs(spans)] == [StatusCode.ERROR]
    assert world.called == 0


# --- nesting, and running off -------------------------------------------------------------------


def test_nested_runs_are_child_spans(spans: InMemorySpanExporter) -> None:
    """
    A managed function called by another makes a child of its span, in the ambient session.
    """

    @managed_agent
    def inner() -> Session | None:
        return current_session()

    @managed_agent(session=SESSION)
    def outer() -> Session | None:
        return inner()

    assert outer() is SESSION
    child, parent = spans.get_finished_spans()
    assert (child.name, parent.name) == ("invoke_agent inner", "invoke_agent outer")
    assert child.parent == parent.get_span_context()
    assert parent.parent is None


def test_recursion_makes_a_span_a_call(spans: InMemorySpanExporter) -> None:
    """
    A managed function that calls itself leaves a chain of spans, one for each call.
    """

    @managed_agent(session=SESSION)
    def down(depth: int) -> int:
        return down(depth - 1) + 1 if depth else 0

    assert down(4) == 4
    ended = spans.get_finished_spans()
    assert len(ended) == 5
    assert [span.parent for span in ended[:-1]] == [s.get_span_context() for s in ended[1:]]


@pytest.mark.parametrize("body", [returns, co_returns, gen_returns, agen_returns])
def test_switched_off_it_is_bare(body: Any, spans: InMemorySpanExporter) -> None:
    """
    Switched off, a decorated function gives the bare function's own object and makes no span.
    """
    memtrace.configure(enabled=False)
    world = World(TracerProvider())
    given = decorate(body)(world)

    if inspect.iscoroutine(given):
        given.close()
    else:
        assert given is VALUE or given.__name__ == body.__name__
    assert spans.get_finished_spans() == ()
    code = getattr(given, "cr_code", getattr(given, "gi_code", getattr(given, "ag_code", None)))
    assert code in (None, body.__code__)


@pytest.mark.parametrize("target", [Session, "text", None.__class__, 7])
def test_what_is_no_function_is_refused(target: Any) -> None:
    """
    Decorating a class, or what cannot be called, is refused with a word on what to decorate.
    """
    with pytest.raises(memtrace.ConfigurationError, match="decorate its method"):
        managed_agent(target)
