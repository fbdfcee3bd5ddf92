"""Loaders of a cache: how values are made, and which of them are worth making ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

from .access import SALT

MOST_WRONG = 3
"""Times running that a value may be loaded and leave unasked for; then it waits to be asked for."""

MOST_EXPECTED = 8
"""Values renewed at once, before their time is over, because they are expected."""


class Loader:
    """How the value of a key is made, and whether it was worth it so far."""

    __slots__ = ("load", "name", "wrong")

    def __init__(self, key: Hashable, load: Callable[[], object]) -> None:
        self.load = load
        self.name = hash((key, SALT))
        self.wrong = 0


class Loaders:
    """Loaders by key.

    A value that was asked for since it was loaded is loaded again whenever it is gone. One that
    left unasked for was loaded in vain: it is loaded again only when it is expected, and after
    :data:`MOST_WRONG` such loads only once it was asked for. A held value that is expected is
    loaded anew before its time is over.

    Attributes:
        loaded: Values loaded.
        wrong: Values that left unasked for.
    """

    __slots__ = ("by_key", "loaded", "wrong")

    def __init__(self) -> None:
        self.by_key: dict[Hashable, Loader] = {}
        self.loaded = self.wrong = 0

    def add(self, key: Hashable, load: Callable[[], object]) -> None:
        """Register how a key's value is made."""
        self.by_key[key] = Loader(key, load)

    def asked(self, key: Hashable) -> None:
        """A key that is not held was asked for."""
        loader = self.by_key.get(key)
        if loader is not None:
            loader.wrong = 0

    def left(self, key: Hashable, uses: int) -> None:
        """A value is gone, after so many uses."""
        loader = self.by_key.get(key)
        if loader is not None:
            loader.wrong = 0 if uses else loader.wrong + 1
            self.wrong += not uses

    def may(self, key: Hashable) -> bool:
        """Whether a key that is not held may be loaded, at least where it is expected."""
        return self.by_key[key].wrong < MOST_WRONG

    def chosen(
        self, gone: Collection[Hashable], ending: Collection[Hashable], names: list[int]
    ) -> list[Hashable]:
        """Keys to load now: of those gone, and of those whose time is nearly over.

        Args:
            gone: Keys with loaders that are not held.
            ending: Keys with loaders whose time will be over before the next run ends.
            names: Hashes of the keys that are expected, the likeliest first.
        """
        place = {name: number for number, name in enumerate(names)}
        always = [key for key in gone if not self.by_key[key].wrong]
        if not place:
            return always
        ahead = [
            key
            for key in (*gone, *ending)
            if self.by_key[key].name in place and self.may(key) and key not in always
        ]
        ahead.sort(key=lambda key: place[self.by_key[key].name])
        return always + ahead[:MOST_EXPECTED]
