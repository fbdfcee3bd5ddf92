"""What every layer stands on: a tally of running totals, and the facts its session lends it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..values import Item, Layer


class Tally:
    """Running totals of one layer: plain numbers, read without a lock by telemetry.

    Attributes:
        tokens: Tokens held now.
        items: Items held now.
        added: Tokens that ever entered.
        hits: Cache lookups answered; 0 in other layers.
        misses: Cache lookups not answered; 0 in other layers.
        pinned: Tokens of pinned items held now.
    """

    __slots__ = ("added", "hits", "items", "misses", "pinned", "tokens")

    def __init__(self) -> None:
        self.tokens = self.items = self.added = self.hits = self.misses = 0
        self.pinned = 0

    def enter(self, tokens: int) -> None:
        """Count one item in."""
        self.tokens += tokens
        self.items += 1
        self.added += tokens

    def leave(self, tokens: int) -> None:
        """Count one item out."""
        self.tokens -= tokens
        self.items -= 1


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a session lends to its layers.

    Args:
        lock: The one lock of the session; re-entrant.
        count: Tokens of a content. Slow: never called under the lock.
        now: Seconds since the epoch that never run backwards.
        owner: Number of the current run and name of its agent, or (None, None).
        new_id: A new item id, unique in the session, from a one-letter prefix.
    """

    lock: threading.RLock
    count: Callable[[Any], int]
    now: Callable[[], float]
    owner: Callable[[], tuple[int | None, str | None]]
    new_id: Callable[[str], str]


class BaseLayer(ABC):
    """A layer's face: ``items``, ``tokens``, ``len()``, and which layer it is."""

    layer: Layer

    def __init__(self, wiring: Wiring, tally: Tally) -> None:
        self._wiring = wiring
        self._lock: Any = wiring.lock
        self._tally = tally

    @property
    def tokens(self) -> int:
        """Tokens held, a running total."""
        return self._tally.tokens

    @property
    @abstractmethod
    def items(self) -> tuple[Item, ...]:
        """The items held, in order; a snapshot."""

    @abstractmethod
    def _dump(self, copied: Callable[[Any], Any]) -> Any:
        """All that it holds, not to be reached by later changes. Called under the lock."""

    @abstractmethod
    def _load(self, state: Any, copied: Callable[[Any], Any]) -> None:
        """Hold what :meth:`_dump` gave, and nothing else. Called under the lock."""

    @abstractmethod
    def _recount(self) -> None:
        """Count every item again, and put the tally right. Called under the lock."""

    def __len__(self) -> int:
        return self._tally.items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __repr__(self) -> str:
        return f"<{self.layer.value}: {len(self)} items, {self.tokens} tokens>"
