"""Which conversation a request belongs to, and what of it is new.

A request carries a conversation so far. Requests are of one conversation where they begin alike
(up to the first message of a user), or where one holds the end of what is known, as an agent's
does that drops its oldest messages.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from .drafts import Draft, Message, Told

Said = tuple[Message, dict[str, Any]]

_OVERLAP = 3
"""Messages in a row that tell a conversation without its beginning: one alone may come twice."""


def fingerprint(message: Mapping[str, Any]) -> bytes:
    """What a message is known by: what it says, however it was put into JSON.

    >>> fingerprint({"role": "user", "content": "a"}) == fingerprint(
    ...     {"content": "a", "role": "user", "refusal": None, "annotations": []})
    True
    """
    said = {key: value for key, value in message.items() if value not in (None, [], {}, "")}
    text = json.dumps(said, sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=12).digest()


class _Known:
    """A conversation: its draft, and its messages as the last request had them."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.prints: list[bytes] = []
        self.ever: set[bytes] = set()

    def say(self, message: Message, notes: Mapping[str, Any]) -> None:
        mark = fingerprint(message)
        self.prints.append(mark)
        self.ever.add(mark)
        self.draft.add(message, notes)


class Conversations:
    """Conversations as they come out of requests and replies.

    Args:
        name: What sessions are called that have no id of their own.
        source: Name of the format.
        told: Where to tell what does not fit together.
    """

    def __init__(self, name: str, source: str, told: Told) -> None:
        self._name, self._source, self._told = name, source, told
        self._all: list[_Known] = []
        self._by_opening: dict[tuple[str, bytes], _Known] = {}
        self._by_end: dict[tuple[str, bytes], _Known] = {}
        self._by_reply: dict[str, _Known] = {}
        self._last: _Known | None = None
        self._taken: set[str] = set()
        self._numbers: defaultdict[str, int] = defaultdict(lambda: 1)

    @property
    def drafts(self) -> list[Draft]:
        """All of them, the first first."""
        return [known.draft for known in self._all]

    def request(self, said: Sequence[Said], *, group: str = "", follows: str = "") -> Draft:
        """A model call's messages.

        Args:
            said: All of them, in order, and what is noted beside each.
            group: Its conversation's id, or its trace's; empty: unknown.
            follows: Id of the reply that it goes on from, of which it does not repeat a thing.
        """
        known = self._by_reply.get(follows) if follows else None
        if known is not None:
            for message, notes in said:
                known.say(message, notes)
        else:
            known = self._sync(said, group)
        self._last = known
        self._remember_end(known, group)
        return known.draft

    def reply(
        self,
        said: Iterable[Said],
        *,
        draft: Draft | None = None,
        group: str = "",
        identity: str = "",
    ) -> Draft:
        """What a model answered: to the last request, or in the session of ``draft``."""
        known = self._last
        if draft is not None:
            known = next(k for k in self._all if k.draft is draft)
        if known is None:
            known = self._last = self._new("")
        for message, notes in said:
            known.say(message, notes)
        if identity:
            self._by_reply[identity] = known
        self._remember_end(known, group)
        return known.draft

    # --- finding ---------------------------------------------------------------------------------

    def _sync(self, said: Sequence[Said], group: str) -> _Known:
        prints = [fingerprint(message) for message, _ in said]
        opening = _opening([message for message, _ in said], prints)
        known = self._by_opening.get((group, opening)) or self._overlapping(prints, group)
        if known is None:
            known = self._by_opening[group, opening] = self._new(group)
        same = _common(known.prints, prints)
        if same < len(known.prints):
            self._told.tell("requests that do not go on from the one before")
        for place in range(same, len(said)):
            if same == len(known.prints) or prints[place] not in known.ever:
                known.ever.add(prints[place])
                known.draft.add(*said[place])
        known.prints = prints
        return known

    def _overlapping(self, prints: Sequence[bytes], group: str) -> _Known | None:
        for end in range(len(prints), _OVERLAP - 1, -1):
            mark = b"".join(prints[end - _OVERLAP : end])
            if known := self._by_end.get((group, mark)):
                return known
        return None

    def _remember_end(self, known: _Known, group: str) -> None:
        if len(known.prints) >= _OVERLAP:
            self._by_end[group, b"".join(known.prints[-_OVERLAP:])] = known

    def _new(self, identity: str) -> _Known:
        name = session_id = identity or self._name
        while session_id in self._taken:
            self._numbers[name] += 1
            session_id = f"{name}-{self._numbers[name]}"
        self._taken.add(session_id)
        known = _Known(Draft(session_id, self._source))
        self._all.append(known)
        return known


def _opening(messages: Sequence[Mapping[str, Any]], prints: Sequence[bytes]) -> bytes:
    """What comes up to the first message of a user, that included."""
    for place, message in enumerate(messages):
        if message.get("role") == "user":
            return b"".join(prints[: place + 1])
    return b"".join(prints)


def _common(first: Sequence[bytes], second: Sequence[bytes]) -> int:
    """How many of two lists' elements are the same, from the beginning."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
