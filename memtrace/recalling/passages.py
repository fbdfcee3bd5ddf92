"""Long texts in passages: whole sentences that together are long enough to mean something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..messages import is_message, texts
from ..messages.compact import compact_json
from ..values import Item

LONG = 128
"""Tokens above which a text is searched, and shown, in passages. Source: up to it a message says
one thing, and cutting it hurts; beyond it 60- to 120-token passages find more in recorded
dialogues, and transfer to others."""

SHORTEST, LARGEST = 60, 120
"""Tokens of a passage: it ends with the sentence by which it has so many, and never has more."""

_END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])[」』”’]*|\n+")  # noqa: RUF001


class Text(NamedTuple):
    """One text by which an item is found: all of a short item's, or a passage of a long one's.

    Args:
        item: The item's id.
        start: Where it begins in the item's text, in characters.
        stop: Where it ends.
    """

    item: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Passage(Item):
    """A part of a long item, found by what was asked for.

    It has the fields of the item that it is of, but for these.

    Args:
        id: The item's, and where in it the passage stands: ``m7[120:480]``.
        content: Its text.
        tokens: Of its text.
        derived_from: The item's id, alone.
        span: Where it begins and ends in the item's text, in characters. The text of a message
            is all of it that is counted, one part a line; of what is no text, its JSON.
    """

    span: tuple[int, int] = (0, 0)


def text_of(content: Any) -> str:
    """The text of an item's content, by which it is searched.

    >>> text_of({"role": "user", "content": "hello"}), text_of({"a": 1})
    ('hello', '{"a":1}')
    """
    if isinstance(content, str):
        return content
    if is_message(content):
        return "\n".join(part for part in texts(content) if isinstance(part, str))
    return compact_json(content).text


def passages(text: str, tokens: int) -> list[tuple[int, int]]:
    """Where the passages of a text begin and end: all of it, in order. Linear.

    Args:
        text: Any.
        tokens: What it counts, by which its characters are taken to count alike.

    >>> passages("Short. Enough.", 4)
    [(0, 14)]
    """
    if tokens <= LONG or not text:
        return [(0, len(text))]
    shortest = max(1, len(text) * SHORTEST // tokens)
    largest = shortest * LARGEST // SHORTEST
    spans: list[tuple[int, int]] = []
    start = end = 0
    for stop in _stops(text, largest):
        if stop - start > largest and end > start:
            spans.append((start, end))
            start = end
        end = stop
        if end - start >= shortest:
            spans.append((start, end))
            start = end
    if start < len(text):
        if spans and len(text) - start < shortest // 2:
            start = spans.pop()[0]  # too little to stand alone
        spans.append((start, len(text)))
    return spans


def texts_of(item: Item) -> list[Text]:
    """The texts by which an item is found, in order."""
    spans = passages(text_of(item.content), item.tokens)
    return [Text(item.id, start, stop) for start, stop in spans]


def _stops(text: str, largest: int) -> Iterator[int]:
    """Where sentences end, and where one longer than a passage is cut; the last is the text's."""
    before = 0
    for end in (*(found.end() for found in _END.finditer(text)), len(text)):
        while end - before > largest:
            # Between words, if there is a gap in the second half of what a passage may have.
            gap = text.rfind(" ", before + largest // 2, before + largest) + 1
            before = gap or before + largest
            yield before
        if end > before:
            before = end
            yield end
