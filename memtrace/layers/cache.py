"""The cache: values with a time to live, weighted by tokens, least recently used out first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

from ..errors import ConfigurationError
from ..values import Item
from .access import BATCH
from .cache_state import CacheStats
from .cache_upkeep import _FEW, CacheUpkeep

__all__ = ["Cache", "CacheStats"]


class Cache(CacheUpkeep):
    """Values by key. Iterating yields keys, as a mapping does; ``items`` yields items.

    It holds at most its allocation of the budget; what does not fit evicts the least recently
    used, or what :attr:`Policy.cache_eviction` says. Time is the session's clock, which setting
    the computer's clock does not move.

    Attributes:
        restless: Whether it can want seeing to: it ever had deadlines or loaders, or missed often.

    >>> from memtrace import Session
    >>> cache = Session().cache
    >>> item = cache.put("rate", {"EUR": 1.08}, ttl_s=60)
    >>> cache.get("rate"), cache.get("other", "none"), cache.stats.hit_rate
    ({'EUR': 1.08}, 'none', 0.5)
    """

    restless: bool

    @property
    def items(self) -> tuple[Item, ...]:
        """The items held, the longest unused first; a snapshot."""
        with self._lock:
            self._sweep()
            return tuple(self._held.values())

    @property
    def tokens(self) -> int:
        """Tokens held and not expired."""
        with self._lock:
            self._sweep()
            return self._tally.tokens

    @property
    def limit_tokens(self) -> int:
        """Tokens it may hold at most."""
        return int(self._shelf.maxsize)

    @property
    def stats(self) -> CacheStats:
        """Counts so far."""
        tally, loaders = self._tally, self._loaders
        with self._lock:
            return CacheStats(
                tally.hits,
                tally.misses,
                self._evictions,
                self._expirations,
                self._rejected,
                loaders.loaded,
                loaders.wrong,
            )

    @property
    def overdue(self) -> bool:
        """Whether a value may have expired and not been dropped yet."""
        return self._soonest <= self._wiring.now()

    def __len__(self) -> int:
        with self._lock:
            self._sweep()
            return self._tally.items

    def __iter__(self) -> Iterator[Any]:
        with self._lock:
            self._sweep()
            return iter(tuple(self._held))

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._shelf

    def put(self, key: Hashable, value: Any, *, ttl_s: float | None = None) -> Item | None:
        """Keep a value under a key.

        Args:
            key: Any hashable.
            value: Text, or any JSON-like value.
            ttl_s: Seconds it lives, > 0; None: until it is evicted.

        Returns:
            The item; None if the value alone is larger than the whole cache, and was not kept.

        Raises:
            ConfigurationError: ``ttl_s`` is not above 0.
        """
        if ttl_s is not None and not ttl_s > 0:
            raise ConfigurationError(f"ttl_s must be a number of seconds above 0, got {ttl_s!r}")
        wiring = self._wiring
        value = wiring.admit(value, False)
        tokens = wiring.count(value)
        run_id, agent = wiring.owner()
        now = wiring.now()
        item = Item(
            id=wiring.new_id("k"),
            layer=self.layer,
            kind="cache",
            content=value,
            tokens=tokens,
            created_at=now,
            last_used_at=now,
            expires_at=None if ttl_s is None else now + ttl_s * self._ttl_factor,
            agent=agent,
            run_id=run_id,
            key=key if isinstance(key, str) else repr(key),
        )
        with self._lock:
            # The old value goes first: it must not be served once a newer one exists, even if
            # that one turns out too large to keep.
            self._drop(key)
            if tokens > self._shelf.maxsize:
                self._log.put(key, tokens, ttl_s, now)
                self._rejected += 1
                return None
            self._shelf[key] = item
            self._tally.added += tokens
            self._keep(key, item, ttl_s)
            self._note("put", self._index, 0, key, item, ttl_s)
        return item

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The value under a key, or ``default``. Counted as a hit or a miss."""
        with self._lock:
            try:
                item: Item = self._shelf[key]
            except KeyError:
                self._missed(key)
                return default
            tally = self._tally
            tally.hits = hits = tally.hits + 1
            self._held.move_to_end(key)
            # Not by a call: this is the path that must stay cheap. The rest is counted later.
            self._remember(key)
            if self._timed:
                self._log.moments.append(self._wiring.now())
            if not hits % BATCH:
                self._settle()
            return item.content

    def _missed(self, key: Hashable) -> None:
        self._settle()
        tally = self._tally
        tally.misses += 1
        self.restless = self.restless or tally.misses > _FEW
        self._loaders.asked(key)
        self._log.missed(key, self._wiring.now() if self._timed else 0.0)

    def loader(
        self, key: Hashable, *, ttl_s: float | None = None
    ) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
        """Register how a value is made: ``@cache.loader("rates", ttl_s=3600)``.

        It runs after a run, whenever the key is not held and its last value was asked for; its
        result is put under the key. A value that left unasked for is made again only when it is
        expected: after the keys that it followed so far, or when it comes round. One that is
        expected and whose time is nearly over is made anew before.

        >>> from memtrace import Session, update_cache
        >>> session = Session()
        >>> @session.cache.loader("rates")
        ... def rates():
        ...     return {"EUR": 1.08}
        >>> update_cache(session).items, session.cache.get("rates")
        (1, {'EUR': 1.08})
        """

        def register(make: Callable[[], Any]) -> Callable[[], Any]:
            if not callable(make):
                raise ConfigurationError(f"a loader must be callable, got {make!r}")
            self.restless = True
            self._loaders.add(key, lambda: self.put(key, make(), ttl_s=ttl_s))
            return make

        return register

    def remove(self, key: Hashable) -> None:
        """Forget a key, if it is held."""
        with self._lock:
            self._settle()
            self._log.dropped(key)
            self._drop(key)

    def clear(self) -> None:
        """Forget every key."""
        with self._lock:
            for key in tuple(self._held):
                self.remove(key)
