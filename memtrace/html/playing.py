"""A recorded session, played for a report: memory after each message, each action in its place."""

from __future__ import annotations

from collections.abc import Sequence

from ..findings import Finding
from ..policy import Policy
from ..replay import Recorded, Sent, Turn, open_session, turns
from ..session import Session
from ..values import Event, TokenBudget
from .facts import Mark, Report, Sample, Stretch
from .gathering import gathered

_ACTIONS = ("cleanup", "compress", "consolidate", "update_cache", "archive")


def of_recording(
    recorded: Recorded,
    *,
    token_budget: int | TokenBudget | None = None,
    policy: Policy | None = None,
    findings: Sequence[Finding] = (),
) -> Report:
    """Play a recorded session to its end, and report on it.

    Args:
        recorded: What :func:`memtrace.replay.read_session` gave.
        token_budget: Tokens to hold it against; None: the window it was recorded with, else
            ``MEMTRACE_TOKEN_BUDGET``, else 200,000.
        policy: The loop's constants; None: the defaults.
        findings: What :func:`memtrace.diagnose` gave for the recording.

    Raises:
        ConfigurationError: The budget cannot work.
    """
    session = open_session(recorded, token_budget=token_budget, policy=policy)
    watch = _Watch(session)
    try:
        played = list(turns(recorded, session, seen=watch.see))
        watch.end()
        sent = sum((turn.sent for turn in played), Sent())
        return gathered(
            session,
            source=f"recording {recorded.path.name}, played",
            unit="message",
            samples=watch.samples,
            marks=watch.marks,
            timeline=_timeline(played),
            findings=findings,
            findings_of="Of the session as it was recorded, had nothing been done about it.",
            dated=False,
            sent=sent if sent.calls else None,
        )
    finally:
        session.close()


class _Watch:
    """Notes memory after each message, and each action where it happens."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.run = 0
        self.message = 0
        self.marks: list[Mark] = []
        self.samples = [self._sample()]
        session.on("before_run")(self._begin)
        for stage in _ACTIONS:
            session.on(stage)(self._hear)

    def see(self) -> None:
        """A message came."""
        self.message += 1
        self.samples.append(self._sample())

    def end(self) -> None:
        """The last run is over, and what follows a run has been done."""
        self.samples[-1] = self._sample()

    def _begin(self, _event: Event) -> None:
        self.run += 1

    def _hear(self, event: Event) -> None:
        if event.report is not None:
            self.marks.append(Mark(self.message, max(1, self.run), event.report))

    def _sample(self) -> Sample:
        profile = self.session.profile()
        return Sample(self.message, self.run, profile.layer_tokens, profile.token_budget)


def _timeline(played: Sequence[Turn]) -> list[Stretch]:
    stretches, start = [], 1
    for turn in played:
        end = start + turn.messages - 1
        before, after = turn.before.total_tokens, turn.after.total_tokens
        freed = turn.freed_tokens
        stretches.append(
            Stretch(turn.number, "agent", "turn", start, end, before, after, None, freed)
        )
        start = end + 1
    return stretches
