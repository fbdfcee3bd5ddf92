"""Driving what runs in steps: coroutines, generators and async generators.

A run's context is attached only while the body itself runs, and detached before control goes
back to whoever steps it, in the same frame: so the consumer of a generator never sees it, and
closing from another task or thread has nothing to detach. What the body made current during a
step, its own child span for instance, is current again at its next step.
"""

from __future__ import annotations

import sys
import types
import weakref
from asyncio import to_thread
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

from opentelemetry.context import attach, detach, get_current

from .engine import Run, Spec
from .errors import StaleSessionError, StoreError
from .telemetry import spans

Begin = Callable[[], Run]
Later = Callable[[], Awaitable[Run]]
D = TypeVar("D")

_NOT_BEGUN: Any = object()


def _steps(
    run: Run, inner: Any, closed: list[Any] | None = None, out: Any = _NOT_BEGUN
) -> Generator[Any, Any, Any]:
    """Step a generator, a coroutine or an awaitable to its end, each step in the run's context.

    Args:
        run: The run.
        inner: What is stepped.
        closed: Takes what closing it returned.
        out: What its first step gave, if that was made already.
    """
    value: Any = None
    error: BaseException | None = None
    while True:
        if out is _NOT_BEGUN:
            token = attach(run.context)
            try:
                out = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                run.context = get_current()
                detach(token)
                error = None
        try:
            value = yield out
        except GeneratorExit:
            token = attach(run.context)
            try:
                result = inner.close()
                if closed is not None:
                    closed.append(result)
            finally:
                detach(token)
            raise
        except BaseException as thrown:
            error = thrown
        out = _NOT_BEGUN


_awaiting = cast("Callable[..., Awaitable[Any]]", types.coroutine(_steps))


def _was_collected(ref: list[weakref.ref[Any]]) -> bool:
    """Whether a generator is being closed because nobody holds it any more.

    CPython clears weak references before it closes what it collects.
    """
    return bool(ref) and ref[0]() is None


def _named(driven: D, inner: Any) -> D:
    """The driver under its body's name, for warnings and tracebacks."""
    target: Any = driven
    for attribute in ("__name__", "__qualname__"):
        setattr(target, attribute, getattr(inner, attribute, attribute))
    return driven


class Owned(list[Any]):
    """One coroutine, closed when its driver goes.

    One that its driver never started (a task cancelled before its first step) would warn that it
    was never awaited; of the driver that is said already where it is true.
    """

    __slots__ = ()

    def __del__(self) -> None:
        for coro in self:
            coro.close()


def coroutines(body: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    """What drives coroutines of ``body``: a coroutine function under the body's name.

    Named once, here: naming each coroutine costs as much as making it.
    """
    name = getattr(body, "__name__", "coroutine")
    driver = types.FunctionType(_coroutine.__code__, globals(), name)
    return _named(driver, body)


async def _coroutine(
    begin: Callable[..., Run], owned: Owned, spec: Spec, find: Callable[..., Any], call: Any
) -> Any:
    memory = find(*call)
    if getattr(memory, "_away", None) is not None:
        await back(memory)
    run = begin(spec, memory, asynchronous=True)
    if run.work_waits or run.pending:
        await prepare(run)
    (coro,) = owned
    try:
        # The first step here: many a body has no other, and then needs no generator to drive it.
        token = attach(run.context)
        try:
            out = coro.send(None)
            run.context = get_current()
        except StopIteration as stop:
            result, out = stop.value, _NOT_BEGUN
        finally:
            detach(token)
        if out is not _NOT_BEGUN:
            result = await _awaiting(run, coro, None, out)
    except GeneratorExit:
        run.abandon()
        raise
    except BaseException as error:
        run.end(error)
        raise
    if run.leave():
        # Written out, not `finish`: a coroutine more would cost every call a tenth.
        if run.work_waits:
            await _tidied(run)
        run.conclude()
        if run.pending:
            await _settle(run)
    return result


def generator(begin: Begin, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """A generator that runs ``inner`` as a run; the run begins at its first step."""
    ref: list[weakref.ref[Any]] = []
    driven = _named(_generator(begin, inner, ref), inner)
    ref.append(weakref.ref(driven))
    return driven


def _generator(
    begin: Begin, inner: Generator[Any, Any, Any], ref: list[weakref.ref[Any]]
) -> Generator[Any, Any, Any]:
    run = begin()
    closed: list[Any] = []
    try:
        result = yield from _steps(run, inner, closed)
    except GeneratorExit:
        if _was_collected(ref):
            run.abandon()
        else:
            run.end()
        if closed and closed[0] is not None:  # a value returned on close, from 3.13 on
            return closed[0]
        raise
    except BaseException as error:
        run.end(error)
        raise
    run.end()
    return result


def async_generator(begin: Later, inner: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    """An async generator that runs ``inner`` as a run; the run begins at its first step."""
    ref: list[weakref.ref[Any]] = []
    driven = _named(_async_generator(begin, inner, ref), inner)
    ref.append(weakref.ref(driven))
    return driven


async def _async_generator(
    begin: Later, inner: AsyncGenerator[Any, Any], ref: list[weakref.ref[Any]]
) -> AsyncGenerator[Any, Any]:
    run = await begin()
    if run.work_waits or run.pending:
        await prepare(run)
    step = _first_step(inner)
    while True:
        try:
            out = await _awaiting(run, step)
        except StopAsyncIteration:
            await finish(run)
            return
        except GeneratorExit:
            run.abandon()
            raise
        except BaseException as error:
            run.end(error)
            raise
        try:
            value = yield out
        except GeneratorExit:
            await _close(run, inner, _was_collected(ref))
            raise
        except BaseException as thrown:
            step = inner.athrow(thrown)
        else:
            step = inner.asend(value)


def _first_step(inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Start an async generator unknown to the event loop.

    At its own end a loop closes, all at once, every generator that it knows. This one is closed
    by the one around it, and closing it twice at a time is an error.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


async def _close(run: Run, inner: AsyncGenerator[Any, Any], collected: bool) -> None:
    try:
        await _awaiting(run, inner.aclose())
    except BaseException as error:
        run.end(error)
        raise
    if collected:
        run.abandon()
        return
    await finish(run)


async def back(memory: Any) -> None:
    """Bring a session back that was put away, off the event loop: its store is read."""
    try:
        await to_thread(memory.measure)
    except Exception as error:  # the body is told, if it uses the session
        spans.failure("archive", error)


async def prepare(run: Run) -> None:
    """What an asynchronous run does before its body: long work off the event loop."""
    try:
        if run.work_waits:
            if run.brief:
                run.prepare()
            else:
                await to_thread(run.prepare)
        if run.ticket is not None:
            await _kept(run)
        await _settle(run)
    except BaseException as error:
        run.end(error)
        raise


async def finish(run: Run, error: BaseException | None = None) -> None:
    """What an asynchronous run does after its body: long work off the event loop."""
    if not run.leave(error):
        return
    if run.work_waits:
        await _tidied(run)
    run.conclude(error)
    await _settle(run)


async def _tidied(run: Run) -> None:
    """The loop's work after a body, off the event loop; a run cancelled in it is over."""
    try:
        await to_thread(run.tidy)
    except BaseException:
        run.conclude()
        raise


async def _kept(run: Run) -> None:
    """Wait until a checkpoint's snapshot is durable."""
    try:
        await run.ticket
    except (StaleSessionError, StoreError) as error:
        run.refused = error


async def _settle(run: Run) -> None:
    """Wait for the async hooks of a run that is under way or over."""
    while run.pending:
        await run.pending.pop(0)
    run.pending = None
