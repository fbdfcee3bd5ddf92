"""Watching a list that its caller owns: measured before and after, and otherwise left alone."""

from __future__ import annotations

import gc
import weakref
from collections import UserList, deque
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memtrace import managed_agent, measure_tokens


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def measured(spans: InMemorySpanExporter) -> list[tuple[Any, Any]]:
    """Tokens before and after, of each run."""
    return [
        (
            (span.attributes or {})["memtrace.profile.before.tokens"],
            (span.attributes or {})["memtrace.profile.after.tokens"],
        )
        for span in spans.get_finished_spans()
    ]


def test_list_that_grows(spans: InMemorySpanExporter) -> None:
    """
    Each run measures the list as it finds it and as it leaves it.
    """

    @managed_agent(messages="messages")
    def agent(messages: list[Any]) -> None:
        messages.append(user("more"))

    messages = [user("hello")]
    for _ in range(3):
        agent(messages)

    assert measured(spans) == [(4, 8), (8, 12), (12, 16)]


@pytest.mark.parametrize(
    "change",
    [
        lambda messages: messages[0].update(content="a good deal longer than before"),
        lambda messages: messages[0]["content"].append({"type": "text", "text": "one more"}),
        lambda messages: messages.insert(0, user("first")),
        lambda messages: messages.clear(),
    ],
    ids=["message replaced in place", "block added in place", "inserted", "cleared"],
)
def test_list_that_changes_in_place(change: Any, spans: InMemorySpanExporter) -> None:
    """
    However the body changes its list or a message of it, what is left is what is measured.
    """
    messages = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}, user("bye")]
    before = measure_tokens(messages)
    managed_agent(messages="messages")(lambda messages: change(messages))(messages)

    after = measure_tokens(messages)
    assert measured(spans) == [(before, after)]
    assert before != after


@pytest.mark.parametrize("kind", [tuple, deque, UserList, list])
def test_any_sequence(kind: Any, spans: InMemorySpanExporter) -> None:
    """
    Any sequence of messages is measured, whatever its type.
    """
    messages = kind([user("hello"), user("bye")])
    assert managed_agent(messages="messages")(lambda messages: messages)(messages) is messages

    assert measured(spans) == [(8, 8)]


def test_list_is_not_kept(spans: InMemorySpanExporter) -> None:
    """
    Neither the list nor its messages live longer for having been watched.
    """

    class Messages(list[Any]):
        pass

    messages = Messages([user("hello")])
    gone = weakref.ref(messages)
    managed_agent(messages="messages")(lambda messages: None)(messages)
    del messages
    gc.collect()

    assert gone() is None


def test_default_is_watched(spans: InMemorySpanExporter) -> None:
    """
    A list that is a parameter's default is measured where the caller gives none.
    """
    given = [user("hello")]

    @managed_agent(messages="messages")
    def agent(messages: Any = given) -> None: ...

    agent()
    assert measured(spans) == [(4, 4)]
