"""What live sessions hold, summed up: a collection looks at those that changed, and no others.

No session lock is ever taken here, and no lock at all by a finalizer, which may run where it is
held: a session that is collected only appends to a deque.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..values import LAYER_NAMES

if TYPE_CHECKING:

    class Tally(Protocol):
        """Running totals of one layer; see :class:`memtrace.layers.Tally`."""

        @property
        def tokens(self) -> int: ...
        @property
        def added(self) -> int: ...
        @property
        def hits(self) -> int: ...
        @property
        def misses(self) -> int: ...

    class Totals(Protocol):
        """A session's totals, which may outlive it; see :class:`memtrace.layers.Totals`."""

        @property
        def tallies(self) -> Sequence[Tally]: ...
        @property
        def limits(self) -> Sequence[int]: ...

        def watch(self, changed: Callable[[], object]) -> None: ...
        def settle(self) -> None: ...


class Sums(NamedTuple):
    """What all sessions of a ledger come to.

    Args:
        sessions: How many live now.
        tokens: Held by them, by layer.
        limits: Tokens allotted to them, by layer.
        added: Tokens that ever entered, by layer; never shrinks.
        hits: Cache lookups ever answered.
        misses: Cache lookups never answered.
    """

    sessions: int
    tokens: list[int]
    limits: list[int]
    added: list[int]
    hits: int
    misses: int


_LAYERS = len(LAYER_NAMES)
_LEVELS = 2 * _LAYERS
"""How many of a session's amounts go with it: tokens held and allotted. The others stay."""
_AMOUNTS = 3 * _LAYERS + 2


def _amounts(totals: Totals) -> list[int]:
    """Tokens held, allotted and ever added, each by layer, then cache hits and misses."""
    tallies = totals.tallies
    amounts = [tally.tokens for tally in tallies]
    amounts += totals.limits
    amounts += [tally.added for tally in tallies]
    return [*amounts, sum([t.hits for t in tallies]), sum([t.misses for t in tallies])]


class _Entry:
    """A session's totals, what of them is in the sums, and where it says that they changed."""

    __slots__ = ("changed", "included", "totals")

    def __init__(self, totals: Totals, changed: set[_Entry]) -> None:
        self.totals: Totals | None = totals
        self.included = [0] * _AMOUNTS
        self.changed = changed

    def tell(self) -> None:
        """Be looked at by the next collection. A set's own methods need no lock."""
        if self.totals is not None:
            self.changed.add(self)


class Living:
    """The sums over the sessions of one ledger."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[weakref.ref[Any], _Entry] = {}
        # A collected session's reference goes here, and is taken out of the sums under the lock.
        self._gone: deque[weakref.ref[Any]] = deque()
        self._changed: set[_Entry] = set()
        self._sums = [0] * _AMOUNTS

    def admit(self, owner: object, totals: Totals) -> weakref.ref[Any]:
        """Report a session's totals for as long as its owner lives, without keeping it alive.

        What it added before is not counted here.
        """
        ref = weakref.ref(owner, self._gone.append)
        entry = _Entry(totals, self._changed)
        with self._lock:
            self._retire()
            totals.watch(entry.tell)
            totals.settle()
            entry.included = _amounts(totals)
            for index in range(_LEVELS):
                self._sums[index] += entry.included[index]
            self._live[ref] = entry
        return ref

    def dismiss(self, ref: weakref.ref[Any]) -> None:
        """Stop reporting a session as live; what it added until now stays counted."""
        self._gone.append(ref)
        with self._lock:
            self._retire()

    def read(self) -> Sums:
        """The sums as they are now."""
        # One at a time under the lock: with thousands of them, whoever admits a session meanwhile
        # would wait for all.
        for _ in range(len(self._changed)):
            with self._lock:
                self._retire()
                if not self._changed:
                    break
                entry = self._changed.pop()
                if entry.totals is not None:
                    self._include(entry, entry.totals)
        with self._lock:
            self._retire()
            sums = list(self._sums)
            live = len(self._live)
        held, allotted, added = (sums[n * _LAYERS : (n + 1) * _LAYERS] for n in range(3))
        return Sums(live, held, allotted, added, *sums[-2:])

    def clear(self) -> None:
        """Start empty, as a child process must after a fork."""
        self._lock = threading.Lock()
        for entry in self._live.values():
            entry.totals = None
        self._live.clear()
        self._gone.clear()
        self._changed.clear()
        self._sums = [0] * _AMOUNTS

    def _include(self, entry: _Entry, totals: Totals) -> None:
        totals.settle()
        now, before = _amounts(totals), entry.included
        entry.included = now
        self._sums = [
            total + new - old for total, new, old in zip(self._sums, now, before, strict=True)
        ]

    def _retire(self) -> None:
        while self._gone:
            entry = self._live.pop(self._gone.popleft(), None)
            if entry is not None and entry.totals is not None:
                self._include(entry, entry.totals)
                for index in range(_LEVELS):
                    self._sums[index] -= entry.included[index]
                # Nor is it a cycle any more, which would wait for the garbage collector.
                entry.totals = None
                self._changed.discard(entry)
