"""Replays a recorded session for the traces benchmark, and looks at every step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks._traces import Past, Shown, chance, said, sampled, size_of, window
from memtrace import Session, managed_agent
from memtrace.messages import facts
from memtrace.replay import Recorded, RecordedMessage


@dataclass
class Found:
    """What the replays of one or of many sessions showed."""

    shown: Shown = field(default_factory=Shown)
    window: Shown = field(default_factory=Shown)
    random: Shown = field(default_factory=Shown)
    sent: int = 0
    raw: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    @property
    def saved(self) -> float:
        """Share of the tokens that did not have to be sent."""
        return 1 - self.sent / self.raw if self.raw else 0.0

    def add(self, other: Found) -> None:
        """Together with another session's."""
        for mine, theirs in (
            (self.shown, other.shown),
            (self.window, other.window),
            (self.random, other.random),
        ):
            mine.add(theirs)
        self.sent += other.sent
        self.raw += other.raw
        self.counts += other.counts
        self.reasons += other.reasons


class Player:
    """Replays one session, and looks at what each step would have been sent."""

    def __init__(self, recorded: Recorded, session: Session, before: Callable[[Session], Any]):
        self.found = Found()
        self._recorded, self.session, self._before = recorded, session, before
        self._pins = [item for item in session.active_contexts if item.pinned]
        self._past = Past("\n".join(str(item.content) for item in self._pins))
        steps = [n for n, m in enumerate(recorded.messages) if m.role == "assistant"]
        self._sampled = frozenset(sampled(steps))
        self._sent: list[tuple[str, str]] = []
        self._pairs: list[tuple[int, int]] = []
        self._asking: dict[str, list[int]] = {}

    def play(self) -> Found:
        """Play it to its end."""
        for messages in self._recorded.runs():
            turn(self.session, self, messages)
        self._check_end()
        self.session.close()
        return self.found

    def turn(self, messages: Sequence[RecordedMessage]) -> None:
        """The body of a run."""
        for message, _ in messages:
            if message["role"] == "assistant":
                self._before(self.session)
                self._check_budget()
                self.found.counts["pairs broken"] += self._broken()
                if len(self._sent) in self._sampled:
                    self._look(message)
            self._append(message)

    def _look(self, step: Any) -> None:
        found, past = self.found, self._past
        view = self.session.history.messages()
        tokens = sum(map(size_of, view))
        found.sent += tokens
        found.raw += past.tokens
        wanted = past.wanted(step)
        pinned = past.always
        found.shown.look(wanted, said(view) | pinned)
        found.window.look(wanted, window(past.messages, tokens) | pinned)
        seed = f"{self._recorded.session_id} {len(past.messages)}"
        found.random.look(wanted, chance(past.messages, tokens, seed) | pinned)

    def _check_budget(self) -> None:
        session = self.session
        if session.profile().total_tokens <= session.token_budget:
            return
        passes = [r for r in session.reports if r.action in ("cleanup", "compress")]
        said_so = bool(passes) and passes[-1].reason.startswith("unreachable")
        excused = said_so and self._irreducible() > session.token_budget
        self.found.counts["over budget, unreachable" if excused else "over budget"] += 1
        if excused:
            self.found.reasons.append(f"{self._recorded.session_id}: {passes[-1].reason}")

    def _irreducible(self) -> int:
        items = list(self.session.history.items)
        users = [item for item in items if item.kind == "user" and not item.derived_from]
        kept = {item.id: item.tokens for item in items if item.kind == "system"}
        kept |= {item.id: item.tokens for item in (*users[:1], *users[-1:])}
        signed = {item.id: item.tokens for item in items[-10:] if facts(item.content).signed}
        return sum(item.tokens for item in self._pins) + sum((kept | signed).values())

    def _broken(self) -> int:
        told = [None if i is None else facts(i.content) for i in self.session.history._shown]

        def has(place: int, kind: str) -> bool:
            fact = told[place]
            return fact is not None and bool(getattr(fact, kind))

        return sum(has(call, "calls") != has(result, "results") for call, result in self._pairs)

    def _append(self, message: dict[str, Any]) -> None:
        place, fact = len(self._sent), facts(message)
        self.session.history.append(message)
        item = self.session.history._shown[-1]
        assert item is not None
        self._sent.append((item.id, _as_json(message)))
        self._past.append(message)
        for identity in fact.results:
            if waiting := self._asking.get(identity):
                self._pairs.append((waiting.pop(), place))
        for call in fact.calls:
            self._asking.setdefault(call.id, []).append(place)

    def _check_end(self) -> None:
        session, counts = self.session, self.found.counts
        held = {item.id: item for item in session.active_contexts}
        counts["pins changed"] += sum(held.get(item.id) is not item for item in self._pins)
        shown = {item.id for item in session.history.items}
        replaced = [(i, text) for i, text in self._sent if i not in shown]
        counts["messages replaced"] += len(replaced)
        counts["originals lost"] += sum(_as_json(session.original(i)) != t for i, t in replaced)


@managed_agent(name="traces")
def turn(session: Session, player: Player, messages: Sequence[RecordedMessage]) -> None:
    """One turn of the recorded agent."""
    player.turn(messages)


def _as_json(message: Any) -> str:
    return json.dumps(message, sort_keys=True, ensure_ascii=True)
