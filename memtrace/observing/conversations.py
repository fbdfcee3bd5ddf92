"""Which conversation a call belongs to: told by how its messages begin.

Of the lists that were sent before, only a number for each message is kept.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

MAX_LISTS = 256
"""Lists remembered, each the last one of a conversation or of a branch of it."""

MAX_ALIKE = 32
"""Of these, lists with the same first user message."""

MAX_PRINTS = 131_072
"""Messages of all of them together: some 5 MB."""


class Place(NamedTuple):
    """Where a call stands.

    Args:
        conversation: 16 hexadecimal digits, new for each conversation.
        turn: Which call of it this is. Starts at 1.
        sent: What is remembered of it from now on.
        before: The call of that conversation that it has most in common with; None: none.
        common: Parts (tools, system prompt, then messages) that both begin with.
    """

    conversation: str
    turn: int
    sent: Sent
    before: Sent | None
    common: int

    @property
    def continues(self) -> bool:
        """Whether it is the call before and more: then it takes the place of that one."""
        return self.before is not None and self.common == len(self.before.prints)


class _Thread:
    """A conversation."""

    __slots__ = ("id", "turns")

    def __init__(self) -> None:
        # Not from `random`, whose numbers are the application's.
        self.id = os.urandom(8).hex()
        self.turns = 0


class Sent:
    """A list that was sent.

    Attributes:
        tokens: Tokens of it all; None: not counted yet.
        tally: What is kept with it for the call that continues it.
    """

    __slots__ = ("head", "prints", "start", "tally", "thread", "tokens")

    def __init__(self, prints: Sequence[int], start: int, thread: _Thread) -> None:
        self.prints, self.start, self.thread = prints, start, thread
        self.head = prints[start - 1]
        self.tokens: int | None = None
        self.tally: Any = None


class Conversations:
    """The lists that were sent last, the latest last. Safe from any thread.

    A call belongs to a conversation whose first user message is the same, and of whose later
    messages it holds one; the system prompt and the tools may have changed. A beginning that is
    sent once more is a retry. Of several, the one with the longest common beginning counts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lists: OrderedDict[int, Sent] = OrderedDict()  # by id() of itself
        self._heads: dict[int, list[Sent]] = {}
        self._prints = 0

    def place(self, prints: Sequence[int], start: int) -> Place:
        """Where a call stands, which is remembered.

        Args:
            prints: A number for each part: the tools, the system prompt, then each message.
            start: How many of them stand before the second message that is no system prompt.

        >>> known = Conversations()
        >>> known.place([0, 0, 7], 3).turn, known.place([0, 0, 7, 8], 3).turn
        (1, 2)
        >>> known.place([0, 0, 9], 3).turn
        1
        """
        with self._lock:
            found = self._find(prints, start)
            sent = Sent(prints, start, _Thread() if found is None else found.thread)
            sent.thread.turns += 1
            common = 0
            if found is not None:
                common = _common(found.prints, prints)
                if _begins(prints[start:], found.prints[found.start :]):
                    self._drop(found)
            self._keep(sent)
            return Place(sent.thread.id, sent.thread.turns, sent, found, common)

    def _find(self, prints: Sequence[int], start: int) -> Sent | None:
        later = prints[start:]
        best, longest = None, 0
        for sent in reversed(self._heads.get(prints[start - 1], ())):
            held = sent.prints[sent.start :]
            if _begins(later, held):
                return sent  # all of it: nothing older has more in common with this call
            if later[:longest] != held[:longest]:
                continue
            shared = _common(held, later)
            if shared > longest or (best is None and not set(held).isdisjoint(later)):
                best, longest = sent, shared
        return best

    def _keep(self, sent: Sent) -> None:
        alike = self._heads.setdefault(sent.head, [])
        alike.append(sent)
        self._lists[id(sent)] = sent
        self._prints += len(sent.prints)
        if len(alike) > MAX_ALIKE:
            self._drop(alike[0])
        while len(self._lists) > MAX_LISTS or (self._prints > MAX_PRINTS and len(self._lists) > 1):
            self._drop(next(iter(self._lists.values())))

    def _drop(self, sent: Sent) -> None:
        del self._lists[id(sent)]
        self._prints -= len(sent.prints)
        alike = self._heads[sent.head]
        alike.remove(sent)
        if not alike:
            del self._heads[sent.head]


def _begins(new: Sequence[int], old: Sequence[int]) -> bool:
    return len(new) >= len(old) and new[: len(old)] == old


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many are the same, from the first on."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:  # slices are compared ten times as fast as their elements one by one
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
