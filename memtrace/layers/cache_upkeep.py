"""What is seen to after a run: lives of often used values, loaders, and the cache's own setting."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from .access import MOST
from .cache_state import CacheState

if TYPE_CHECKING:
    from ..decide.cache_advice import CacheAdvice, CacheBounds
    from ..decide.cache_play import Accesses, CacheSetting

_FEW = 8
"""Misses up to which no hit rate is low: the least that twenty lookups at 60% allow."""

_LOOK_FROM = 128
"""Lookups after which a setting is looked at again: with fewer, chance alone moves a rate by
more than the gain that is worth a change. Then when there are half as many more."""

_QUICK = 1 << 14
"""Accesses that are played again by the loop itself, after a run: tenths of a second."""


class CacheUpkeep(CacheState):
    """What :func:`memtrace.update_cache` does to a cache."""

    def advise(self) -> CacheAdvice:
        """What another size, time to live or eviction would have answered of the lookups so far.

        From the accesses since the setting last changed, of which a sample is remembered where
        there were more than 131,072. They are played again under each setting: a fifth of a
        second for ten thousand.

        >>> from memtrace import Session
        >>> cache = Session(token_budget=1000).cache
        >>> for number in [1, 2, 3] * 30:
        ...     if cache.get(number) is None:
        ...         item = cache.put(number, "forty tokens " * 20)
        >>> advice = cache.advise()
        >>> advice.now.hit_rate, advice.recommended.limit_tokens
        (0.0, 200)
        """
        return self._advise(None)

    def _advise(self, bounds: CacheBounds | None) -> CacheAdvice:
        """Advice; where there are bounds, from settings within them alone."""
        from ..decide.cache_advice import advise, settings_within

        now = self._setting
        tried = None if bounds is None else settings_within(now, bounds)
        accesses = self._accesses(MOST if bounds is None else _QUICK)
        return advise(accesses, now, bounds=bounds, tried=tried)

    @property
    def _setting(self) -> CacheSetting:
        from ..decide.cache_play import CacheSetting

        shelf = self._shelf
        return CacheSetting(int(shelf.maxsize), self._ttl_factor, shelf.eviction)

    def _accesses(self, most: int) -> Accesses:
        with self._lock:
            self._settle()
            return self._log.accesses(*self._logged, most)

    @property
    def _logged(self) -> tuple[int, int]:
        """Lookups and hits since the log began."""
        hits, misses = self._unlogged
        hits, misses = self._tally.hits - hits, self._tally.misses - misses
        return hits + misses, hits

    @property
    def _ripe(self) -> bool:
        """Whether there are enough new lookups to look at the setting again."""
        return self._logged[0] >= max(_LOOK_FROM, self._looked * 3 // 2)

    def _adapt(self, bounds: CacheBounds | None) -> str:
        """Take the recommended setting within bounds, and tell why; nothing where none is better.

        Not under the lock: accesses are played again. Without bounds nothing is taken.
        """
        if not self._ripe:
            return ""
        self._looked = self._logged[0]
        if bounds is None:
            return ""
        advice = self._advise(bounds)
        now, to = advice.now.setting, advice.recommended
        if to == now:
            return ""
        with self._lock:
            if to.limit_tokens != now.limit_tokens:
                self._resize(to.limit_tokens)
            if to.ttl_factor != now.ttl_factor:
                self._ttl_factor = to.ttl_factor
                self._forget_accesses()
        return f"adapted: {advice.reason}"

    def _stretch(self, often: int) -> int:
        """Double the time to live of values used often since they were put. Tells how many."""
        stretched = 0
        self._settle()
        self._stretchable = False
        now = self._wiring.now()
        times = max(2.0, self._ttl_factor)
        for key, uses in list(self._uses.items()):
            item = self._held.get(key)
            if uses < often or item is None or item.expires_at is None:
                continue
            # Twice its life from now on, however often that happens.
            life = self._lives[key]
            longer = replace(item, expires_at=now + times * life, last_used_at=now)
            self._shelf[key] = self._held[key] = longer
            self._uses[key] = 0
            self._note("put", self._index, 0, key, longer, life)
            stretched += 1
        return stretched

    def _load_due(self) -> int:
        """Run the loaders that are due. Not under the lock: they are users' code.

        Raises:
            Exception: What a loader raised, after all of them ran.
        """
        loaders, failed, loaded = self._loaders, None, 0
        if not loaders.by_key:
            return 0
        with self._lock:
            gone, ending = self._missing(), self._ending()
            self._updated_at = self._wiring.now()
        for key in loaders.chosen(gone, ending, self._expected(gone, ending)):
            try:
                self._load_one(key)
                loaded += 1
            except Exception as error:
                failed = error
        if failed is not None:
            raise failed
        return loaded

    def _load_one(self, key: Hashable) -> None:
        loaders = self._loaders
        with self._lock:
            self._settle()
            if key in self._held:  # it is renewed: what it was not used for was in vain
                loaders.left(key, self._uses.get(key, 0))
        loaders.by_key[key].load()
        loaders.loaded += 1

    def _missing(self) -> list[Hashable]:
        """Keys with loaders that are not held, and may be loaded."""
        loaders = self._loaders
        return [key for key in loaders.by_key if key not in self._shelf and loaders.may(key)]

    def _ending(self) -> list[Hashable]:
        """Keys with loaders whose time will be over before the next update, as the last went."""
        now = self._wiring.now()
        until = now + (now - self._updated_at)
        if self._soonest > until:
            return []
        held = ((key, self._held.get(key)) for key in self._loaders.by_key)
        return [
            key
            for key, item in held
            if item is not None and item.expires_at is not None and now < item.expires_at <= until
        ]

    def _expected(self, gone: list[Hashable], ending: list[Hashable]) -> list[int]:
        by_key = self._loaders.by_key
        unsure = [key for key in gone if by_key[key].wrong]
        if not unsure and not ending:
            return []
        from ..decide.expectation import expected

        return expected(self._accesses(_QUICK), {by_key[key].name for key in (*unsure, *ending)})

    def _uneasy(self, low_rate: float) -> bool:
        """Whether there is something to do or to tell: something is due, or it misses often."""
        tally = self._tally
        low = tally.misses > _FEW and tally.hits < low_rate * (tally.hits + tally.misses)
        return low or self._due

    @property
    def _due(self) -> bool:
        """Whether :func:`memtrace.update_cache` might find something to do."""
        if self._timed:
            with self._lock:
                self._settle()
        if self._stretchable or self._soonest <= self._wiring.now() or self._ripe:
            return True
        return bool(self._loaders.by_key) and bool(self._missing() or self._ending())
