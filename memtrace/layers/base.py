"""What every layer stands on: its face, its changes, and the facts its session lends it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..values import Item, Layer, layer_index
from .tally import Tally


class Change(NamedTuple):
    """One change of a layer, from which it can be made again.

    Args:
        op: Which change it is; each layer has its own.
        layer: Index of the layer.
        place: A position in the history.
        key: A key, a name or an item's id.
        item: The item that came, if one did.
        extra: What else the change needs: plain data.
    """

    op: str
    layer: int = 0
    place: int = 0
    key: Any = None
    item: Item | None = None
    extra: Any = None


def _unnoted(*_change: Any) -> None:
    """Nobody keeps this session."""


def _as_it_is(content: Any, strict: bool = True) -> Any:
    return content


class Wiring:
    """What a session lends to its layers.

    Args:
        lock: The one lock of the session; re-entrant.
        count: Tokens of a content. Slow: never called under the lock.
        now: Seconds since the epoch that never run backwards.
        owner: Number of the current run and name of its agent, or (None, None).
        new_id: A new item id, unique in the session, from a one-letter prefix.
        note: Takes a change that was made, as :class:`Change` has its fields, for the store.
        admit: What is kept of a content: itself, or where secrets are taken out a copy. Refuses
            what no store could take, unless it is told not to be strict.
        stored: The form in which the store would give a content back.
    """

    # No dataclass: making one is 1% of what importing memtrace takes.
    __slots__ = ("admit", "count", "lock", "new_id", "note", "now", "owner", "stored")

    def __init__(
        self,
        lock: threading.RLock,
        count: Callable[[Any], int],
        now: Callable[[], float],
        owner: Callable[[], tuple[int | None, str | None]],
        new_id: Callable[[str], str],
        note: Callable[..., None] = _unnoted,
        admit: Callable[..., Any] = _as_it_is,
        stored: Callable[[Any], Any] = _as_it_is,
    ) -> None:
        self.lock = lock
        self.count = count
        self.now = now
        self.owner = owner
        self.new_id = new_id
        self.note = note
        self.admit = admit
        self.stored = stored


class BaseLayer(ABC):
    """A layer's face: ``items``, ``tokens``, ``len()``, and which layer it is."""

    layer: Layer

    def __init__(self, wiring: Wiring, tally: Tally) -> None:
        self._index = layer_index(self.layer)
        self._note = wiring.note
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
    def _changes(self) -> Iterator[Change]:
        """The changes that lead from nothing to what it holds. Called under the lock."""

    @abstractmethod
    def _apply(self, op: str, place: int, key: Any, item: Item | None, extra: Any) -> None:
        """Make a change again, without noting it. Called under the lock.

        Raises:
            Exception: It does not fit what the layer holds.
        """

    @abstractmethod
    def _recount(self) -> None:
        """Count every item again, and put the tally right. Called under the lock."""

    def plot(self, axes: Any = None) -> Any:
        """The largest items as bars. Needs matplotlib.

        Args:
            axes: What to draw on; None: a figure of its own.

        Returns:
            The ``matplotlib.axes.Axes``.

        Raises:
            ConfigurationError: matplotlib is not installed.
        """
        from ..plots import items

        named = [(f"{item.kind} {item.key or item.id}", item.tokens) for item in self.items]
        return items(named, f"{self.layer.value}: {self.tokens:,} tokens", axes)

    def __len__(self) -> int:
        return self._tally.items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __repr__(self) -> str:
        return f"<{self.layer.value}: {len(self)} items, {self.tokens} tokens>"
