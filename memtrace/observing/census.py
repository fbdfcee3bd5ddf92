"""Counting what a call carries: each message once, however often it is sent.

A message is known again by a hash of what it says. Text keeps its own hash, so a list of a
hundred known messages costs a hundred look-ups. No message is kept alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ..counters import Counter
from ..messages import facts, texts
from ..messages.compact import compact_json
from ..messages.forms import parts
from ..tokens import binary_tokens, measure_tokens
from .facts import KINDS, Request

MEMO_SIZE = 16_384
"""Messages remembered; about 250 bytes each."""

NOTHING = 0
"""The print of tools or of a system prompt that are not there."""

_PASSING_KEYS = frozenset({"cache_control", "cachePoint"})
"""Keys that move from message to message between calls, and say nothing to the model."""

_MARK = b'"cache'  # how both begin; one search costs as much as the hash


class Known(NamedTuple):
    """What is remembered of a message.

    Args:
        kind: One of ``KINDS``.
        tokens: Tokens of it all.
        results: Of these, tool results within a message of another kind.
        body: A hash of its texts alone, by which a duplicate is told; 0: it has none.
    """

    kind: str
    tokens: int
    results: int
    body: int


class Tally:
    """Sums over the parts of one call. It goes on with the conversation's next one.

    Attributes:
        kinds: Tokens by kind, every one of ``KINDS`` present.
        tokens: Of all of them.
        duplicate_tokens: Tokens of messages whose texts had come before.
    """

    __slots__ = ("_seen", "duplicate_tokens", "kinds", "tokens")

    def __init__(self) -> None:
        self.kinds = dict.fromkeys(KINDS, 0)
        self.tokens = self.duplicate_tokens = 0
        self._seen: set[int] = set()

    def add(self, known: Known) -> None:
        """Add one part."""
        kind, tokens, results, body = known
        self.tokens += tokens
        self.kinds[kind] += tokens - results
        self.kinds["tool_results"] += results
        if body:
            if body in self._seen:
                self.duplicate_tokens += tokens
            self._seen.add(body)


def fingerprint(value: Any) -> int:
    """A hash of what a message says: equal for equal messages, whatever objects they are.

    >>> hello = {"role": "user", "content": "hello"}
    >>> blocks = {"role": "user", "content": [{"type": "text", "text": "hello"}]}
    >>> marked = {"role": "user", "content": [{**blocks["content"][0], "cache_control": {}}]}
    >>> fingerprint(hello) == fingerprint(dict(hello)), fingerprint(blocks) == fingerprint(marked)
    (True, True)
    """
    try:
        # Most messages are nothing but texts, which keep their hash.
        if type(value["content"]) is str and "tool_calls" not in value:
            return hash(tuple(value.items()))
    except Exception:  # noqa: S110  # it is not that plain
        pass
    try:
        spelled = _encode(value)
    except Exception:
        return hash(_frozen(value))  # it is no plain data
    if spelled.find(_MARK) < 0:
        return hash(spelled)
    unmarked = _unmarked(value)
    if type(unmarked) is dict and type(unmarked.get("content")) is str and len(unmarked) == 2:
        return hash(tuple(unmarked.items()))
    return hash(_encode(unmarked))


def _unmarked(value: Any) -> Any:
    """The value without the keys that only pass."""
    if isinstance(value, dict):
        return {k: _unmarked(held) for k, held in value.items() if k not in _PASSING_KEYS}
    return [_unmarked(held) for held in value] if isinstance(value, (list, tuple)) else value


_encode = msgspec.json.Encoder().encode


def _frozen(value: Any) -> Any:
    """The value as nested tuples, which can be hashed, without the keys that only pass."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, dict):
        pairs = value.items()
        return tuple([(key, _frozen(held)) for key, held in pairs if key not in _PASSING_KEYS])
    if isinstance(value, (list, tuple)):
        return tuple([_frozen(held) for held in value])
    # A framework's or a client's own object: hashed by what is read of it, never by identity.
    return type(value).__qualname__, compact_json(value)[:2]


def prints_of(request: Request) -> list[int]:
    """A print of the tools, one of the system prompt, then one of each message."""
    tools, system = request.tools, request.system
    return [
        fingerprint(tools) if tools else NOTHING,
        fingerprint(system) if system else NOTHING,
        *map(fingerprint, request.messages),
    ]


class Census:
    """What is known of the messages that calls carried, by their prints."""

    def __init__(self, counter: Counter, size: int = MEMO_SIZE) -> None:
        self._counter = counter
        self._size = size
        self._known: dict[int, Known] = {}

    def unknown(self, request: Request, prints: list[int]) -> int:
        """About how many characters are to be counted: those of plain texts, at least 1 a part."""
        known = self._known
        parts_ = (request.tools, request.system, *request.messages)
        new = [part for part, one in zip(parts_, prints, strict=True) if one and one not in known]
        return sum(_size(part) for part in new)

    def add(self, tally: Tally, request: Request, prints: list[int], start: int = 0) -> None:
        """Add the parts of a request from a place on; only what is not known is read."""
        known = self._known
        for place in range(start, len(prints)):
            tally.add(known.get(prints[place]) or self._read(request, place, prints[place]))

    def _read(self, request: Request, place: int, one: int) -> Known:
        if one == NOTHING and place < 2:
            return _NONE[place]
        if place == 0:
            found = Known("tools", measure_tokens(request.tools, counter=self._counter), 0, 0)
        elif place == 1:
            message = {"role": "system", "content": request.system}
            found = Known("system", measure_tokens(message, counter=self._counter), 0, 0)
        else:
            found = self._message(request.messages[place - 2])
        if len(self._known) >= self._size:
            self._forget()
        self._known[one] = found
        return found

    def _message(self, message: Any) -> Known:
        told = facts(message)
        tokens = measure_tokens(message, counter=self._counter)
        body = hash(tuple(texts(message))) if tokens > 3 else 0
        if told.kind == "tool":
            return Known("tool_results", tokens, 0, body)
        return Known(told.kind, tokens, self._results(message) if told.results else 0, body)

    def _results(self, message: Any) -> int:
        """Tokens of the tool results in a message that holds other things too."""
        return sum(
            binary_tokens(part.value)
            if part.kind == "binary"
            else measure_tokens(part.value, counter=self._counter)
            for part in parts(message)
            if part.inner
        )

    def _forget(self) -> None:
        # A copy of the keys is one step under the GIL; another thread may have been here too.
        for key in list(self._known)[: max(1, self._size // 8)]:
            self._known.pop(key, None)


def _duplicates(found: list[Known]) -> int:
    bodies = [known[3] for known in found if known[3]]
    seen: set[int] = set(bodies)
    if len(seen) == len(bodies):
        return 0
    return sum(known.tokens for known in found if known.body) - sum(
        {known.body: known.tokens for known in found if known.body}.values()
    )


def _size(part: Any) -> int:
    content = part.get("content") if type(part) is dict else part
    return len(content) if type(content) is str else len(compact_json(part).text)


_NONE = (Known("tools", 0, 0, 0), Known("system", 0, 0, 0))
