"""Hooks: plain callables that are told what happens, and can never hurt the run they watch."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import cache, partial
from importlib.metadata import entry_points
from time import perf_counter_ns, time_ns
from typing import Any, TypeVar

from opentelemetry.trace import get_current_span

from . import config
from .errors import ConfigurationError
from .telemetry import metrics, names, spans
from .telemetry.alerts import tell as tell_alert
from .values import STAGES, Alert, Event, Hook

logger = logging.getLogger("memtrace")

H = TypeVar("H", bound=Callable[[Event], Any])

_emitting: ContextVar[frozenset[tuple[int, str]]] = ContextVar(
    "memtrace_emitting", default=frozenset()
)


def is_async(hook: Hook) -> bool:
    """Whether calling a hook gives something to await."""
    target: Any = hook
    while isinstance(target, partial):
        target = target.func
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        getattr(target, "__call__", None)  # noqa: B004 (a callable object's own method)
    )


def hook_name(hook: Hook) -> str:
    """What a hook is called in telemetry."""
    return str(getattr(hook, "__qualname__", None) or type(hook).__qualname__)


def check(stage: str, hook: Hook) -> None:
    """Refuse what could never be called.

    Raises:
        ConfigurationError: There is no such stage, or the hook is not callable.
    """
    if stage not in STAGES:
        raise ConfigurationError(f"no stage named {stage!r}; the stages are {', '.join(STAGES)}")
    if not callable(hook):
        raise ConfigurationError(f"a hook must be callable with one Event, got {hook!r}")


class Hooks:
    """The hooks of one session, by stage, in the order in which they were registered.

    Attributes:
        registered: Whether there are any of the session's own.
    """

    def __init__(
        self, slow_s: float, alerted: Callable[[Alert], object] = lambda alert: None
    ) -> None:
        self._by_stage: dict[str, tuple[Hook, ...]] = {}
        for stage, hook in plugged():
            self._by_stage[stage] = (*self._by_stage.get(stage, ()), hook)
        self._slow_ns = int(slow_s * 1e9)
        self._alerted = alerted
        self.registered = bool(self._by_stage)

    def on(self, stage: str) -> Callable[[H], H]:
        """Register a hook for a stage: ``session.on("after_run")(fn)``, or as a decorator."""

        def register(hook: H) -> H:
            check(stage, hook)
            self._by_stage[stage] = (*self._by_stage.get(stage, ()), hook)
            self.registered = True
            return hook

        return register

    def of(self, stage: str) -> tuple[Hook, ...]:
        """Hooks of a stage: the session's own, then the process-wide ones."""
        shared = config.current.hooks
        own = self._by_stage.get(stage, ())
        return own + tuple(h for s, h in shared if s == stage) if shared else own

    def refuse_async(self) -> None:
        """Refuse a synchronous run that could only skip a hook.

        Raises:
            ConfigurationError: There is an async hook and no running event loop.
        """
        skipped = [
            hook_name(hook) for stage in STAGES for hook in self.of(stage) if could_only_skip(hook)
        ]
        if skipped:
            raise ConfigurationError(
                f"async hook {', '.join(skipped)} cannot run in a synchronous run: make the hook "
                "a plain function, or the decorated function a coroutine function"
            )

    def emit(self, event: Event) -> list[Awaitable[None]]:
        """Call the hooks of an event's stage; what is to be awaited comes back.

        A hook that raises is reported and passed over; one that causes its own stage again is
        not called again from within itself.
        """
        hooks = self.of(event.stage)
        key = (id(self), event.stage)
        if not hooks or key in _emitting.get():
            return []
        token = _emitting.set(_emitting.get() | {key})
        try:
            pending: list[Awaitable[None]] = []
            for hook in hooks:
                started = time_ns(), perf_counter_ns()
                try:
                    result = hook(event)
                    if inspect.isawaitable(result):
                        pending.append(_Pending(result, self._finish(hook, event, result, started)))
                        continue
                except Exception as error:
                    self._report(hook, event, started, error)
                else:
                    self._report(hook, event, started, None)
            return pending
        finally:
            _emitting.reset(token)

    def _alert(self, name: str, event: Event, took_s: float) -> None:
        """A slow hook is named, and left alone."""
        slow_s = self._slow_ns / 1e9
        message = f"hook {name} took {took_s:.3f} s at {event.stage}, more than {slow_s:g} s"
        alert = Alert("slow_hook", slow_s, took_s, message=message)
        self._alerted(alert)
        whose = "a watched list" if event.session is None else f"session {event.session.id}"
        tell_alert(alert, whose, event.agent)

    async def _finish(
        self, hook: Hook, event: Event, result: Awaitable[Any], started: tuple[int, int]
    ) -> None:
        try:
            await result
        except Exception as error:
            self._report(hook, event, started, error)
        else:
            self._report(hook, event, started, None)

    def _report(
        self, hook: Hook, event: Event, started: tuple[int, int], error: Exception | None
    ) -> None:
        took_ns = perf_counter_ns() - started[1]
        name = hook_name(hook)
        attributes: dict[str, Any] = {names.HOOK_NAME: name, names.HOOK_STAGE: event.stage}
        if error is not None:
            attributes[names.ERROR_TYPE] = spans.error_type(error)
        metrics.record(names.METRIC_HOOK_DURATION, took_ns / 1e9, attributes, None)
        slow = took_ns > self._slow_ns
        if error is None and not slow:
            return
        span = spans.start(f"{names.SPAN_HOOK} {name}", attributes, started[0])
        if error is not None:
            spans.record_error(span, error)
            logger.error(
                "memtrace hook %s raised at %s and was passed over",
                name,
                event.stage,
                exc_info=error,
            )
            spans.event(get_current_span(), names.EVENT_HOOK_FAILED, attributes)
            metrics.count(names.METRIC_FAILURES, 1, ((names.COMPONENT, "hook"),))
        if slow:
            self._alert(name, event, took_ns / 1e9)
        span.end(started[0] + took_ns)
        if error is not None and config.current.strict:
            raise error


