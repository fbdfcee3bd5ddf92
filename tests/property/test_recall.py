"""Recall over any text, asked anything."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memtrace import Session, measure_tokens
from memtrace.actions.pairs import faults
from memtrace.messages import facts
from memtrace.recalling import Passage
from memtrace.recalling.passages import passages, text_of
from memtrace.recalling.words import LONGEST, sought, words

pieces = ['"', "'", "AND", " ", "\0", "\ud800", "設", "定", "🙂", "apple", "Bc", "*", "1", ". "]
anything = st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(pieces)).map("".join)
long = st.builds(lambda text, times: text * times, anything, st.integers(1, 200))


def call(number: int, output: str) -> list[dict[str, Any]]:
    """A tool call and its result."""
    asked = {"id": f"c{number}", "function": {"name": "read", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": output},
    ]


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """A session of any messages and contexts, calls with their results among them."""
    session = Session()
    for number, text in enumerate(draw(st.lists(anything | long, max_size=12))):
        kind = draw(st.sampled_from(["user", "assistant", "call", "context", "half"]))
        if kind == "context":
            session.active_contexts.add(text)
        elif kind in ("call", "half"):
            session.history.extend(call(number, text)[: 2 if kind == "call" else 1])
        else:
            session.history.append({"role": kind, "content": text})
    return session


@given(sessions(), anything | long, st.integers(0, 5))
def test_any_query_gives_items_of_the_session(session: Session, query: str, k: int) -> None:
    """
    Whatever is asked, what comes is the session's own, each once, passages where they say.
    """
    items = session.recall(query, k)

    assert len(items) <= k
    sources = [item.derived_from[0] if item.derived_from else item.id for item in items]
    assert len(set(sources)) == len(sources)
    for item, source in zip(items, sources, strict=True):
        text = text_of(session.original(source))
        if isinstance(item, Passage):
            assert item.content == text[slice(*item.span)]
        else:
            assert text_of(item.content) == text


@given(sessions(), anything | long, st.integers(0, 400))
def test_any_context_fits_and_is_valid(session: Session, query: str, limit: int) -> None:
    """
    A context is within its budget, and no call in it is without its result, or a result without
    its call.
    """
    messages = session.context_for(query, limit)

    assert measure_tokens(messages) <= limit
    told = [facts(message) for message in messages]
    assert faults(told) == []
    assert sum(len(fact.calls) for fact in told) == sum(len(fact.results) for fact in told)


@given(long, st.integers(0, 5_000))
def test_passages_are_all_of_a_text(text: str, tokens: int) -> None:
    """
    Passages part a text without a gap, whatever it is taken to count.
    """
    spans = passages(text, tokens)
    assert "".join(text[start:stop] for start, stop in spans) == text
    assert all(start < stop for start, stop in spans) or text == ""


@given(anything | long)
def test_words_are_plain(text: str) -> None:
    """
    Words are short, hold nothing that a search gives a meaning, and what is sought is among them.
    """
    found = words(text)
    assert all(0 < len(word) <= LONGEST for word in found)
    assert not any(letter in word for word in found for letter in " \"'*():\0")
    assert set(sought(text)) <= set(found)


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=1, max_size=8))
def test_a_message_is_found_by_its_own_words(texts: list[str]) -> None:
    """
    A text asked for as it stands is found, wherever it has a word at all.
    """
    session = Session()
    session.history.extend({"role": "user", "content": text} for text in texts)
    for text in texts:
        if sought(text):
            assert text in [text_of(item.content) for item in session.recall(text, len(texts))]
