"""Memory as a pass reads it: what messages are, what stays, and which names are in sight.

Each text is read once, and searched once for names.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from threading import current_thread, main_thread
from time import perf_counter, sleep
from typing import Literal

from ..memory import Memory
from ..messages import Facts, facts
from ..policy import Policy
from ..values import Item
from .names import names_in
from .pairs import Unit, units
from .texts import text_of

_BREATH_EVERY_S = 0.001
_BREATH_S = 1e-5
"""Short, and yet long enough for the thread that waits to wake up."""


Pace = Literal["hurried", "brisk", "thorough"]
"""``hurried``: a model call waits for the pass; ``brisk``: it may look for names in talk without
tools too; ``thorough``: it may take as long as the best extract takes."""


class View:
    """What is read of memory while a pass works on it. Made under the session's lock.

    Attributes:
        memory: What is worked on.
        policy: The constants that hold.
        history: The items of the conversation; None where one was dropped.
        contexts: The items of working memory by id.
        states: Tokens of agents' states, which nothing here can make fewer.
        pace: How long it may take.
    """

    def __init__(self, memory: Memory, policy: Policy | None, pace: Pace) -> None:
        self.memory = memory
        self.policy = policy if policy is not None else memory.policy
        self.pace = pace
        self._profile = memory.profile()
        self.history: list[Item | None] = list(memory.history.items)
        self.contexts = {item.id: item for item in memory.active_contexts.items}
        self.stored = {item.id: item for item in memory.archived_contexts.items}
        self.states = self._profile.agent_states
        self._found = tuple(self.history)
        self._names: dict[str, list[str]] = {}
        self._texts: dict[str, str] = {}
        self._sources: dict[str, Item] = {}
        self._breathes = current_thread() is not main_thread()
        self._breathed = perf_counter()

    def breathe(self) -> None:
        """Let other threads have the interpreter: called between two small pieces of work.

        An event loop asks for it several times a turn, and would wait 5 ms each time: Python's
        switch interval. A pass in the main thread keeps no event loop waiting.
        """
        if self._breathes and perf_counter() - self._breathed > _BREATH_EVERY_S:
            sleep(_BREATH_S)
            self._breathed = perf_counter()

    # --- reading ----------------------------------------------------------------------------

    @cached_property
    def facts(self) -> list[Facts]:
        """Facts of each message as it was found; replacing one keeps them."""
        return [
            _NOTHING if item is None or item.kind == DIGEST else item.facts or facts(item.content)
            for item in self._found
        ]

    def names_in(self, text: str) -> list[str]:
        """Names in a text of a message, first mention first. Each text is searched once."""
        found = self._names.get(text)
        if found is None:
            self.breathe()
            found = self._names[text] = list(names_in(text))
        return found

    def text(self, item: Item) -> str:
        """All the text of a message, calls' arguments unescaped. Each is read once."""
        found = self._texts.get(item.id)
        if found is None:
            found = self._texts[item.id] = text_of(item.content, calls=_calls(item))
        return found

    def names_of(self, item: Item) -> list[str]:
        """Names in a message, first mention first."""
        return self.names_in(self.text(item))

    @cached_property
    def refers(self) -> bool:
        """Whether names are worth looking for: there are tools to use them with, or time."""
        return self.pace != "hurried" or any(fact.calls or fact.results for fact in self.facts)

    @cached_property
    def sight(self) -> Counter[str]:
        """In how many of the messages shown each name stands; changes keep it up to date."""
        seen: Counter[str] = Counter()
        for item in self.history:
            if item is not None:
                seen.update(self.names_of(item))
        return seen

    def source(self, item: Item) -> Item:
        """The message that came in, where this one stands for it alone; else the item itself."""
        if len(item.derived_from) != 1:
            return item
        (identity,) = item.derived_from
        return self._sources.get(identity) or self.memory.record.originals.get(identity) or item

    @cached_property
    def units(self) -> list[Unit]:
        """Messages that must stay together, by their positions."""
        return units(self.facts)

    @cached_property
    def protected(self) -> frozenset[int]:
        """Positions that stay as they are: pins, system prompts, first task, latest user turn."""
        places = {i for i, item in enumerate(self.history) if item is not None and item.pinned}
        users = []
        for place, fact in enumerate(self.facts):
            item = self.history[place]
            if fact.kind == "system":
                places.add(place)
            elif fact.kind == "user" and item is not None and not item.derived_from:
                users.append(place)
        if users:
            places |= {users[0], users[-1]}
        return frozenset(places)

    @property
    def pinned(self) -> int:
        """Tokens of pinned contexts."""
        held = (*self.contexts.values(), *self.stored.values())
        return sum(item.tokens for item in held if item.pinned)

    @property
    def kept_turns(self) -> int:
        """Tokens of the messages that stay as they are."""
        kept = (self.history[place] for place in self.protected)
        return sum(item.tokens for item in kept if item is not None)

    @property
    def irreducible(self) -> int:
        """Tokens that no action can free."""
        return self.pinned + self.kept_turns + self.states

    @cached_property
    def recent(self) -> frozenset[str]:
        """Ids of the last messages, which no unit is parted by."""
        return frozenset(item.id for item in self._found[self._recent_from :] if item is not None)

    @property
    def _recent_from(self) -> int:
        start = max(0, len(self._found) - self.policy.keep_recent)
        # In talk alone each message is a unit of its own, which is three objects a message.
        if not any(fact.calls or fact.results or fact.signed for fact in self.facts):
            return start
        for unit in reversed(self.units):  # the later ones may reach back before the earlier
            if unit.places[0] < start <= unit.places[-1]:
                start = unit.places[0]
        return start


def _calls(item: Item) -> bool:
    return item.kind == "assistant" and bool((item.facts or facts(item.content)).calls)


DIGEST = "digest"
"""Kind of the item that stands for dropped turns."""

_NOTHING = Facts("user", DIGEST)
