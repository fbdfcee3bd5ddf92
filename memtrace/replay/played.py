"""What a replay found, as frozen values: its turns, what was sent, what the loop did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..values import ActionReport, Alert, MemoryProfile
from .reading import Recorded
from .sight import Sighted


@dataclass(frozen=True, slots=True)
class Sent:
    """What model calls were sent. A model call is an assistant's message of the recording.

    Args:
        calls: How many there were.
        tokens: Of what ``session.messages()`` gave, summed over the calls.
        raw_tokens: Of all messages so far as they were recorded, summed over the same calls.
        rewrites: Calls whose prompt did not begin with the whole of the one before it, so that
            the provider's prompt cache was of less use than it could be.
        reread_tokens: What was read anew because of that, summed over those calls.
    """

    calls: int = 0
    tokens: int = 0
    raw_tokens: int = 0
    rewrites: int = 0
    reread_tokens: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.raw_tokens + other.raw_tokens,
            self.rewrites + other.rewrites,
            self.reread_tokens + other.reread_tokens,
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
        sighted: Which names the model was shown; None where they were not looked for.
    """

    recorded: Recorded
    turns: Sequence[Turn]
    profile: MemoryProfile
    sighted: Sighted | None = None

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
