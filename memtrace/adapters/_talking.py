"""Whose conversation a session's history holds, where several agents may have one session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any
from weakref import WeakKeyDictionary, ref

from opentelemetry.context import attach, detach, get_current

from ..engine import Run
from ..session import Session
from ._fitting import aside


@dataclass(eq=False)
class Talk:
    """An agent's run that has a conversation.

    Attributes:
        run: It, open.
        agent: Its name.
        session: The session that it was given.
        memory: Holds its conversation: the session, or one of its own within what that leaves
            free, where another agent was talking already.
        sent: Tokens of the last model call.
        ended: Whether it is over.
    """

    run: Run
    agent: str
    session: Session
    memory: Session
    sent: int = 0
    ended: bool = False
    _refused: float = inf

    @property
    def apart(self) -> bool:
        """Whether it has a memory of its own."""
        return self.memory is not self.session

    def said(self, messages: list[Any] | None) -> None:
        """Count a conversation held apart among the session's agents; None: no more."""
        if self.apart:
            self.session.agent(self.agent).state = messages

    def narrow(self) -> bool:
        """Go on apart, within four fifths of what a model refused as too long.

        Returns:
            False: it is no shorter than what was refused before.
        """
        if self.sent >= self._refused or not self.session.policy.acts:
            return False
        self._refused, before = self.sent, self.memory
        self.memory = Session(
            token_budget=max(1, self.sent * 4 // 5), policy=before.policy, counter=before.counter
        )
        if before is not self.session:
            before.close()
        return True

    def over(self) -> None:
        """The conversation is over: the next agent may have the session's history."""
        self.ended = True
        if self.apart:
            self.said(None)
            self.memory.close()
        if _talking.get(self.session, lambda: None)() is self:
            del _talking[self.session]


_talking: WeakKeyDictionary[Session, ref[Talk]] = WeakKeyDictionary()


def talk(run: Run, agent: str, session: Session) -> Talk:
    """A conversation, in the session's history if no other agent's is there now."""
    with session.lock:
        first = _talking.get(session, lambda: None)() is None
        begun = Talk(run, agent, session, session if first else aside(session))
        if first:
            _talking[session] = ref(begun)
    return begun


@contextmanager
def within(held: Talk | None) -> Iterator[None]:
    """In a run's context: what is done there stands below its span."""
    with inside([held.run.context if held is not None else get_current()]):
        yield


@contextmanager
def inside(here: list[Any]) -> Iterator[None]:
    """A step in a context, ``here[0]``, which is left there as the step leaves it."""
    token = attach(here[0])
    try:
        yield
    finally:
        here[0] = get_current()
        detach(token)
