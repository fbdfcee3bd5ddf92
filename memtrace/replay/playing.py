"""Playing recorded sessions, turn by turn, and noting what the loop did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..instrument import managed_agent
from ..session import Session
from ..values import ActionReport, Alert, Event, MemoryProfile, TokenBudget
from .reading import Recorded, RecordedMessage

MAKES_ROOM = frozenset({"cleanup", "compress"})
"""Actions of a pass: what runs when memory is under pressure."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What model calls were sent. A model call is an assistant's message of the recording.

    Args:
        calls: How many there were.
        tokens: Of what ``session.messages()`` gave, summed over the calls.
        raw_tokens: Of all messages so far as they were recorded, summed over the same calls.
    """

    calls: int = 0
    tokens: int = 0
    raw_tokens: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.raw_tokens + other.raw_tokens,
        )

    @property
    def saved_share(self) -> float:
        """Share of the tokens that did not have to be sent, 0–1.

        >>> Sent(2, 300, 400).saved_share
        0.25
        """
        return 1 - self.tokens / self.raw_tokens if self.raw_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of the agent: a user's message and all that followed it.

    Args:
        number: From 1.
        messages: How many messages it added.
        before: Memory as the run found it.
        after: Memory as the run left it.
        billed_tokens: Prompt tokens that the provider billed for its last model call; None where
            that was not recorded. They include a system prompt and tools that may not have been.
        reports: What actions did, before, during and after the run, in order.
        alerts: What fired, in order.
        passes: How often room was made.
        over_budget: Moments at which memory was above its budget though the loop had just had
            its say: after a ``messages()``, and after the run.
        sent: What its model calls were sent.
    """

    number: int
    messages: int
    before: MemoryProfile
    after: MemoryProfile
    billed_tokens: int | None = None
    reports: tuple[ActionReport, ...] = ()
    alerts: tuple[Alert, ...] = ()
    passes: int = 0
    over_budget: int = 0
    sent: Sent = Sent()

    @property
    def freed_tokens(self) -> int:
        """Tokens that its actions gave back."""
        return sum(report.tokens_freed for report in self.reports)

    @property
    def unreachable(self) -> tuple[str, ...]:
        """Why actions could not get below the budget, each reason once."""
        budget = self.after.token_budget
        reasons = (
            report.reason
            for report in self.reports
            if report.outcome == "ineffective" and report.tokens_after > budget
        )
        return tuple(dict.fromkeys(reasons))


@dataclass(frozen=True, slots=True)
class Replay:
    """What a recorded session did to memory, and the loop to it.

    Args:
        recorded: What was played.
        turns: Every turn, in order.
        profile: Memory at its end.
    """

    recorded: Recorded
    turns: Sequence[Turn]
    profile: MemoryProfile

    @property
    def reports(self) -> tuple[ActionReport, ...]:
        """What actions did in all turns, in order."""
        return tuple(report for turn in self.turns for report in turn.reports)

    @property
    def sent(self) -> Sent:
        """What all model calls were sent."""
        return sum((turn.sent for turn in self.turns), Sent())

    @property
    def passes(self) -> int:
        """How often room was made."""
        return sum(turn.passes for turn in self.turns)

    @property
    def over_budget(self) -> int:
        """Moments at which memory was above its budget."""
        return sum(turn.over_budget for turn in self.turns)


def play(recorded: Recorded, *, token_budget: int | TokenBudget | None = None) -> Replay:
    """Play a recorded session to its end, in a session of its own.

    Args:
        recorded: What :func:`read_session` gave.
        token_budget: Tokens to hold it against; None: the window it was recorded with, else
            ``MEMTRACE_TOKEN_BUDGET``, else 200,000.

    Raises:
        ConfigurationError: The budget cannot work.
    """
    session = open_session(recorded, token_budget=token_budget)
    try:
        played = list(turns(recorded, session))
        return Replay(recorded, played, session.profile())
    finally:
        session.close()


def open_session(recorded: Recorded, *, token_budget: int | TokenBudget | None = None) -> Session:
    """A session that holds what the recorded one began with: its system prompt and its tools.

    Raises:
        ConfigurationError: The budget cannot work.
    """
    budget = token_budget if token_budget is not None else recorded.token_budget
    session = Session(recorded.session_id, token_budget=budget)
    for kind in ("system", "tools"):
        if content := recorded.header.get(kind):
            session.active_contexts.add(content, key=kind, kind=kind)
    return session


def turns(recorded: Recorded, session: Session) -> Iterator[Turn]:
    """Play a recorded session into ``session``, one turn at each step."""
    tally = _Tally(session, session.history.tokens)
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
            tally.called()
        held = session.history.tokens
        session.history.append(message.message)
        tally.raw_tokens += session.history.tokens - held


@dataclass(slots=True)
class _Tally:
    """What happens within a turn.

    Args:
        session: What is played into.
        raw_tokens: Tokens of all messages so far, as they were recorded.
    """

    session: Session
    raw_tokens: int
    reports: list[ActionReport] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    sent: Sent = Sent()
    passes: int = 0
    over_budget: int = 0
    seen: int = 0  # of the reports

    def hear(self, event: Event) -> None:
        """The hook at every action and alert."""
        if event.report is not None:
            self.reports.append(event.report)
        if event.alert is not None:
            self.alerts.append(event.alert)

    def called(self) -> None:
        """A model was called."""
        self.look()
        self.sent += Sent(1, self.session.history.tokens, self.raw_tokens)

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
