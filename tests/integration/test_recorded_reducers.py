"""Every reducer on every recorded session: what is shown stays valid, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memtrace import Session, compress_memory
from memtrace.actions.draft import Draft, Eligible
from memtrace.actions.folding import fold_logs, fold_runs
from memtrace.actions.lossless import plainer
from memtrace.actions.pairs import faults
from memtrace.actions.pipeline import GENTLE, Reducer
from memtrace.actions.prose import prose
from memtrace.actions.salient import salient
from memtrace.messages import facts, texts
from memtrace.replay import read_session

EVERY: tuple[Reducer, ...] = (*GENTLE, prose)
TEXTS: tuple[Callable[[str], str], ...] = (plainer, fold_runs, fold_logs)


class Letters:
    """Four characters a token: quick, and exact by its own word."""

    name, exact = "letters", True

    def count_text(self, text: str) -> int:
        return (len(text) + 3) // 4


def held(file: Path) -> tuple[Session, list[Any]]:
    """A session that holds a recording, and its messages."""
    messages = [message for message, _ in read_session(file).messages]
    session = Session("s", token_budget=10**9, counter=Letters())
    session.history.extend(messages)
    return session, messages


def stays(messages: list[Any]) -> set[int]:
    """Places of system prompts, the first task and the latest user turn."""
    kinds = [facts(message).kind for message in messages]
    users = [place for place, kind in enumerate(kinds) if kind == "user"]
    return {p for p, kind in enumerate(kinds) if kind == "system"} | {*users[:1], *users[-1:]}


def _all_but(ids: frozenset[str]) -> Eligible:
    return lambda item: item.id not in ids


@pytest.mark.parametrize("reducer", EVERY, ids=lambda reducer: reducer.__name__)
def test_a_reducer_alone_keeps_every_invariant(reducer: Reducer, session_files: list[Path]) -> None:
    """
    Fewer tokens, the same places, valid order, protected messages untouched, originals back.
    """
    changed = 0
    for file in session_files:
        session, messages = held(file)
        before = session.history.items
        draft = Draft(session, 0, pace="thorough")
        reducer(draft, _all_but(draft.recent))
        draft.commit()

        shown = session.history.items
        assert len(shown) == len(messages)
        assert session.profile() == session.recount()
        if not faults([facts(message) for message in messages]):
            assert not faults([facts(item.content) for item in shown])
        kept = stays(messages) | set(range(len(messages) - 10, len(messages)))
        for place, (now, was) in enumerate(zip(shown, before, strict=True)):
            assert now.tokens <= was.tokens
            if now is not was:
                changed += 1
                assert place not in kept
                assert session.original(now.id) is was.content is session.original(was.id)
    assert changed or reducer.__name__ in ("repeated_lines", "logs", "lossless")


def test_compressing_before_every_step_does_nothing_twice(session_files: list[Path]) -> None:
    """
    A second compression changes nothing, and what was sent before stays as it was sent.
    """
    for file in session_files[::3]:
        session, messages = held(file)
        session.history.clear()
        for message in messages:
            if message["role"] == "assistant":
                compress_memory(session, 1e-9, gently=True)
                shown = session.history.messages()
                assert compress_memory(session, 1e-9, gently=True).items == 0
                again = session.history.messages()
                assert all(a is b for a, b in zip(shown, again, strict=True))
            session.history.append(message)


def test_forms_of_text_are_stable_and_never_longer(session_files: list[Path]) -> None:
    """
    Each pure function gives, of each text recorded, one no longer that it leaves as it is.
    """
    for file in session_files:
        for message, _ in read_session(file).messages:
            for text in texts(message):
                if not isinstance(text, str):
                    continue
                for form in TEXTS:
                    once = form(text)
                    assert len(once) <= len(text) or form is not plainer
                    assert form(once) == once
                assert len(salient(text, 0.25)) <= max(1, len(text))


_PROGRAM = """
import json, sys
from memtrace import Session, compress_memory, managed_agent, trigger_cleanup
from memtrace.replay import read_session
for path in sys.argv[1:]:
    messages = [message for message, _ in read_session(path).messages]
    session = Session("s", token_budget=12_000)
    session.history.extend(messages)
    compress_memory(session, 0.9, gently=True)
    print(json.dumps(session.history.messages()))
    session.messages()
    print(json.dumps(session.history.messages()))
    trigger_cleanup(session, 0.3)
    print(json.dumps(session.history.messages()))
"""


def test_what_is_shown_does_not_depend_on_the_hash_seed(session_files: list[Path]) -> None:
    """
    Recorded sessions are compressed to the same bytes under two hash seeds.
    """
    largest = sorted(session_files, key=lambda file: -file.stat().st_size)[:6]
    outcomes = set()
    for seed in ("1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *map(str, largest)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        outcomes.add(done.stdout)

    assert len(outcomes) == 1
    assert len(outcomes.pop()) > 10_000
