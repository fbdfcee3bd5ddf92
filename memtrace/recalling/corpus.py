"""What of a session can be recalled, and what of that is new, or gone, since it was last asked.

All messages that were received and were not cut off, whatever stands for them in the view; all
contexts held; and what passes took out of the layers: consolidated, spilled, expired. Not what
its owner removed or replaced, nor what was undone by going back to a snapshot. Shorter forms are
not recalled: what they stand for is. Neither are agents' states and cached values, which change
in place or can be made again.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import StoreDamagedError
from ..journal import item_of
from ..memory import Memory
from ..values import Item, Layer


class Corpus:
    """Follows one session. Not safe for threads: its owner sees to that."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._writes = (-1, -1, -1)
        self._messages: list[str] = []
        self._others: dict[str, None] = {}
        self.places: dict[str, int] = {}

    def look(self) -> tuple[list[str], set[str]]:
        """Bring it up to date. Gives the ids that are new, in order, and those that are gone."""
        memory = self._memory
        history, working, stored = memory.history, memory.active_contexts, memory.archived_contexts
        with memory.lock:
            writes = history._writes, working._writes, stored._writes
            grown = writes[0] == self._writes[0]
            received = history._received[len(self._messages) if grown else 0 :]
            others = self._others if writes[1:] == self._writes[1:] else _beside(memory)
        self._writes = writes
        fresh, gone = self._follow([item.id for item in received], grown)
        gone |= self._others.keys() - others.keys()
        fresh += [item_id for item_id in others if item_id not in self._others]
        self._others = others
        return fresh, gone

    def _follow(self, messages: list[str], grown: bool) -> tuple[list[str], set[str]]:
        """Take in messages: those that came after the ones before, or all there are now."""
        if grown:
            start = len(self._messages)
            self._messages += messages
            self.places.update((item, start + n) for n, item in enumerate(messages))
            return messages, set()
        before, self._messages = self.places, messages
        self.places = {item: place for place, item in enumerate(messages)}
        return [item for item in messages if item not in before], before.keys() - self.places.keys()

    # --- items ------------------------------------------------------------------------------

    def holds(self, item_id: str) -> bool:
        """Whether an item can be recalled."""
        return item_id in self.places or item_id in self._others

    @property
    def ids(self) -> Iterable[str]:
        """Ids of all that can be recalled, the conversation's first."""
        yield from self._messages
        yield from self._others

    def item(self, item_id: str) -> Item | None:
        """An item that can be recalled; None: it is gone since."""
        place = self.places.get(item_id)
        if place is None:
            return self._beside(item_id)
        found = self.message(place)
        return found if found is not None and found.id == item_id else None

    def message(self, place: int) -> Item | None:
        """The message that was received at a place; None: there is none."""
        with self._memory.lock:
            received = self._memory.history._received
            return received[place] if 0 <= place < len(received) else None

    def _beside(self, item_id: str) -> Item | None:
        memory = self._memory
        with memory.lock:
            for layer in (memory.active_contexts, memory.archived_contexts):
                held = layer._by_id.get(item_id)
                if held is not None:
                    return held
            kept = memory.record.originals.get(item_id)
        if kept is not None:
            return kept
        try:
            row = memory.journal.stored(item_id)
        except StoreDamagedError:
            return None  # there is nothing to be found by; `verify` names it
        return None if row is None or row.item is None else item_of(row.item, Layer.WORKING_MEMORY)


def _beside(memory: Memory) -> dict[str, None]:
    """Ids of what can be recalled besides messages. Called under the lock."""
    layers = memory.active_contexts, memory.archived_contexts
    left: dict[str, bool] = {}
    for layer in layers:
        for item_id, recallable in layer._left.items():
            left[item_id] = recallable and left.get(item_id, True)
    found = {item_id: None for item_id, recallable in left.items() if recallable}
    for layer in layers:
        for item in layer._by_id.values():
            found.update(dict.fromkeys(item.derived_from or (item.id,)))
    return found
