"""Playing recorded sessions, turn by turn, and noting what the loop did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..counters import Counter
from ..decide.worth import reread
from ..instrument import managed_agent
from ..policy import Policy
from ..session import Session
from ..values import ActionReport, Alert, Event, Item, TokenBudget
from .played import Replay, Sent, Turn
from .reading import Message, Recorded, RecordedMessage
from .sight import Names, Sight

MAKES_ROOM = frozenset({"cleanup", "compress"})
"""Actions of a pass: what runs when memory is under pressure."""


def play(
    recorded: Recorded,
    *,
    token_budget: int | TokenBudget | None = None,
    policy: Policy | None = None,
    counter: Counter | None = None,
    names: Names | None = None,
    told: Callable[[Turn], object] | None = None,
) -> Replay:
    """Play a recorded session to its end, in a session of its own.

    Args:
        recorded: What :func:`read_session` gave.
        token_budget: Tokens to hold it against; None: the policy's, else the window it was
            recorded with, else ``MEMTRACE_TOKEN_BUDGET``, else 200,000.
        policy: The loop's constants; None: the defaults.
        counter: What counts its texts; None: the configured encoding's.
        names: Its names, to follow which of them the model is shown; None: they are not.
        told: Called with each turn when it was played.

    Raises:
        ConfigurationError: The budget cannot work.
    """
    session = open_session(recorded, token_budget=token_budget, policy=policy, counter=counter)
    sight = None if names is None else Sight(names)
    played = []
    try:
        for turn in turns(recorded, session, sight=sight):
            played.append(turn)
            if told is not None:
                told(turn)
        sighted = None if sight is None else sight.ended(session.history.items)
        return Replay(recorded, played, session.profile(), sighted)
    finally:
        session.close()


def open_session(
    recorded: Recorded,
    *,
    token_budget: int | TokenBudget | None = None,
    policy: Policy | None = None,
    counter: Counter | None = None,
) -> Session:
    """A session that holds what the recorded one began with: its system prompt and its tools.

    Raises:
        ConfigurationError: The budget cannot work.
    """
    if token_budget is None and (policy is None or policy.token_budget is None):
        token_budget = recorded.token_budget
    session = Session(
        recorded.session_id, token_budget=token_budget, policy=policy, counter=counter
    )
    for kind in ("system", "tools"):
        if content := recorded.header.get(kind):
            session.active_contexts.add(content, key=kind, kind=kind)
    return session


def turns(
    recorded: Recorded,
    session: Session,
    *,
    seen: Callable[[], object] | None = None,
    sight: Sight | None = None,
) -> Iterator[Turn]:
    """Play a recorded session into ``session``, one turn at each step.

    Args:
        recorded: What :func:`read_session` gave.
        session: What :func:`open_session` gave.
        seen: Called after each message.
        sight: What follows the names that the model is shown.
    """
    tally = _Tally(session, session.history.tokens, seen, sight)
    for stage in ("cleanup", "compress", "consolidate", "update_cache", "threshold"):
        session.on(stage)(tally.hear)
    for number, messages in enumerate(recorded.runs(), 1):
        before = session.profile()
        _run(session, messages, tally)
        tally.look()
        billed = [message.billed_tokens for message in messages if message.billed_tokens]
        yield Turn(
            number,
            len(messages),
            before,
            session.profile(),
            billed[-1] if billed else None,
            **tally.take(),
        )


@managed_agent(name="replay")
def _run(session: Session, messages: Sequence[RecordedMessage], tally: _Tally) -> None:
    tally.look(ran=False)
    for message in messages:
        if message.role == "assistant":
            session.messages()  # the model call that gave this reply: a long run is held here
            tally.called(message.message)
        held = session.history.tokens
        session.history.append(message.message)
        tally.raw_tokens += session.history.tokens - held
        if tally.sight is not None:
            tally.sight.said(message.message)
        if tally.after is not None:
            tally.after()


@dataclass(slots=True)
class _Tally:
    """What happens within a turn.

    Args:
        session: What is played into.
        raw_tokens: Tokens of all messages so far, as they were recorded.
        after: Called after each message.
        sight: What follows names.
        prompt: What the last model call was sent.
    """

    session: Session
    raw_tokens: int
    after: Callable[[], object] | None = None
    sight: Sight | None = None
    prompt: tuple[Item, ...] = ()
    reports: list[ActionReport] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)
    passes: int = 0
    over_budget: int = 0
    seen: int = 0  # of the reports

    def hear(self, event: Event) -> None:
        """The hook at every action and alert."""
        if event.report is not None:
            self.reports.append(event.report)
        if event.alert is not None:
            self.alerts.append(event.alert)

    def called(self, reply: Message) -> None:
        """A model was called, and gave a reply."""
        self.look()
        before, self.prompt = self.prompt, self.session.history.items
        tokens = self.session.history.tokens
        if self.prompt[: len(before)] == before:
            self.sent += Sent(1, tokens, self.raw_tokens)
        else:
            again = reread(before, self.prompt).again
            self.sent += Sent(1, tokens, self.raw_tokens, 1, again)
        if self.sight is not None:
            self.sight.called(self.prompt, reply)

    def look(self, *, ran: bool = True) -> None:
        """The loop had its say. ``ran``: memory must be under its budget now."""
        new, self.seen = self.reports[self.seen :], len(self.reports)
        self.passes += any(r.action in MAKES_ROOM and r.outcome != "declined" for r in new)
        if ran:
            profile = self.session.profile()
            self.over_budget += profile.total_tokens > profile.token_budget

    def take(self) -> dict[str, Any]:
        """What happened since the last time, for a :class:`Turn`."""
        taken: dict[str, Any] = {
            "reports": tuple(self.reports),
            "alerts": tuple(self.alerts),
            "passes": self.passes,
            "over_budget": self.over_budget,
            "sent": self.sent,
        }
        self.reports.clear()
        self.alerts.clear()
        self.sent, self.passes, self.over_budget, self.seen = Sent(), 0, 0, 0
        return taken
