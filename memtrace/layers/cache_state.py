"""What a cache holds, and how it is put away and brought back. The public face is in `cache`."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from ..values import Item, Layer
from .access import AccessLog
from .base import BaseLayer, Change, Wiring
from .loading import Loaders
from .shelf import shelf_of
from .tally import Tally


class CacheStats(NamedTuple):
    """What happened to a cache so far; all are counts.

    ``rejected`` counts values larger than the whole cache, which are not kept; ``preloads`` those
    that loaders made before they were asked for, and ``wasted`` those of them that left unasked.
    """

    hits: int
    misses: int
    evictions: int
    expirations: int
    rejected: int
    preloads: int = 0
    wasted: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Hits / lookups, 0–1; None before any lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None


class CacheState(BaseLayer):
    """Items by key on a shelf that is a session's layer. All of it is called under the lock."""

    layer = Layer.CACHE

    def __init__(
        self,
        wiring: Wiring,
        tally: Tally,
        limit_tokens: int,
        often: int = 3,
        eviction: str = "lru",
    ) -> None:
        super().__init__(wiring, tally)
        self._often = often  # uses from which on a value lives longer
        self._stretchable = False
        self.restless = False
        self._evictions = self._expirations = self._rejected = 0
        self._soonest = inf  # the earliest expiry held: nothing is due before it
        self._held: OrderedDict[Hashable, Item] = OrderedDict()  # longest unused first
        self._uses: Counter[Hashable] = Counter()
        self._lives: dict[Hashable, float] = {}  # seconds to live as given
        self._ttl_factor = 1.0  # times to live as given, times this
        self._loaders = Loaders()
        self._log = AccessLog()
        # For good: finding it at each lookup would cost as much as using it.
        self._remember = self._log.pending.append
        self._timed = False  # whether a value ever had a time to live
        self._unlogged = (0, 0)  # hits and misses before the log began
        self._looked = 0  # lookups in the log when it was last looked at
        self._updated_at = wiring.now()
        self._shelf = shelf_of(eviction, limit_tokens, wiring.now, self._left)

    def _settle(self) -> None:
        """Count the lookups answered since it was last done: by the hundred, for a fraction."""
        pending = self._log.pending
        if not pending:
            return
        uses = self._uses
        uses.update(pending)
        if self._timed and not self._stretchable:
            held = self._held
            self._stretchable = any(
                uses[key] >= self._often and held[key].expires_at is not None
                for key in set(pending)
            )
        self._log.pack()

    def _sweep(self) -> int:
        """Drop what has expired; tells how many. One comparison where nothing is due."""
        if self._wiring.now() < self._soonest:
            return 0
        before = self._tally.items
        self._shelf.expire()
        deadlines = (item.expires_at for item in self._held.values())
        self._soonest = min((at for at in deadlines if at is not None), default=inf)
        return before - self._tally.items

    def _keep(self, key: Hashable, item: Item, ttl_s: float | None) -> None:
        """Take in what was put on the shelf, unless it was over before it lay there."""
        self._log.put(key, item.tokens, ttl_s, item.created_at)
        if ttl_s is not None:
            self._lives[key] = ttl_s
            self._timed = True
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
        self._settle()
        if self._shelf.pop(key, None) is not None:
            self._tally.leave(self._held.pop(key).tokens)
            self._uses.pop(key, None)
            self._lives.pop(key, None)
            self._log.left(key)
            self._note("drop", self._index, 0, key)

    def _forget(self, item: Item) -> None:
        """Drop an item, if it is still the one under its key."""
        for key, held in self._held.items():
            if held is item:
                self._settle()
                self._log.dropped(key)
                self._drop(key)
                return

    def _left(self, key: Hashable, expired: bool) -> None:
        self._settle()
        item = self._held.pop(key, None)
        if item is None:  # it was over before it was kept
            return
        self._tally.leave(item.tokens)
        self._loaders.left(key, self._uses.pop(key, 0))
        self._lives.pop(key, None)
        self._log.left(key)
        self._note("drop", self._index, 0, key)
        if expired:
            self._expirations += 1
        else:
            self._evictions += 1

    def _resize(self, limit_tokens: int) -> None:
        """Hold at most so many tokens from now on; what goes first goes until the rest fits."""
        self._sweep()
        old = self._shelf
        if limit_tokens == old.maxsize:
            return
        self._shelf = shelf_of(old.eviction, limit_tokens, self._wiring.now, self._left)
        for key, item in list(self._held.items()):
            if item.tokens > limit_tokens:
                self._left(key, False)
            else:
                self._shelf[key] = item
        self._forget_accesses()

    def _forget_accesses(self) -> None:
        """Remember accesses anew: those before were under another setting."""
        self._settle()
        self._log.restart()
        for key, item in self._held.items():
            self._log.put(key, item.tokens, self._lives.get(key), item.created_at)
        self._unlogged = self._tally.hits, self._tally.misses
        self._looked = 0

    # --- away and back ----------------------------------------------------------------------

    def _dump(self, _copied: Callable[[Any], Any]) -> Any:
        self._sweep()
        return tuple(self._held.items())

    def _load(self, state: Any, _copied: Callable[[Any], Any]) -> None:
        lives = dict(self._lives)
        for key in tuple(self._held):
            self._drop(key)
        self._forget_accesses()
        for key, item in state:
            if item.tokens <= self._shelf.maxsize:  # it may hold less by now
                self._shelf[key] = item
                self._keep(key, item, lives.get(key))

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
            self._keep(key, item, None if extra is None else float(extra))
        else:
            raise ValueError(f"no change {op!r} of a cache")

    def _recount(self) -> None:
        self._sweep()
        for key, item in tuple(self._held.items()):
            tokens = self._wiring.count(item.content)
            if tokens != item.tokens and key in self._held:
                life = self._lives.get(key)
                self._drop(key)
                if tokens > self._shelf.maxsize:
                    self._evictions += 1
                    continue
                counted = replace(item, tokens=tokens)
                self._shelf[key] = counted
                self._keep(key, counted, life)
        self._tally.tokens = sum(item.tokens for item in self._held.values())
        self._tally.items = len(self._held)


def _hashable(key: Any) -> Any:
    """A key as it was: a store gives tuples back as lists."""
    return tuple(_hashable(part) for part in key) if isinstance(key, list) else key
