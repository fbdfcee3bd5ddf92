"""Which names a model was shown: what an agent can refer to without asking for it again.

A *name* is what a later step refers to: a path, an identifier, a number with a unit, an id. It is
*lost* where the conversation as it is shown at the end has it nowhere, and *missed* where a reply
used it, it had been said before, and what the model was sent for that reply had it nowhere. What
was replaced stays reachable by :meth:`Session.original` and :meth:`Session.recall`: a lost name is
out of sight, not gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..actions.names import names_in
from ..actions.texts import text_of
from ..messages import facts
from ..values import Item
from .reading import Recorded

_Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Sighted:
    """Names of one replay, or of several together; each counts once a session, or once a reply.

    Args:
        said: That the messages hold.
        lost: Of them, those that the conversation as it is shown at the end holds nowhere.
        used: That replies used and that had been said before, summed over the replies.
        missed: Of them, those that the model had not in sight.

    >>> Sighted(10, 1, 4, 0) + Sighted(5, 2, 1, 1)
    Sighted(said=15, lost=3, used=5, missed=1)
    """

    said: int = 0
    lost: int = 0
    used: int = 0
    missed: int = 0

    def __add__(self, other: Sighted) -> Sighted:
        return Sighted(
            self.said + other.said,
            self.lost + other.lost,
            self.used + other.used,
            self.missed + other.missed,
        )


class Names:
    """The names in a recorded session's messages: looked for once, however often it is played."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded  # it keeps the messages alive, so that their ids stay theirs
        self._known: dict[int, _Names] = {}
        for message in recorded.messages:
            self._known[id(message.message)] = _names(message.message)
        held = [recorded.header.get(kind) for kind in ("system", "tools")]
        self.pinned = frozenset(names_in("\n".join(str(part) for part in held if part)))

    def of(self, message: Any) -> _Names:
        """Names in a message: one of the recording, or what stands in its place."""
        known = self._known.get(id(message))
        return _names(message) if known is None else known


def _names(message: Any) -> _Names:
    return frozenset(names_in(text_of(message, calls=bool(facts(message).calls))))


class Sight:
    """Follows what a model is shown through one replay."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._view: tuple[Item, ...] = ()
        self._shown: dict[str, _Names] = {}  # by item
        self._times = Counter(names.pinned)  # in how many of those shown each name stands
        self._said = set(names.pinned)
        self._used = self._missed = 0

    def called(self, view: tuple[Item, ...], reply: Any) -> None:
        """A model is sent ``view``, and gives ``reply``."""
        self._look(view)
        used = self._names.of(reply) & self._said
        self._used += len(used)
        self._missed += sum(not self._times[name] for name in used)

    def said(self, message: Any) -> None:
        """A message enters the history."""
        self._said |= self._names.of(message)

    def ended(self, view: tuple[Item, ...]) -> Sighted:
        """What came of it, where the conversation is shown like this at its end."""
        self._look(view)
        lost = sum(not self._times[name] for name in self._said)
        return Sighted(len(self._said), lost, self._used, self._missed)

    def _look(self, view: tuple[Item, ...]) -> None:
        """Take what left and what came since the last look; mostly something came at the end."""
        before, self._view = self._view, view
        if view[: len(before)] == before:
            self._show(view[len(before) :])
            return
        here = {item.id for item in view}
        for identity in [identity for identity in self._shown if identity not in here]:
            self._times.subtract(self._shown.pop(identity))
        self._show(item for item in view if item.id not in self._shown)

    def _show(self, items: Iterable[Item]) -> None:
        for item in items:
            self._shown[item.id] = names = self._names.of(item.content)
            self._times.update(names)
