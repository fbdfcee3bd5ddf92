"""What adapters share: what a model call is about to be sent goes in, what fits comes out."""

from __future__ import annotations

import logging
import operator
from asyncio import to_thread
from collections.abc import Sequence
from typing import Any, Literal
from weakref import WeakSet

from ..engine import Run, Spec, begin
from ..layers.history import View
from ..session import Session
from ..telemetry import names

logger = logging.getLogger("memtrace")

ATTEMPTS = 3
"""Times a list is adopted before it goes out as it is: another call may have put in its own."""


def fit(session: Session, messages: Sequence[Any]) -> View | None:
    """Adopt a conversation that is sent whole, make room, and give what stands for it.

    Returns:
        None, with a warning: the session has several conversations at once, so that this one has
        to go out as it is.
    """
    for _ in range(ATTEMPTS):
        session.history.sync(messages)
        session.messages()
        if (view := session.history.view_of(messages)) is not None:
            return view
    crossed(session)
    return None


async def afit(session: Session, messages: Sequence[Any]) -> View | None:
    """The same as :func:`fit`, with the work off the event loop."""
    for _ in range(ATTEMPTS):
        await to_thread(session.history.sync, messages)
        await session.amessages()
        if (view := session.history.view_of(messages)) is not None:
            return view
    crossed(session)
    return None


_crossed: WeakSet[Session] = WeakSet()


def crossed(session: Session) -> None:
    """Say, once a session, that a call goes out as it is."""
    if session in _crossed:
        return
    _crossed.add(session)
    logger.warning(
        "memtrace session %r was used for several conversations at once, so a call was sent as "
        "it was: give each a session of its own",
        session.id,
    )


def pin(session: Session, owner: str, *, system: Any = None, tools: Any = None) -> int:
    """Count what is sent besides the messages, anew only where it changed.

    Args:
        session: Where it is held, pinned.
        owner: Who sends it, such as ``"client"`` or an agent's name; the keys begin with it.
        system: The system prompt; None or empty: there is none.
        tools: What the model is told of its tools; likewise.

    Returns:
        The tokens of both.
    """
    contexts = session.active_contexts
    held = (
        contexts.sync(system, key=f"{owner}:system", kind="system"),
        contexts.sync(tools, key=f"{owner}:tools", kind="tools"),
    )
    return sum(item.tokens for item in held if item is not None)


def aside(session: Session) -> Session:
    """A session for a sub-agent's own conversation, within what its caller's leaves free.

    At least a quarter of the caller's budget: a conversation needs room to be one.
    """
    total = session.token_budget
    free = max(total - sum(session.measure()), total // 4)
    return Session(token_budget=free, policy=session.policy, counter=session.counter)


def open_run(
    session: Session,
    agent: str,
    *,
    asynchronous: bool,
    span: Literal["own", "current"] = "own",
) -> Run:
    """Open an agent's run by hand, where a framework says when it begins and when it ends.

    A synchronous one has done its work when this returns, and ends by ``run.end(error)``. An
    asynchronous one goes on with ``await steps.prepare(run)``, and ends by
    ``await steps.finish(run, error)``. The body runs in ``run.context``.
    """
    about = {names.OPERATION_NAME: names.INVOKE_AGENT, names.AGENT_NAME: agent}
    return begin(Spec("agent", agent, span, about), session, asynchronous=asynchronous)


def same(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    """Whether two lists hold the same objects."""
    return len(ours) == len(theirs) and all(map(operator.is_, ours, theirs))
