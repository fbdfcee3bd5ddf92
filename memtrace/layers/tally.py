"""Running totals: plain numbers that layers change and telemetry reads, without a lock.

Telemetry asks to be told when they change, so that it need not look at ten thousand sessions of
which a hundred did anything. A layer pays for that once between two looks: the tally is of another
class until its first change, and what a layer does with it is the same as if nobody asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..values import LAYERS

Told = Callable[[], object]


def _unasked() -> None:
    """Nobody wants to know."""


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

    __slots__ = ("_changed", "added", "hits", "items", "misses", "pinned", "tokens")

    def __init__(self) -> None:
        self.tokens = self.items = self.added = self.hits = self.misses = 0
        self.pinned = 0
        self._changed: Told = _unasked

    def enter(self, tokens: int) -> None:
        """Count one item in."""
        self.tokens += tokens
        self.items += 1
        self.added += tokens

    def leave(self, tokens: int) -> None:
        """Count one item out."""
        self.tokens -= tokens
        self.items -= 1


class _Settled(Tally):
    """A tally that has not changed since it was looked at, and tells of its next change."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        # In this order, whoever looks meanwhile sees the new value, or is told of it later.
        object.__setattr__(self, name, value)
        object.__setattr__(self, "__class__", Tally)
        self._changed()


class Totals:
    """What telemetry reads of a session, and may outlive it with.

    Args:
        limits: Tokens allotted to each layer.

    >>> totals, told = Totals([100] * 5), []
    >>> totals.watch(lambda: told.append("changed"))
    >>> totals.settle()
    >>> totals.tallies[0].enter(7)
    >>> totals.tallies[0].enter(8)
    >>> totals.tallies[0].tokens, told
    (15, ['changed'])
    """

    __slots__ = ("_changed", "_limits", "tallies")

    def __init__(self, limits: Sequence[int]) -> None:
        self.tallies = tuple(Tally() for _ in LAYERS)
        self._limits = limits
        self._changed: Told = _unasked

    @property
    def limits(self) -> Sequence[int]:
        """Tokens allotted to each layer."""
        return self._limits

    @limits.setter
    def limits(self, limits: Sequence[int]) -> None:
        self._limits = limits
        self._changed()

    def watch(self, changed: Told) -> None:
        """Call this, and nothing else, at the first change of a tally that is settled.

        New limits are told each time.

        Args:
            changed: Quick, takes no lock, and does not raise: it runs within a layer's change.
        """
        self._changed = changed
        for tally in self.tallies:
            object.__setattr__(tally, "_changed", changed)

    def settle(self) -> None:
        """Have each tally tell of its next change. Called before they are read, not after."""
        for tally in self.tallies:
            object.__setattr__(tally, "__class__", _Settled)
