"""Accesses of a cache, remembered cheaply: a few numbers each, and a sample of keys where many."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator
from itertools import compress
from math import log
from typing import Any

from ..decide import cache_play as codes
from ..decide.cache_play import Accesses

MOST = 1 << 17
"""Accesses remembered at most, 24 bytes each. With half as many, hit rates over five recorded
traces were told to 1.9 points, with these to 1.5."""

ALL = (1 << 24) - 1
"""Largest sampling hash: the low bits of a key's name."""

BATCH = 256
"""Lookups pending at which they are packed: a power of two."""

SALT = 0x3C6EF372
"""Hashed with a key: alone, keys that are numbers in a row would be sampled in a pattern."""

_BITS = 1 << 17

_HITS, _ZEROS = array("q", [codes.hit(0)]) * 2 * BATCH, array("d", [0.0]) * 2 * BATCH
"""Arrays are extended by arrays several times as fast as by anything else."""

Packed = tuple["array[int]", "array[int]", "array[float]"]
"""Keys, codes and times of accesses."""


class AccessLog:
    """What happened to a cache since its setting last changed.

    Every access of a key is remembered, or none: which keys are is decided by their hashes, so a
    cache under fewer keys behaves as a smaller one under all would. Past :data:`MOST` accesses
    a quarter of the keys is let go of, again and again.
    Source: Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015.

    Attributes:
        names: Hashes of the keys that are held and remembered.
        pending: Keys of lookups that were answered and are not packed yet. The cache adds to it
            itself, and hashes nothing: either would cost a fifth of a lookup.
        moments: When they were, where ``timed``.
    """

    __slots__ = (
        "_all_tokens",
        "_bits",
        "_bound",
        "_codes",
        "_keys",
        "_seen",
        "_times",
        "moments",
        "names",
        "pending",
    )

    def __init__(self) -> None:
        self.names: dict[Hashable, int] = {}
        self.pending: list[Hashable] = []
        self.moments: list[float] = []
        self.restart()

    def restart(self) -> None:
        """Forget all of it. What is held is to be put again."""
        self.names.clear()
        self.pending.clear()
        self.moments.clear()
        self._bound = ALL
        self._keys, self._codes, self._times = array("q"), array("q"), array("d")
        # How many keys there are, and their tokens, once only some are remembered: a set of bits
        # tells it closer than the sample does, and where keys come round in turn it must be close.
        self._bits = bytearray()
        self._seen = self._all_tokens = 0

    def put(self, key: Hashable, tokens: int, ttl_s: float | None, now: float) -> None:
        """A value was put."""
        name = hash((key, SALT))
        if self._bits:
            self._meet(name, tokens)
        if name & ALL > self._bound:
            return
        self.names[key] = name
        self.pack()
        keys, code = self._keys, codes.put(tokens)
        if keys and keys[-1] == name and self._codes[-1] == codes.MISS:
            for packed in (keys, self._codes, self._times):  # its lookup is told with it
                packed.pop()
            code = codes.filled(tokens)
        if ttl_s is not None:
            self._add(name, codes.TTL, ttl_s)
        self._add(name, code, now)
        while len(self._keys) > MOST and self._bound:
            self._thin()

    def left(self, key: Hashable) -> None:
        """A key is not held any longer."""
        self.pack()
        self.names.pop(key, None)

    def missed(self, key: Hashable, now: float) -> None:
        """A lookup was not answered."""
        self._happened(key, codes.MISS, now)

    def dropped(self, key: Hashable) -> None:
        """A key was removed by hand."""
        self._happened(key, codes.DROP, 0.0)

    def pack(self) -> None:
        """Pack what is pending."""
        pending, moments = self.pending, self.moments
        if pending:
            number = len(pending)
            found: Any = map(self.names.get, pending)
            # Some may have come before any time was told.
            times = _ZEROS[: number - len(moments)] + array("d", moments)
            if self._bound < ALL:
                names = list(found)
                times = array("d", compress(times, names))
                found = filter(None, names)
            self._keys.extend(array("q", list(found)))
            self._codes.extend(_HITS[: len(times)])
            self._times.extend(times)
            pending.clear()
            moments.clear()
            while len(self._keys) > MOST and self._bound:
                self._thin()

    def _happened(self, key: Hashable, code: int, now: float) -> None:
        name = hash((key, SALT))
        if name & ALL <= self._bound:
            self.pack()
            self._add(name, code, now)

    def _add(self, name: int, code: int, now: float) -> None:
        self._keys.append(name)
        self._codes.append(code)
        self._times.append(now)

    def accesses(self, lookups: int, hits: int, most: int = MOST) -> Accesses:
        """What is remembered, or a sample of so many accesses at most; a copy."""
        self.pack()
        if len(self._keys) > most:
            kept = self._of_keys(self._bound * most // len(self._keys))
        else:
            kept = self._keys[:], self._codes[:], self._times[:]
        return Accesses(*kept, self._share(kept), lookups, hits)

    def _thin(self) -> None:
        """Let go of a quarter of the keys."""
        if not self._bits:
            self._bits = bytearray(_BITS // 8)
            for name, tokens in _put((self._keys, self._codes, self._times)):
                self._meet(name, tokens)
        self._bound = self._bound * 3 // 4
        self._keys, self._codes, self._times = self._of_keys(self._bound)
        for key, name in list(self.names.items()):
            if name & ALL > self._bound:
                del self.names[key]

    def _of_keys(self, bound: int) -> Packed:
        """Accesses of the keys whose sampling hash is up to a bound."""
        names = {name for name in set(self._keys) if name & ALL <= bound}
        kept = list(map(names.__contains__, self._keys))
        return (
            array("q", compress(self._keys, kept)),
            array("q", compress(self._codes, kept)),
            array("d", compress(self._times, kept)),
        )

    def _meet(self, name: int, tokens: int) -> None:
        place = (name >> 24) & (_BITS - 1)
        bit = 1 << (place & 7)
        if not self._bits[place >> 3] & bit:
            self._bits[place >> 3] |= bit
            self._seen += 1
            self._all_tokens += tokens

    def _share(self, kept: Packed) -> float:
        """Of all keys' tokens, the part that those of some accesses hold."""
        if not self._bits and len(kept[0]) == len(self._keys):
            return 1.0
        some = sum(dict(_put(kept)).values())
        if not self._bits:
            return _part(some, sum(dict(_put((self._keys, self._codes, self._times))).values()))
        if not self._seen or self._seen > _BITS * 0.98:
            return (self._bound + 1) / (ALL + 1) * len(kept[0]) / len(self._keys)
        # Keys that share a bit are told by how full the bits are (linear counting).
        per_bit = -_BITS * log(1 - self._seen / _BITS) / self._seen
        return _part(some, self._all_tokens * per_bit)


def _put(packed: Packed) -> Iterator[tuple[int, int]]:
    """Keys and tokens of the puts among accesses."""
    for name, code in zip(packed[0], packed[1], strict=True):
        if code < codes.DROP:
            yield name, -code - 2
        elif code > codes.TTL and code & 1:
            yield name, (code - 3) // 2


def _part(some: float, all_of_them: float) -> float:
    return min(1.0, some / all_of_them) if all_of_them else 1.0