@cache
def plugged() -> tuple[tuple[str, Hook], ...]:
    """Hooks of installed packages: entry points of the group ``memtrace.hooks``.

    An entry point's name is the stage, which a dot and any word may follow:
    ``after_run = "package:hook"``, ``after_run.audit = "package.audit:hook"``.
    """
    found: list[tuple[str, Hook]] = []
    for entry in entry_points(group="memtrace.hooks"):
        stage = entry.name.partition(".")[0]
        try:
            hook = entry.load()
            check(stage, hook)
            found.append((stage, hook))
        except Exception as error:
            spans.failure(f"entry point {entry.name}", error)
    return tuple(found)


def could_only_skip(hook: Hook) -> bool:
    """Whether a hook is async where no event loop runs."""
    return is_async(hook) and not _loop_runs()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Pending:
    """What an async hook still has to do: awaited once, or closed."""

    __slots__ = ("_finish", "_hook")

    def __init__(self, hook: Any, finish: Coroutine[Any, Any, None]) -> None:
        self._hook = hook
        self._finish = finish

    def __await__(self) -> Generator[Any, Any, None]:
        return self._finish.__await__()

    def close(self) -> None:
        """Let go of it without a warning that it was never awaited."""
        self._finish.close()
        close = getattr(self._hook, "close", None)
        if close is not None:
            close()


def schedule(pending: list[Awaitable[None]]) -> None:
    """Let async hooks of a synchronous run finish on the running loop."""
    if not _loop_runs():
        for awaitable in pending:
            getattr(awaitable, "close", lambda: None)()
        spans.failure(
            "async hook",
            ConfigurationError("an async hook was left out: no event loop runs in this thread"),
        )
        return
    for awaitable in pending:
        task = asyncio.ensure_future(awaitable)
        _scheduled.add(task)
        task.add_done_callback(_scheduled.discard)


_scheduled: set[asyncio.Future[None]] = set()
