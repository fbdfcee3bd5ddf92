"""What the traces benchmark measures, and its controls: pure functions over messages."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from string import punctuation
from typing import Any

from memtrace.counters import default_counter
from memtrace.messages import facts, texts
from memtrace.tokens import MESSAGE_FRAME_TOKENS

_WORD = re.compile(r"[\w./\-]+")
_TELLING = re.compile(r"[\d_/.\-]|(?<=.)[A-Z]")
_PAYLOAD = re.compile(r"[A-Za-z0-9+/=]{2000,}")


@cache
def identifiers(text: str) -> frozenset[str]:
    """Identifiers in a text: punctuation stripped first, then at least four characters, with a
    digit, `_`, `/`, `.`, `-` or an inner capital."""
    words = {word.strip(punctuation) for word in set(_WORD.findall(text))}
    return frozenset(word for word in words if len(word) >= 4 and _TELLING.search(word))


@cache
def tokens_of(text: str) -> int:
    """Tokens of a text, base64 of 2,000 characters and more left out."""
    return default_counter().count_text(_PAYLOAD.sub("", text))


def texts_of(message: Any) -> list[str]:
    """All that a message says: content, names, tool calls' arguments."""
    return [text for text in texts(message) if isinstance(text, str)]


def size_of(message: Any) -> int:
    """Tokens of a message, its frame included."""
    return MESSAGE_FRAME_TOKENS + sum(map(tokens_of, texts_of(message)))


@cache
def unescaped(text: str) -> str:
    """What arguments sent as JSON text say: their keys and values; other text as it is."""
    try:
        return "\n".join(_leaves(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, held in value.items():
            yield key
            yield from _leaves(held)
    elif isinstance(value, list):
        for held in value:
            yield from _leaves(held)
    else:
        yield str(value)


def said(messages: Iterable[Any]) -> set[str]:
    """All identifiers in messages; those in calls' arguments as their values have them."""
    names: set[str] = set()
    for message in messages:
        calls = {call.arguments_text for call in facts(message).calls}
        for text in texts_of(message):
            names |= identifiers(unescaped(text) if text in calls else text)
    return names


@dataclass
class Shown:
    """Of the identifiers that steps used and that occurred before, how many were still in sight.

    Attributes:
        used: By where they occurred: ``outputs`` only, or ``any``where.
        kept: Those of them that the view showed.
    """

    used: dict[str, int] = field(default_factory=lambda: {"outputs": 0, "any": 0})
    kept: dict[str, int] = field(default_factory=lambda: {"outputs": 0, "any": 0})
    lost: list[str] = field(default_factory=list)

    def look(self, wanted: dict[str, set[str]], view: set[str]) -> None:
        """Add one step."""
        for where, names in wanted.items():
            self.used[where] += len(names)
            self.kept[where] += len(names & view)
        self.lost += sorted(wanted["any"] - view)

    def add(self, other: Shown) -> None:
        """Add another session's steps."""
        for where in self.used:
            self.used[where] += other.used[where]
            self.kept[where] += other.kept[where]
        self.lost += other.lost

    def share(self, where: str) -> float:
        """RS for ``outputs``, RS-all for ``any``; 1 where nothing was used."""
        return self.kept[where] / self.used[where] if self.used[where] else 1.0


class Past:
    """The raw prefix before each step, and what of it a step uses."""

    def __init__(self, always: str = "") -> None:
        self.messages: list[Any] = []
        self.tokens = 0
        self.always = identifiers(always)
        self._anywhere = set(self.always)
        self._told = set(self.always)  # not in a tool output

    def append(self, message: Any) -> None:
        """One message more."""
        self.messages.append(message)
        self.tokens += size_of(message)
        names = said([message])
        self._anywhere |= names
        if not facts(message).results:
            self._told |= names

    def wanted(self, step: Any) -> dict[str, set[str]]:
        """The identifiers that a step uses, by where they occurred before."""
        used = said([step])
        return {"outputs": (used & self._anywhere) - self._told, "any": used & self._anywhere}


def window(messages: Sequence[Any], tokens: int) -> set[str]:
    """What a sliding window of so many tokens shows: the last messages, the oldest cut."""
    return _filled(reversed(messages), tokens)


def chance(messages: Sequence[Any], tokens: int, seed: str) -> set[str]:
    """What so many tokens of messages taken at random show."""
    order = list(messages)
    random.Random(seed).shuffle(order)  # a fixed seed: the same figure each time
    return _filled(order, tokens)


def _filled(messages: Iterable[Any], tokens: int) -> set[str]:
    names: set[str] = set()
    for message in messages:
        size = size_of(message)
        if size > tokens:
            text = "\n".join(texts_of(message))
            return names | identifiers(text[len(text) - len(text) * max(0, tokens) // size :])
        tokens -= size
        names |= said([message])
    return names


def sampled(steps: Sequence[int]) -> list[int]:
    """The steps that are looked at: all of the first 40, then each third one."""
    return [step for number, step in enumerate(steps) if number < 40 or (number - 40) % 3 == 0]
