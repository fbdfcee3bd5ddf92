"""What stands on the application's path: its own method, called once, and what it gave, handed on.

All that memtrace does here is done by :func:`safely`: an exception of ours ends there. Only what
ends a program (``KeyboardInterrupt``) goes through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from .. import config
from ..telemetry import spans
from . import calls


def safely(work: Callable[..., Any], *args: Any) -> Any:
    """What the work gives; None where it failed, which is logged and counted.

    Raises:
        Exception: Only where memtrace is configured to be strict.
    """
    try:
        return work(*args)
    except Exception as error:
        try:
            spans.failure("observing", error)
        except Exception:
            if config.current.strict:
                raise
        return None


def guarded(work: Callable[[Any], Any]) -> Callable[[Any], None]:
    """The same, whose failures end here: for what an application's imports call."""

    def hook(module: Any) -> None:
        safely(work, module)

    return hook


class Switch(Protocol):
    """What says whether a wrapper still does anything."""

    on: bool


def relay(read: calls.Read, asynchronous: bool, switch: Switch) -> Callable[..., Any]:
    """What wraps a client's method. `read`: what reads the arguments that it is called with."""

    def called(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        call = safely(calls.begin, read, args, kwargs, False) if switch.on else None
        if call is None:
            return wrapped(*args, **kwargs)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            safely(call.fail, error)
            raise
        return _handed_on(result, call)

    async def acalled(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        call = safely(calls.begin, read, args, kwargs, True) if switch.on else None
        if call is None:
            return await wrapped(*args, **kwargs)
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            safely(call.fail, error)
            raise
        return _handed_on(result, call)

    return acalled if asynchronous else called


def _handed_on(result: Any, call: Any) -> Any:
    stream = safely(call.stream_of, result)
    if stream is None:
        return result
    if hasattr(stream, "_iterator"):
        # The stream itself stays the client's own: only where its events come from is watched.
        safely(setattr, stream, "_iterator", Events(stream._iterator, call))
        return result
    return _apassed(stream, call) if hasattr(stream, "__anext__") else _passed(stream, call)


def _passed(events: Iterator[Any], call: Any) -> Iterator[Any]:
    try:
        for event in events:
            safely(call.saw, event)
            yield event
    except Exception as error:
        safely(call.fail, error)
        raise
    finally:
        safely(call.finish)


async def _apassed(events: AsyncIterator[Any], call: Any) -> AsyncIterator[Any]:
    try:
        async for event in events:
            safely(call.saw, event)
            yield event
    except Exception as error:
        safely(call.fail, error)
        raise
    finally:
        safely(call.finish)


class Events:
    """A stream's events, each shown to its call as it passes."""

    def __init__(self, events: Any, call: Any) -> None:
        self._events, self._call = events, call

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Any:
        try:
            event = next(self._events)
        except StopIteration:
            safely(self._call.finish)
            raise
        except BaseException as error:
            safely(self._call.fail, error)
            raise
        safely(self._call.saw, event)
        return event

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Any:
        try:
            event = await self._events.__anext__()
        except StopAsyncIteration:
            safely(self._call.finish)
            raise
        except BaseException as error:
            safely(self._call.fail, error)
            raise
        safely(self._call.saw, event)
        return event

    def __getattr__(self, name: str) -> Any:
        # ``close`` and ``aclose`` of the generator that a client keeps here.
        return getattr(self._events, name)

    def __del__(self) -> None:
        # A stream that nobody reads to its end is told when it goes.
        safely(self._call.finish)
