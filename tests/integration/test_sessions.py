"""Whole recorded sessions, real ones or generated, played through a managed agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from memtrace import configure, measure_tokens
from memtrace.replay import Recorded, open_session, play, read_session, turns

AMPLE = 10**9
"""Tokens that no session comes near."""


def half(recorded: Recorded) -> int:
    """Half of what a session would hold."""
    return max(1, play(recorded, token_budget=AMPLE).profile.total_tokens // 2)


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    """Failures of memtrace's own are raised."""
    before = configure(strict=True)
    yield
    configure(strict=before.strict)


@pytest.fixture(scope="module")
def recordings(session_files: list[Path], generated_files: list[Path]) -> list[Recorded]:
    """Every session there is, and the generated ones besides."""
    return [read_session(file) for file in dict.fromkeys([*session_files, *generated_files])]


def test_every_session_replays_with_totals_equal_to_a_recount(recordings: list[Recorded]) -> None:
    """
    After each recorded session the running totals are what counting everything again gives.
    """
    assert len(recordings) >= 20
    for recorded in recordings:
        session = open_session(recorded)
        played = list(turns(recorded, session))

        profile = session.profile()
        assert profile == session.recount(), recorded.path
        assert played[-1].after == profile, recorded.path


def test_every_message_stays_reachable(recordings: list[Recorded]) -> None:
    """
    Under a budget of half its size a session still has each message: shown, or as an original.
    """
    for recorded in recordings:
        session = open_session(recorded, token_budget=half(recorded))
        for _ in turns(recorded, session):
            pass

        kept = []
        for item in session.history.items:
            original = session.original(item.id)
            kept += original if item.derived_from[1:] else [original]
        # Where what must stay leaves no room even for a line, nothing stands for what was dropped.
        kept += [
            item.content for item in session.record.originals.values() if not item.derived_from
        ]
        expected = {id(message) for message, _ in recorded.messages}
        assert {id(message) for message in kept} == expected, recorded.path
        assert session.profile() == session.recount(), recorded.path


def test_what_is_over_budget_is_reported(recordings: list[Recorded]) -> None:
    """
    Under half its size a session is over budget at no moment, unless that is reported.
    """
    for recorded in recordings:
        replay = play(recorded, token_budget=half(recorded))

        if replay.over_budget:
            assert any(turn.unreachable for turn in replay.turns), recorded.path
        assert replay.sent.tokens <= replay.sent.raw_tokens


def test_history_counts_what_its_messages_count(recordings: list[Recorded]) -> None:
    """
    A session's conversation counts the sum of its messages, each counted alone.
    """
    for recorded in recordings:
        expected = sum(measure_tokens(message) for message, _ in recorded.messages)

        replay = play(recorded, token_budget=AMPLE)
        assert replay.reports == ()
        assert replay.profile.conversation_history == expected, recorded.path


def test_turns_follow_on_from_each_other(recordings: list[Recorded]) -> None:
    """
    Every turn finds memory as the last one left it, and all messages are in one turn each.
    """
    for recorded in recordings:
        played = play(recorded).turns

        assert [turn.number for turn in played] == list(range(1, len(played) + 1))
        assert sum(turn.messages for turn in played) == len(recorded.messages)
        for earlier, later in pairwise(played):
            assert later.before == earlier.after, recorded.path


def test_nothing_noted_by_the_recorder_enters_the_history(recordings: list[Recorded]) -> None:
    """
    What stands under `_x` is kept beside a message and never counted.
    """
    messages = [message for recorded in recordings for message in recorded.messages]

    assert any(message.notes for message in messages)
    assert not any("_x" in message.message for message in messages)


def test_sessions_are_read_as_their_manifest_says(session_files: list[Path]) -> None:
    """
    Every file has the number of messages that whoever collected them counted.
    """
    for file in session_files:
        manifest = file.parent.parent / "manifest.json"
        listed = json.loads(manifest.read_text("utf-8"))["sessions"] if manifest.is_file() else []
        counted = {entry["file"]: entry["messages"] for entry in listed}
        lines = file.read_bytes().count(b"\n") - 1

        name = file.relative_to(file.parent.parent).as_posix()
        assert len(read_session(file).messages) == counted.get(name, lines)
