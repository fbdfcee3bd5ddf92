"""Recorded sessions, real ones or generated, held at a part of their own size.

Each session is played through a managed agent that asks for its messages before every model
call, at budgets of 25, 50 and 100% of what it holds in all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from memtrace import Item, Session, configure, managed_agent
from memtrace.actions.pairs import faults
from memtrace.messages import facts
from memtrace.replay import Recorded, open_session, read_session
from memtrace.tokens import default_counter

SHARES = (0.25, 0.5, 1.0)
COUNTS: dict[str, int] = {}
CUT = "characters left out"


class Remembered:
    """The default encoding, each text counted once for all budgets."""

    name, exact = "o200k_base", True

    def count_text(self, text: str) -> int:
        tokens = COUNTS.get(text)
        if tokens is None:
            tokens = COUNTS[text] = default_counter().count_text(text)
        return tokens


@dataclass
class Watched:
    """One session played at one budget, and what was seen to be wrong."""

    session: Session
    name: str
    over: list[str] = field(default_factory=list)
    wrongly: list[str] = field(default_factory=list)
    parted: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    received: list[Any] = field(default_factory=list)
    contents: dict[str, Any] = field(default_factory=dict)
    pinned: dict[str, Any] = field(default_factory=dict)
    made: list[tuple[int, Item]] = field(default_factory=list)
    runs: int = 0


def play(recorded: Recorded, share: float) -> Watched:
    """Play a session at a share of its own size, and look after every step."""
    session = open_session(recorded)
    size = session.active_contexts.tokens
    plain = Session(counter=Remembered())
    plain.history.extend(message for message, _ in recorded.messages)
    size += plain.history.tokens
    session = Session(
        recorded.session_id, token_budget=max(1, int(size * share)), counter=Remembered()
    )
    watched = Watched(session, f"{recorded.path.name} at {share:.0%}")
    for kind in ("system", "tools"):
        if content := recorded.header.get(kind):
            item = session.active_contexts.add(content, key=kind, kind=kind)
            watched.pinned[item.id] = content
    for messages in recorded.runs():
        watched.runs += 1
        _turn(session, watched, [message.message for message in messages])
        _look(watched, "after a run")
    return watched


@managed_agent(name="recorded")
def _turn(session: Session, watched: Watched, messages: list[Any]) -> None:
    _look(watched, "before a run")
    for message in messages:
        if message["role"] == "assistant":
            before = _seen(watched)
            session.messages()
            _look(watched, "after messages()", before)
        session.history.append(message)
        watched.received.append(message)
        watched.contents[session.history.items[-1].id] = message


Seen = tuple[float, list[Any], set[int]]


def _seen(watched: Watched) -> Seen:
    """How full it is, what it shows, and what of that must stay."""
    session = watched.session
    stay, users = set(), []
    for item in session.history.items:
        fact = facts(item.content)
        if fact.kind == "system":
            stay.add(id(item.content))
        elif fact.kind == "user" and not item.derived_from:
            users.append(id(item.content))
    profile = session.profile()
    full = max(profile.utilization_rate, profile.working_memory_utilization)
    return full, session.history.messages(), stay | set(users[:1] + users[-1:])


def _look(watched: Watched, when: str, before: Seen | None = None) -> None:
    session, where = watched.session, f"{watched.name} {when}"
    profile = session.profile()
    if profile.total_tokens > session.token_budget:
        told = [r.reason for r in session.reports if r.action in ("cleanup", "compress")]
        if not (told and told[-1].startswith("unreachable: ")):
            watched.over.append(f"{where}: {profile!r}")
        elif (floor := _floor(watched)) <= session.token_budget:
            watched.wrongly.append(f"{where}: {floor} could be reached, {profile!r}")
    shown = session.history.messages()
    if not faults([facts(message) for message in watched.received]):
        watched.parted += [f"{where}: {p}" for p in faults([facts(message) for message in shown])]
    held = {item.id: item.content for item in session.active_contexts.items}
    watched.moved += [f"{where}: {i}" for i, c in watched.pinned.items() if held.get(i) is not c]
    made = {item.id for _, item in watched.made}
    watched.made += [
        (watched.runs, item)
        for item in session.history.items
        if item.derived_from and item.id not in made
    ]
    if before is not None:
        full, was, stay = before
        now = {id(message) for message in shown}
        watched.moved += [f"{where}: a protected message"] * len(stay - now)
        if full <= 0.70 and any(a is not b for a, b in zip(was, shown, strict=True)):
            watched.removed.append(f"{where} at {full:.0%}")


def _floor(watched: Watched) -> int:
    """What is left at least: pins, system, first task, latest turn, and the last outputs capped."""
    session = watched.session
    limit = int(session.token_budget * session.policy.cap_share)
    held = [item for item in session.history.items if not item.derived_from]
    read = [(item, facts(item.content)) for item in held]
    users = [item for item, fact in read if fact.kind == "user"]
    stay = {item.id: item for item, fact in read if fact.kind == "system"}
    stay.update((item.id, item) for item in users[:1] + users[-1:])
    outputs = [item for item, fact in read if fact.results][-session.policy.keep_tool_outputs :]
    capped = sum(min(item.tokens, limit) for item in outputs if item.id not in stay)
    pinned = sum(item.tokens for item in session.active_contexts.items if item.pinned)
    return pinned + sum(item.tokens for item in stay.values()) + capped


@pytest.fixture(scope="module")
def played(session_files: list[Path]) -> Iterator[list[Watched]]:
    """Every session at every budget."""
    before = configure(strict=True)
    recordings = [read_session(file) for file in session_files]
    yield [play(recorded, share) for recorded in recordings for share in SHARES]
    configure(strict=before.strict)
    COUNTS.clear()


def test_no_run_and_no_messages_leave_more_than_the_budget(played: list[Watched]) -> None:
    """
    After any run and any ``messages()`` memory is within its budget, or says why it cannot be.
    """
    assert len(played) >= 60
    assert [problem for watched in played for problem in watched.over] == []


def test_what_is_said_to_be_unreachable_is(played: list[Watched]) -> None:
    """
    ``unreachable`` is said only where pins, system prompt, first task, latest user turn and the
    capped last outputs alone exceed the budget.
    """
    assert [problem for watched in played for problem in watched.wrongly] == []


def test_no_pair_is_broken(played: list[Watched]) -> None:
    """
    What a model may be sent is valid wherever what was received is.
    """
    assert [problem for watched in played for problem in watched.parted] == []


def test_no_pin_is_changed(played: list[Watched]) -> None:
    """
    Pinned contexts, system prompts, first task and latest user turn are the same objects.
    """
    assert [problem for watched in played for problem in watched.moved] == []


def test_nothing_is_removed_while_under_target(played: list[Watched]) -> None:
    """
    ``messages()`` changes nothing of a session that is at its target.
    """
    assert [problem for watched in played for problem in watched.removed] == []


def test_every_original_is_restored_as_the_same_object(played: list[Watched]) -> None:
    """
    Each message that came in and is not shown is given back by its id, and by what stands for it.
    """
    replaced = 0
    for watched in played:
        session = watched.session
        shown = {id(message) for message in session.history.messages()}
        for item_id, content in watched.contents.items():
            if id(content) not in shown:
                replaced += 1
                assert session.original(item_id) is content, watched.name
        for item in session.history.items:
            sources = [watched.contents[source] for source in item.derived_from]
            if sources:
                original = session.original(item.id)
                given = original if len(sources) > 1 else [original]
                assert all(a is b for a, b in zip(given, sources, strict=True)), watched.name
    assert replaced > 100


def test_no_message_is_changed(played: list[Watched], session_files: list[Path]) -> None:
    """
    What the caller appended is, after all of it, what stands in the recording.
    """
    for number, file in enumerate(session_files):
        recorded = [message for message, _ in read_session(file).messages]
        for watched in played[number * len(SHARES) : (number + 1) * len(SHARES)]:
            assert watched.received == recorded, watched.name


def _step(item: Item) -> str:
    """Which step made a shorter form, by what it says."""
    if item.kind == "digest":
        return "digest"
    text = str(item.content)
    marks = ("[same call", "[output set aside", CUT)
    return next((mark for mark in marks if mark in text), "other")


def test_nothing_is_compressed_twice_by_the_same_step_in_a_run(played: list[Watched]) -> None:
    """
    Within one run no message is noted as repeated, put into a stub, cut, or put into a digest a
    second time.
    """
    twice = []
    for watched in played:
        count = Counter(
            (run, _step(item), source) for run, item in watched.made for source in item.derived_from
        )
        twice += [f"{watched.name}: {key}" for key, times in count.items() if times > 1]
    assert twice == []


def test_totals_are_exact_at_the_end(played: list[Watched]) -> None:
    """
    Running totals equal a recount after everything that was done.
    """
    for watched in played:
        assert watched.session.profile() == watched.session.recount(), watched.name
