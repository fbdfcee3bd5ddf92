"""Accesses of a cache that happened, played again under another setting."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from .eviction import order_of

MISS, TTL, DROP = 0, 1, -1
"""Codes of accesses: a lookup not answered; the seconds to live of the put that comes next, in
place of its time; a key that was removed by hand. Others are made by :func:`hit`, :func:`put` and
:func:`filled`."""


def hit(tokens: int) -> int:
    """The code of a lookup that was answered with so many tokens: 2, 4, 6 …"""
    return 2 * tokens + 2


def filled(tokens: int) -> int:
    """The code of a lookup that was not answered, and of the put right after it: 3, 5, 7 …"""
    return 2 * tokens + 3


def put(tokens: int) -> int:
    """The code of a put of so many tokens: −2, −3 …"""
    return -tokens - 2


GROUPS = 8
"""Parts of the keys whose hit rates are told apart, for the spread of the whole."""


class Accesses(NamedTuple):
    """What happened to a cache, oldest first.

    Args:
        keys: Hashes of the keys.
        codes: What happened, by the codes of this module.
        times: Seconds, when it happened.
        share: Of all keys' tokens, the part that these keys hold, 0–1; 1 where every key is here.
        lookups: Lookups that there were in all.
        hits: How many of them were answered.
    """

    keys: Sequence[int]
    codes: Sequence[int]
    times: Sequence[float]
    share: float = 1.0
    lookups: int = 0
    hits: int = 0


class CacheSetting(NamedTuple):
    """How a cache is set.

    Args:
        limit_tokens: Tokens it may hold.
        ttl_factor: Times to live as they are given, times this.
        eviction: Who goes first: ``lru`` or ``s3fifo``.
    """

    limit_tokens: int
    ttl_factor: float = 1.0
    eviction: str = "lru"


class Played(NamedTuple):
    """What a setting would have given.

    Args:
        hits: Lookups answered, by group of keys.
        lookups: Lookups, by group of keys.
        first: Lookups not answered because the key was not known yet.
        evicted: Because it was evicted, or was too large.
        expired: Because its time was over.
    """

    hits: tuple[int, ...]
    lookups: tuple[int, ...]
    first: int
    evicted: int
    expired: int

    @property
    def hit_rate(self) -> float:
        """Hits / lookups, 0–1; 0 without lookups."""
        lookups = sum(self.lookups)
        return sum(self.hits) / lookups if lookups else 0.0


class _Shelf:
    """What a cache of a setting would hold: keys, until when they live, and who goes first.

    Where only some keys are played, its limit is their share of the whole one; a value that fits
    the whole one is taken in even so.
    """

    def __init__(self, setting: CacheSetting, share: float) -> None:
        self.limit = setting.limit_tokens
        self._scaled = setting.limit_tokens * share
        self._order = order_of(setting.eviction, self._scaled)
        self.touch = self._order.touch
        self.until: dict[Hashable, float] = {}
        self._weights: dict[Hashable, int] = {}
        self._deadlines: list[tuple[float, int]] = []
        self.ended: set[Hashable] = set()  # keys whose time was over when they were dropped
        self._used = 0

    def put(self, key: int, weight: int, until: float, now: float) -> None:
        self.drop(key)
        if weight > self.limit:
            return
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            over, old = heappop(deadlines)
            if self.until.get(old) == over:
                self.drop(old)
                self.ended.add(old)
        while self._used + weight > self._scaled and self.until:
            self._forget(self._order.victim())
        self.ended.discard(key)
        self.until[key] = until
        self._weights[key] = weight
        self._used += weight
        self._order.enter(key, weight)
        if until != inf:
            heappush(deadlines, (until, key))

    def drop(self, key: int) -> None:
        if key in self.until:
            self._order.leave(key)
            self._forget(key)

    def _forget(self, key: Hashable) -> None:
        del self.until[key]
        self._used -= self._weights.pop(key)


class _Replay:
    """One playing of accesses, and what came of it."""

    def __init__(self, setting: CacheSetting, share: float) -> None:
        self.shelf = _Shelf(setting, share)
        self.factor = setting.ttl_factor
        self.values: dict[int, tuple[int, float]] = {}  # tokens and seconds to live, as last put
        self.kept: set[int] = set()  # keys whose next put would not have been
        self.asked: set[int] = set()
        self.hits, self.lookups = [0] * GROUPS, [0] * GROUPS
        self.first = self.expired = 0

    def look_up(self, key: int, tokens: int, at: float) -> None:
        """A lookup; ``tokens`` are those of the value that was found, −1 where none was."""
        shelf = self.shelf
        group = (key >> 40) & (GROUPS - 1)  # bits that no sampling looks at
        self.lookups[group] += 1
        end = shelf.until.get(key)
        if end is not None and at < end:
            self.hits[group] += 1
            shelf.touch(key)
            if tokens < 0:
                self.kept.add(key)
        else:
            value = self.values.get(key)
            if value is None and tokens >= 0:
                self.hits[group] += 1  # there before the first access
                value = self.values[key] = tokens, inf
            elif end is not None or key in shelf.ended:
                self.expired += 1
            elif value is None and key not in self.asked:
                self.first += 1
            if value is not None and tokens >= 0:
                shelf.put(key, value[0], at + value[1] * self.factor, at)
        self.asked.add(key)

    def enter(self, key: int, weight: int, ttl: float, at: float) -> None:
        self.values[key] = weight, ttl
        if key in self.kept:
            self.kept.discard(key)
        else:
            self.shelf.put(key, weight, at + ttl * self.factor, at)

    def drop(self, key: int) -> None:
        self.shelf.drop(key)
        self.values.pop(key, None)


def play(accesses: Accesses, setting: CacheSetting) -> Played:
    """Play accesses under a setting.

    A lookup that found its value and would not have found it here is taken to be followed by a
    put, as it would have been; a put after a lookup that would have found it is taken not to be.
    A value that was there before the first access counts as there under every setting.
    """
    replay = _Replay(setting, accesses.share)
    look_up, enter = replay.look_up, replay.enter
    ttl = inf
    for key, code, at in zip(accesses.keys, accesses.codes, accesses.times, strict=True):
        if code > TTL:
            look_up(key, -1 if code & 1 else code // 2 - 1, at)
            if code & 1:
                enter(key, (code - 3) // 2, ttl, at)
                ttl = inf
        elif code == MISS:
            look_up(key, -1, at)
        elif code == TTL:
            ttl = at
        elif code == DROP:
            replay.drop(key)
        else:
            enter(key, -code - 2, ttl, at)
            ttl = inf
    missed = sum(replay.lookups) - sum(replay.hits)
    return Played(
        tuple(replay.hits),
        tuple(replay.lookups),
        replay.first,
        missed - replay.first - replay.expired,
        replay.expired,
    )
