"""The cache: values with a time to live, weighted by tokens, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from cachetools import TLRUCache

from ..errors import ConfigurationError
from ..values import Item, Layer
from .base import BaseLayer, Change, Tally, Wiring

_FEW = 8
"""Misses up to which no hit rate is low: the least that twenty lookups at 60% allow."""


class CacheStats(NamedTuple):
    """What happened to a cache so far; all are counts.

    ``rejected`` counts values larger than the whole cache, which are not kept.
    """

    hits: int
    misses: int
    evictions: int
    expirations: int
    rejected: int

    @property
    def hit_rate(self) -> float | None:
        """Hits / lookups, 0–1; None before any lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None


class _Shelf(TLRUCache):  # type: ignore[type-arg]  # generic in the stubs only
    """Where items lie: cachetools decides who goes, the layer is told who went."""

    def __init__(
        self, limit_tokens: int, now: Callable[[], float], gone: Callable[[Any, bool], None]
    ) -> None:
        super().__init__(
            maxsize=limit_tokens,
            ttu=lambda _key, item, _now: inf if item.expires_at is None else item.expires_at,
            timer=now,
            getsizeof=lambda item: item.tokens,
        )
        self._gone = gone

    def expire(self, time: float | None = None) -> Any:
        expired = super().expire(time)
        for key, _ in expired:
            self._gone(key, True)
        return expired

    def popitem(self) -> tuple[Any, Item]:
        key, item = super().popitem()
        self._gone(key, False)
        return key, item


