"""Where a cache's items lie: cachetools keeps them, the layer is told who went."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import inf
from typing import Any

from cachetools import Cache as Plain
from cachetools import TLRUCache

from ..decide.eviction import S3FIFO
from ..values import Item


class Shelf(TLRUCache):  # type: ignore[type-arg]  # generic in the stubs only
    """Items by key, weighted by tokens; the least recently used goes first."""

    eviction = "lru"

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


class S3FIFOShelf(Shelf):
    """The same, but who goes first is S3-FIFO's choice."""

    eviction = "s3fifo"

    def __init__(
        self, limit_tokens: int, now: Callable[[], float], gone: Callable[[Any, bool], None]
    ) -> None:
        super().__init__(limit_tokens, now, gone)
        self._order = S3FIFO(limit_tokens)

    def __getitem__(self, key: Hashable) -> Item:
        item: Item = super().__getitem__(key)
        self._order.touch(key)
        return item

    def __setitem__(self, key: Hashable, item: Item) -> None:
        known = Plain.__contains__(self, key)
        super().__setitem__(key, item)
        held = Plain.__contains__(self, key)
        if held and not known:
            self._order.enter(key, item.tokens)
        elif known and not held:
            self._order.leave(key)

    def __delitem__(self, key: Hashable) -> None:
        self._order.leave(key)
        super().__delitem__(key)

    def expire(self, time: float | None = None) -> Any:
        expired = super().expire(time)
        for key, _ in expired:
            self._order.leave(key)
        return expired

    def popitem(self) -> tuple[Any, Item]:
        with self.timer as time:
            self.expire(time)
            key = self._order.victim()
            item: Item = Plain.__getitem__(self, key)
            del self[key]
        self._gone(key, False)
        return key, item


def shelf_of(
    eviction: str,
    limit_tokens: int,
    now: Callable[[], float],
    gone: Callable[[Any, bool], None],
) -> Shelf:
    """An empty shelf, by the name of who goes first."""
    kind = S3FIFOShelf if eviction == S3FIFOShelf.eviction else Shelf
    return kind(limit_tokens, now, gone)
