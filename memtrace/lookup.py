"""Which session a call belongs to: decided at decoration as far as it can be.

In this order: ``session=``; ``messages=`` (observed, no session); a parameter named
``session``; an argument that is a :class:`Session`, one bound by a partial included; the
ambient :func:`current_session`. Where there is none the function runs inside a plain span.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from .engine import Measured
from .errors import ConfigurationError
from .policy import Policy
from .session import Session, current_session
from .telemetry import spans
from .values import TokenBudget
from .watch import Watch, Watched

logger = logging.getLogger("memtrace")

Find = Callable[[Any, tuple[Any, ...], dict[str, Any]], "Measured | None"]


def finder(
    fn: Any,
    name: str,
    *,
    session: Any,
    messages: str | None,
    token_budget: int | TokenBudget | None,
    policy: Policy | None,
) -> Find:
    """The function that finds what a call of ``fn`` measures.

    Raises:
        ConfigurationError: Both ``session`` and ``messages`` are given, ``messages`` names no
            parameter, or ``session`` is neither a session nor callable.
    """
    if session is not None and messages is not None:
        raise ConfigurationError(
            f"@managed_agent on {name}: give session= (memory that memtrace holds) or messages= "
            "(a list that you own), not both"
        )
    if messages is not None:
        if not isinstance(messages, str):
            raise ConfigurationError(
                f"@managed_agent on {name}: messages= takes the name of a parameter, "
                f"got {messages!r}; for example messages='messages'"
            )
        return _watching(fn, name, messages, Watch(token_budget, policy))
    if isinstance(session, Session):
        return lambda _instance, _args, _kwargs: session
    if session is not None:
        if not callable(session):
            raise ConfigurationError(
                f"@managed_agent on {name}: session= takes a Session, or a callable that gives "
                f"one from the call's arguments; got {session!r}"
            )
        return _calling(fn, session, name)
    return _searching(fn, name)


def _parameters(fn: Any) -> tuple[list[inspect.Parameter], bool]:
    """Parameters of a callable, and whether the first is bound when it is called as a method."""
    target = fn.__func__ if isinstance(fn, (classmethod, staticmethod)) else fn
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return [], False
    return parameters, inspect.isfunction(target) and not isinstance(fn, staticmethod)


class _Slot(NamedTuple):
    """Where a call holds the argument of one parameter.

    ``free`` and ``bound``: its position in a plain call, and in a call as a method; -1 where it
    is keyword-only.
    """

    name: str
    free: int
    bound: int
    default: Any

    def pick(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The argument of a call, or the parameter's default."""
        place = self.free if instance is None else self.bound
        return args[place] if 0 <= place < len(args) else kwargs.get(self.name, self.default)


def _slot(fn: Any, wanted: str) -> _Slot | None:
    """Where calls of ``fn`` hold a parameter; None: it has no such parameter."""
    parameters, binds = _parameters(fn)
    by_name = {p.name: p for p in parameters}
    found = by_name.get(wanted)
    if found is None or found.kind in (found.VAR_POSITIONAL, found.VAR_KEYWORD):
        return None
    default = None if found.default is found.empty else found.default
    if found.kind is found.KEYWORD_ONLY:
        return _Slot(wanted, -1, -1, default)
    place = parameters.index(found)
    return _Slot(wanted, place, place - 1 if binds else place, default)


def _watching(fn: Any, name: str, messages: str, watch: Watch) -> Find:
    slot = _slot(fn, messages)
    if slot is None:
        parameters = ", ".join(p.name for p in _parameters(fn)[0]) or "none"
        raise ConfigurationError(
            f"@managed_agent on {name}: messages={messages!r} names no parameter of it; "
            f"its parameters are: {parameters}"
        )
    warn = _Once(
        f"memtrace: {name} was called with no list in {messages!r}, so there is nothing to measure"
    )

    def find(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Measured | None:
        value = slot.pick(instance, args, kwargs)
        try:
            if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
                return Watched(watch, value)
        except Exception as error:
            spans.failure("session lookup", error)
            return None
        warn()
        return None

    return find


def _calling(fn: Any, session: Callable[..., Any], name: str) -> Find:
    _, binds = _parameters(fn)

    def find(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Measured | None:
        if binds and instance is not None:
            args = (instance, *args)
        try:
            found = session(*args, **kwargs)
            if not isinstance(found, Session):
                raise ConfigurationError(
                    f"@managed_agent on {name}: session= gave {found!r}, which is no Session"
                )
        except Exception as error:
            spans.failure("session lookup", error)
            return None
        return found

    return find


def _searching(fn: Any, name: str) -> Find:
    slot = _slot(fn, "session") or _Slot("session", -1, -1, None)
    free, in_method, default = slot.free, slot.bound, slot.default
    bound = _bound_session(fn)
    warn = _Once(
        f"memtrace found no session for {name}, so its span says nothing of memory: give it a "
        "parameter named session, or use @managed_agent(session=...) or "
        "@managed_agent(messages='...')"
    )

    def find(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Measured | None:
        # Written out, not `slot.pick`, and the usual type first: this is on every call's path.
        place = free if instance is None else in_method
        named = args[place] if 0 <= place < len(args) else kwargs.get("session", default)
        if type(named) is Session or _is_session(named):
            return named  # type: ignore[no-any-return]  # just looked at
        found = _among(args, kwargs, bound, name) or current_session()
        if found is None:
            warn()
        return found

    return find


def _among(
    args: tuple[Any, ...], kwargs: dict[str, Any], bound: Session | None, name: str
) -> Session | None:
    """The one session among a call's arguments.

    Raises:
        ConfigurationError: There are two.
    """
    found = bound
    for value in (*args, *kwargs.values()):
        if _is_session(value) and value is not found:
            if found is not None:
                raise ConfigurationError(
                    f"{name} was called with two sessions, {found.id!r} and {value.id!r}: "
                    "name the one to measure `session`, or say @managed_agent(session=...)"
                )
            found = value
    return found


def _is_session(value: Any) -> bool:
    """Whether an argument is a session. A proxy of nothing raises when asked: it is none."""
    try:
        return isinstance(value, Session)
    except Exception:
        return False


def _bound_session(fn: Any) -> Session | None:
    """A session that a partial has bound already."""
    while isinstance(fn, partial):
        for value in (*fn.args, *fn.keywords.values()):
            if _is_session(value):
                return value  # type: ignore[no-any-return]  # just looked at
        fn = fn.func
    return None


class _Once:
    """A warning given once."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: str | None = text

    def __call__(self) -> None:
        text, self._text = self._text, None
        if text is not None:
            logger.warning(text)
