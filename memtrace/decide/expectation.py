"""Which keys will be asked for soon: after those asked for just now, or because they come round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from statistics import median

from .cache_play import MISS, TTL, Accesses

_LATEST = 4096
"""Accesses that are looked at: the last ones."""

_RECENT = 4
"""Keys asked for last, whose successors are expected."""

_TIMES = 2
"""Least number of times that a key followed another, or came round as regularly, to be expected."""

_LIKELY = 0.5
"""Least share of the times a key was asked for that another one followed."""

_REGULAR = 0.5
"""Most that the middle half of the gaps between a key's lookups may differ by, of their median."""


def expected(accesses: Accesses, among: Collection[int]) -> list[int]:
    """The keys of some that will be asked for soon, the likeliest first.

    A key is expected after one of those asked for last if it followed that one at least every
    second time (a first-order Markov chain over lookups), or if its lookups come round regularly
    and the next is due before the lookup after the next one of the whole cache would come round.

    Args:
        accesses: What happened.
        among: Hashes of the keys that can be expected.

    >>> there = Accesses([1, 2, 3] * 5 + [1], [0] * 16, [0.0] * 16)
    >>> expected(there, {2, 3})
    [2, 3]
    """
    asked = _asked(accesses)
    likely = {key: chance for key, chance in _followers(asked).items() if key in among}
    for key in _due(asked, among):
        likely.setdefault(key, _LIKELY)
    return sorted(likely, key=lambda key: (-likely[key], key))


def _asked(accesses: Accesses) -> list[int]:
    """Keys looked up lately, oldest first; one that is looked up again at once counts once."""
    asked: list[int] = []
    latest = zip(accesses.keys[-_LATEST:], accesses.codes[-_LATEST:], strict=True)
    for key, code in latest:
        if (code > TTL or code == MISS) and not (asked and asked[-1] == key):
            asked.append(key)
    return asked


def _followers(asked: Sequence[int]) -> dict[int, float]:
    """Chance of each key that followed one of those asked for last, by key."""
    recent = set(asked[-_RECENT:])
    after: dict[int, Counter[int]] = {key: Counter() for key in recent}
    for key, following in pairwise(asked):
        if key in recent:
            after[key][following] += 1
    chances: dict[int, float] = {}
    for counts in after.values():
        times = sum(counts.values())
        for key, count in counts.items():
            if count >= _TIMES and count >= _LIKELY * times:
                chances[key] = max(chances.get(key, 0.0), count / times)
    return chances


def _due(asked: Sequence[int], among: Collection[int]) -> list[int]:
    """Keys that come round regularly, and are due."""
    places: dict[int, list[int]] = {}
    for place, key in enumerate(asked):
        if key in among:
            places.setdefault(key, []).append(place)
    return [key for key, at in places.items() if _comes(at, len(asked))]


def _comes(at: Sequence[int], now: int) -> bool:
    gaps = sorted(later - earlier for earlier, later in pairwise(at))
    if len(gaps) < _TIMES:
        return False
    usual = median(gaps)
    middle = gaps[len(gaps) // 4 : len(gaps) - len(gaps) // 4]
    regular = middle[-1] - middle[0] <= _REGULAR * usual
    return regular and usual <= 2 * (now - at[-1]) <= 4 * usual