class Cache(BaseLayer):
    """Values by key. Iterating yields keys, as a mapping does; ``items`` yields items.

    It holds at most its allocation of the budget; what does not fit evicts the least recently
    used. Time is the session's clock, which setting the computer's clock does not move.

    Attributes:
        restless: Whether it can want seeing to: it ever had deadlines or loaders, or missed often.

    >>> from memtrace import Session
    >>> cache = Session().cache
    >>> item = cache.put("rate", {"EUR": 1.08}, ttl_s=60)
    >>> cache.get("rate"), cache.get("other", "none"), cache.stats.hit_rate
    ({'EUR': 1.08}, 'none', 0.5)
    """

    layer = Layer.CACHE

    def __init__(self, wiring: Wiring, tally: Tally, limit_tokens: int, often: int = 3) -> None:
        super().__init__(wiring, tally)
        self._often = often  # uses from which on a value lives longer
        self._stretchable = False
        self.restless = False
        self._evictions = self._expirations = self._rejected = 0
        self._soonest = inf  # the earliest expiry held: nothing is due before it
        self._held: OrderedDict[Hashable, Item] = OrderedDict()  # longest unused first
        self._uses: dict[Hashable, int] = {}
        self._lives: dict[Hashable, float] = {}  # seconds to live as given
        self._loaders: dict[Hashable, Callable[[], Any]] = {}
        self._shelf = _Shelf(limit_tokens, wiring.now, self._left)

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
        tally = self._tally
        with self._lock:
            return CacheStats(
                tally.hits, tally.misses, self._evictions, self._expirations, self._rejected
            )

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
            expires_at=None if ttl_s is None else now + ttl_s,
            agent=agent,
            run_id=run_id,
            key=key if isinstance(key, str) else repr(key),
        )
        with self._lock:
            # The old value goes first: it must not be served once a newer one exists, even if
            # that one turns out too large to keep.
            self._drop(key)
            if tokens > self._shelf.maxsize:
                self._rejected += 1
                return None
            self._shelf[key] = item
            self._tally.added += tokens
            self._keep(key, item)
            if ttl_s is not None:
                self._lives[key] = ttl_s
            self._note("put", self._index, 0, key, item, ttl_s)
        return item

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The value under a key, or ``default``. Counted as a hit or a miss."""
        with self._lock:
            try:
                item: Item = self._shelf[key]
            except KeyError:
                self._tally.misses += 1
                self.restless = self.restless or self._tally.misses > _FEW
                return default
            self._tally.hits += 1
            self._held.move_to_end(key)
            uses = self._uses[key] = self._uses.get(key, 0) + 1
            if uses == self._often and item.expires_at is not None:
                self._stretchable = True
            return item.content

    def loader(
        self, key: Hashable, *, ttl_s: float | None = None
    ) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
        """Register how a value is made: ``@cache.loader("rates", ttl_s=3600)``.

        It runs after a run, whenever the key is not held; its result is put under the key.

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
            self._loaders[key] = lambda: self.put(key, make(), ttl_s=ttl_s)
            return make

        return register

    def remove(self, key: Hashable) -> None:
        """Forget a key, if it is held."""
        with self._lock:
            self._drop(key)

    @property
    def overdue(self) -> bool:
        """Whether a value may have expired and not been dropped yet."""
        return self._soonest <= self._wiring.now()

    def clear(self) -> None:
        """Forget every key."""
        with self._lock:
            for key in tuple(self._held):
                self._drop(key)

    # --- within the package, under the lock -------------------------------------------------

    def _sweep(self) -> int:
        """Drop what has expired; tells how many. One comparison where nothing is due."""
        if self._wiring.now() < self._soonest:
            return 0
        before = self._tally.items
        self._shelf.expire()
        deadlines = (item.expires_at for item in self._held.values())
        self._soonest = min((at for at in deadlines if at is not None), default=inf)
        return before - self._tally.items

    def _stretch(self, often: int) -> int:
        """Double the time to live of values used often since they were put. Tells how many."""
        stretched = 0
        self._stretchable = False
        now = self._wiring.now()
        for key, uses in list(self._uses.items()):
            item = self._held.get(key)
            if uses < often or item is None or item.expires_at is None:
                continue
            # Twice its life from now on, however often that happens.
            longer = replace(item, expires_at=now + 2 * self._lives[key], last_used_at=now)
            self._shelf[key] = self._held[key] = longer
            self._uses[key] = 0
            self._note("put", self._index, 0, key, longer, self._lives[key])
            stretched += 1
        return stretched

    def _load_due(self) -> int:
        """Run the loaders whose keys are not held. Not under the lock: they are users' code.

        Raises:
            Exception: What a loader raised, after all of them ran.
        """
        loaded, failed = 0, None
        for key, load in list(self._loaders.items()):
            if key not in self:
                try:
                    load()
                    loaded += 1
                except Exception as error:
                    failed = error
        if failed is not None:
            raise failed
        return loaded

    def _uneasy(self, low_rate: float) -> bool:
        """Whether there is something to do or to tell: something is due, or it misses often."""
        tally = self._tally
        low = tally.misses > _FEW and tally.hits < low_rate * (tally.hits + tally.misses)
        return low or self._due

    @property
    def _due(self) -> bool:
        """Whether :func:`memtrace.update_cache` would find something to do."""
        if self._stretchable or self._soonest <= self._wiring.now():
            return True
        return any(key not in self._shelf for key in self._loaders) if self._loaders else False

    def _dump(self, _copied: Callable[[Any], Any]) -> Any:
        self._sweep()
        return tuple(self._held.items())

    def _load(self, state: Any, _copied: Callable[[Any], Any]) -> None:
        for key in tuple(self._held):
            self._drop(key)
        for key, item in state:
            self._shelf[key] = item
            self._keep(key, item)

    def _changes(self) -> Iterator[Change]:
        for key, item in self._held.items():
            yield Change("put", self._index, 0, key, item, self._lives.get(key))

    def _apply(self, op: str, place: int, key: Any, item: Item | None, extra: Any) -> None:
        key = _hashable(key)
        if op == "drop":
            self._drop(key)
        elif op == "put" and item is not None:
            self._drop(key)
            if item.tokens > self._shelf.maxsize:
                return  # the budget is a smaller one now
            self._shelf[key] = item
            self._keep(key, item)
            if extra is not None:
                self._lives[key] = float(extra)
        else:
            raise ValueError(f"no change {op!r} of a cache")

    def _keep(self, key: Hashable, item: Item) -> None:
        """Take in what was put on the shelf, unless it was over before it lay there."""
        if key not in self._shelf:
            self._expirations += 1
            return
        self._held[key] = item
        self._tally.tokens += item.tokens
        self._tally.items += 1
        if item.expires_at is not None:
            self._soonest = min(self._soonest, item.expires_at)
            self.restless = True

    def _drop(self, key: Hashable) -> None:
        self._sweep()
        if self._shelf.pop(key, None) is not None:
            self._tally.leave(self._held.pop(key).tokens)
            self._uses.pop(key, None)
            self._lives.pop(key, None)
            self._note("drop", self._index, 0, key)

    def _forget(self, item: Item) -> None:
        """Drop an item, if it is still the one under its key."""
        for key, held in self._held.items():
            if held is item:
                self._drop(key)
                return

    def _left(self, key: Hashable, expired: bool) -> None:
        item = self._held.pop(key, None)
        if item is None:  # it was over before it was kept
            return
        self._tally.leave(item.tokens)
        self._uses.pop(key, None)
        self._lives.pop(key, None)
        self._note("drop", self._index, 0, key)
        if expired:
            self._expirations += 1
        else:
            self._evictions += 1

    def _recount(self) -> None:
        self._sweep()
        for key, item in tuple(self._held.items()):
            tokens = self._wiring.count(item.content)
            if tokens != item.tokens and key in self._held:
                self._drop(key)
                if tokens > self._shelf.maxsize:
                    self._evictions += 1
                    continue
                counted = replace(item, tokens=tokens)
                self._shelf[key] = counted
                self._keep(key, counted)
        self._tally.tokens = sum(item.tokens for item in self._held.values())
        self._tally.items = len(self._held)


def _hashable(key: Any) -> Any:
    """A key as it was: a store gives tuples back as lists."""
    return tuple(_hashable(part) for part in key) if isinstance(key, list) else key
