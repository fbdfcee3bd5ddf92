"""What another size, time to live or eviction would have made of the accesses that happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from .cache_play import GROUPS, TTL, Accesses, CacheSetting, Played, play
from .eviction import EVICTIONS

SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Sizes that are tried, in times of the present one."""

TTL_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Times to live that are tried, in times of those given."""

_WORTH = 0.02
"""Least gain of hit rate for which a setting is recommended: what a prediction may be off by."""

_EQUAL = 0.005
"""Hit rates that differ by no more are as good: the smaller size is recommended then."""

_ENOUGH = 64
"""Lookups from which on something is recommended: below, a point is less than one lookup."""


class CacheRow(NamedTuple):
    """A setting, and what it would have given.

    Args:
        setting: How the cache would have been set.
        hit_rate: Share of the same lookups that it would have answered, 0–1.
        spread: What ``hit_rate`` may be off by, either way, because only some keys were
            remembered: two standard errors; 0 where all were.
    """

    setting: CacheSetting
    hit_rate: float
    spread: float


class CacheBounds(NamedTuple):
    """Between what settings may be recommended; all ends are included."""

    least_tokens: int = 1
    most_tokens: int = 2**62
    least_ttl_factor: float = 0.25
    most_ttl_factor: float = 4.0
    evictions: tuple[str, ...] = EVICTIONS

    def hold(self, setting: CacheSetting) -> bool:
        """Whether a setting is within them."""
        return (
            self.least_tokens <= setting.limit_tokens <= self.most_tokens
            and self.least_ttl_factor <= setting.ttl_factor <= self.most_ttl_factor
            and setting.eviction in self.evictions
        )


@dataclass(frozen=True, slots=True)
class CacheAdvice:
    """What a cache's setting gave, and what others would have given.

    Attributes:
        now: The setting that is, with the hit rate that was.
        rows: What others would have given: each size with each eviction, then each time to live
            where values have one.
        recommended: The setting to use; ``now.setting`` where no other is worth the change.
        reason: Why, in a sentence or two.
        lookups: Lookups that there were.
        sampled: Share of the keys' tokens that was remembered, 0–1.
        missed_first: Share of the lookups not answered because nobody had put the key yet, 0–1.
        missed_evicted: Because the value was evicted, or larger than the cache.
        missed_expired: Because its time was over.
    """

    now: CacheRow
    rows: tuple[CacheRow, ...]
    recommended: CacheSetting
    reason: str
    lookups: int
    sampled: float
    missed_first: float
    missed_evicted: float
    missed_expired: float

    def row(self, setting: CacheSetting) -> CacheRow:
        """The row of a setting.

        Raises:
            KeyError: It was not tried.
        """
        for row in (self.now, *self.rows):
            if row.setting == setting:
                return row
        raise KeyError(setting)


def advise(
    accesses: Accesses,
    now: CacheSetting,
    *,
    bounds: CacheBounds | None = None,
    tried: Iterable[CacheSetting] | None = None,
) -> CacheAdvice:
    """Advice from accesses. Pure: the accesses may be recorded ones.

    Each setting is played over the accesses that were remembered. What the setting that was gives
    there and gave in truth differs where only some keys were remembered: every row is put right
    by that.

    Args:
        accesses: What happened.
        now: The setting it happened under.
        bounds: What may be recommended; None: anything that was tried.
        tried: Settings to try; None: :func:`settings_to_try`.

    >>> from memtrace.decide.cache_play import filled
    >>> keys = [1, 2, 3] * 40
    >>> there = Accesses(keys, [filled(10)] * 120, [0.0] * 120, 1.0, 120, 0)
    >>> advice = advise(there, CacheSetting(20))
    >>> advice.now.hit_rate, advice.recommended, advice.row(advice.recommended).hit_rate
    (0.0, CacheSetting(limit_tokens=40, ttl_factor=1.0, eviction='lru'), 0.975)
    """
    bounds = CacheBounds() if bounds is None else bounds
    timed = TTL in accesses.codes
    settings = settings_to_try(now, timed) if tried is None else tuple(tried)
    base = play(accesses, now)
    lookups = accesses.lookups or sum(base.lookups)
    was = accesses.hits / accesses.lookups if accesses.lookups else base.hit_rate
    rows = tuple(
        _row(setting, play(accesses, setting), base, was, accesses.share)
        for setting in settings
        if setting != now
    )
    here = CacheRow(now, was, 0.0)
    best = _recommended(here, rows, bounds) if lookups >= _ENOUGH else here
    first, evicted, expired = _missed(base, was)
    return CacheAdvice(
        here,
        rows,
        best.setting,
        _reason(here, best, (first, evicted, expired), lookups),
        lookups,
        accesses.share,
        first,
        evicted,
        expired,
    )


def settings_to_try(
    now: CacheSetting, timed: bool, sizes: Sequence[float] = SIZES
) -> tuple[CacheSetting, ...]:
    """Each size with each eviction, then each time to live where values have one."""
    limit = now.limit_tokens
    limits = sorted({max(1, round(limit * size)) for size in sizes} | {limit})
    tried = [now._replace(limit_tokens=n, eviction=e) for e in EVICTIONS for n in limits]
    if timed:
        tried += [now._replace(ttl_factor=factor) for factor in TTL_FACTORS]
    return tuple(dict.fromkeys(tried))


def settings_within(now: CacheSetting, bounds: CacheBounds) -> tuple[CacheSetting, ...]:
    """Sizes and times to live around the present ones, moved into bounds."""
    limits = (round(now.limit_tokens * size) for size in SIZES)
    tried = [
        now._replace(limit_tokens=min(max(n, bounds.least_tokens), bounds.most_tokens))
        for n in limits
    ]
    tried += [now._replace(ttl_factor=factor) for factor in TTL_FACTORS]
    return tuple(dict.fromkeys(setting for setting in tried if bounds.hold(setting)))


def _row(setting: CacheSetting, played: Played, base: Played, was: float, share: float) -> CacheRow:
    rate = _put_right(played.hit_rate, base.hit_rate, was)
    return CacheRow(setting, min(1.0, max(0.0, rate)), _spread(played, base, share))


def _put_right(rate: float, played: float, was: float) -> float:
    """A rate that was played, given what was played and what was for the present setting.

    Above it the misses are in proportion, below it the difference is the same: over five recorded
    traces this was off by 1.5 points at most, either alone by 1.9 and 3.7.
    """
    if rate > played:
        return 1 - (1 - rate) * (1 - was) / (1 - played)
    return was - (played - rate)


def _spread(played: Played, base: Played, share: float) -> float:
    """Two standard errors of what a setting gains, by leaving out one group of keys at a time."""
    lookups, total = base.lookups, sum(base.lookups)
    if share >= 1 or not total:
        return 0.0
    gains = [hits - before for hits, before in zip(played.hits, base.hits, strict=True)]
    whole = sum(gains)
    left_out = [
        (whole - gain) / (total - part)
        for gain, part in zip(gains, lookups, strict=True)
        if total > part
    ]
    if len(left_out) < GROUPS:
        return 1.0  # one group holds all: nothing can be told
    mean = sum(left_out) / GROUPS
    variance = sum((one - mean) ** 2 for one in left_out) * (GROUPS - 1) / GROUPS
    return min(1.0, 2 * sqrt(variance * (1 - share)))


def _recommended(now: CacheRow, rows: Sequence[CacheRow], bounds: CacheBounds) -> CacheRow:
    """The cheapest setting that is as good as the best, if the change is worth it."""
    within = [row for row in rows if bounds.hold(row.setting)]
    worth = [row for row in within if row.hit_rate - row.spread >= now.hit_rate + _WORTH]
    if worth:
        best = max(row.hit_rate for row in worth)
        return min((row for row in worth if row.hit_rate >= best - _WORTH / 2), key=_cost(now))
    limit = now.setting.limit_tokens
    smaller = [
        row
        for row in within
        if row.setting == now.setting._replace(limit_tokens=row.setting.limit_tokens)
        and row.setting.limit_tokens < limit
        and row.hit_rate - row.spread >= now.hit_rate - _EQUAL
    ]
    return min((now, *smaller), key=_cost(now))


def _cost(now: CacheRow) -> Callable[[CacheRow], tuple[int, float, bool]]:
    """Cheaper first: fewer tokens, values that are not staler, the eviction that is."""

    def cost(row: CacheRow) -> tuple[int, float, bool]:
        setting = row.setting
        return (setting.limit_tokens, setting.ttl_factor, setting.eviction != now.setting.eviction)

    return cost


def _missed(base: Played, was: float) -> tuple[float, float, float]:
    """Shares of all lookups that were not answered, by cause."""
    missed = base.first + base.evicted + base.expired
    if not missed:
        return (1 - was if base.lookups and sum(base.lookups) else 0.0, 0.0, 0.0)
    part = (1 - was) / missed
    return base.first * part, base.evicted * part, base.expired * part


def _reason(now: CacheRow, best: CacheRow, missed: tuple[float, float, float], lookups: int) -> str:
    first, evicted, expired = missed
    why = (
        f"of {lookups:,} lookups {now.hit_rate:.1%} were answered; {first:.1%} asked for a new "
        f"key, {evicted:.1%} for an evicted value, {expired:.1%} for an expired one"
    )
    if lookups < _ENOUGH:
        return f"{why}: too few to tell, from {_ENOUGH} lookups on there is advice"
    if best.setting == now.setting:
        return f"{why}: no other setting would have done better by {_WORTH:.0%}"
    old, new = now.setting, best.setting
    changes = [
        text
        for changed, text in (
            (
                old.limit_tokens != new.limit_tokens,
                f"{new.limit_tokens:,} tokens instead of {old.limit_tokens:,}",
            ),
            (
                old.ttl_factor != new.ttl_factor,
                f"{new.ttl_factor:g} times the time to live given instead of {old.ttl_factor:g}",
            ),
            (old.eviction != new.eviction, f"{new.eviction} instead of {old.eviction}"),
        )
        if changed
    ]
    return f"{why}: {', '.join(changes)} would have answered {best.hit_rate:.1%}"
