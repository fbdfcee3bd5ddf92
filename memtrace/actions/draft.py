"""A draft of what an action would change: worked out on a copy, committed in one step.

The work is slow and done without the session's lock. The commit is quick and under it, and
takes only those changes whose items are still what they were: what was written meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ..memory import Memory
from ..policy import Policy
from ..values import Item, Layer
from .view import DIGEST, Pace, View

__all__ = ["DIGEST", "Draft", "Eligible"]

Eligible = Callable[[Item], bool]


class Draft(View):
    """Memory as an action found it, and the changes it has decided on.

    Attributes:
        memory_before: Tokens of the session as it was found.
        total: Tokens of the session, changes included.
        working: Tokens of working memory, changes included.
        wanted: The target as given; ``target_total`` may be softened where it is out of reach.
        reached: False where it was.
        crowded: Whether working memory was above its target.
        made: Ids of the items that the present run's passes made.
        fresh: Those of them that are spared still.
        changed: How many items were replaced, moved or dropped.
    """

    def __init__(
        self,
        memory: Memory,
        target_total: int,
        target_working: int | None = None,
        policy: Policy | None = None,
        *,
        pace: Pace = "hurried",
    ) -> None:
        with memory.lock:
            super().__init__(memory, policy, pace)
            self.cached = list(memory.cache.items)
            self.active_runs = memory.active_runs()
            self.open_runs = frozenset(memory._open_runs)
            self.fresh = self.made = memory.record.fresh()
        self.wanted = self.target_total = target_total
        self.reached = True
        self.target_working = target_working
        self.memory_before = self.total = self._profile.total_tokens
        self.working = self._profile.working_memory
        self.crowded = target_working is not None and self.working > target_working
        self.changed = 0
        self.compressed_in = self.compressed_out = 0
        # What is to be shown in place of messages, or how to make another change. Not a function
        # for each: with its cells it would be five objects more for the garbage collector, and
        # how many there are decides how often it looks at everything while a pass runs.
        self._changes: list[tuple[tuple[Item, ...], Item | None, Callable[[], None] | None]] = []

    # --- how far ----------------------------------------------------------------------------

    @property
    def missing(self) -> int:
        """Tokens still to free of the whole; 0 or less where its target is reached."""
        return self.total - self.target_total

    @property
    def freed(self) -> int:
        """Tokens that the changes free."""
        return self.memory_before - self.total

    @property
    def relieved(self) -> bool:
        """Whether the whole is at its target, which is all that the conversation can help."""
        return self.total <= self.target_total

    @property
    def done(self) -> bool:
        """Whether working memory is at its target too, where it has one."""
        if self.target_working is not None and self.working > self.target_working:
            return False
        return self.relieved

    # --- changing ---------------------------------------------------------------------------

    def replace(self, place: int, content: Any, least_gain: float = 0.0) -> bool:
        """Show something shorter in place of a message. Kept only if it is shorter.

        Args:
            place: Position of the message.
            content: What to show.
            least_gain: Share of its tokens that this must save.
        """
        old = self.history[place]
        assert old is not None
        if content is old.content:
            return False
        tokens = self.memory._count(content)
        if tokens >= old.tokens or tokens > old.tokens * (1 - least_gain):
            return False
        olds = (old,)
        new = self._derived(old, olds, content, tokens, old.kind)
        self._sources.setdefault(new.derived_from[0], old)
        self._see(olds, new)
        self.history[place] = new
        self._shrunk(old.tokens, tokens)
        self._changes.append((olds, new, None))
        return True

    def fold(self, places: Sequence[int], content: Any) -> bool:
        """Show one digest in place of several messages. Kept only if it is shorter."""
        olds = tuple(item for item in (self.history[place] for place in places) if item)
        before = sum(item.tokens for item in olds)
        tokens = self.memory._count(content)
        if tokens >= before:
            return False
        new = self._derived(olds[0], olds, content, tokens, DIGEST)
        self._see(olds, new)
        for place in places:
            self.history[place] = None
        self.history[places[0]] = new
        self._shrunk(before, tokens)
        self._changes.append((olds, new, None))
        return True

    def drop(self, places: Sequence[int]) -> None:
        """Show nothing in place of messages; the originals stay reachable."""
        olds = tuple(item for item in (self.history[place] for place in places) if item)
        self._see(olds, None)
        for place in places:
            self.history[place] = None
        self._shrunk(sum(item.tokens for item in olds), 0)
        self._changes.append((olds, None, None))

    def store(self, item: Item, content: Any) -> bool:
        """Move a context to long-term memory, in the form given."""
        tokens = self.memory._count(content) if content is not item.content else item.tokens
        if tokens > item.tokens:
            return False
        new = replace(
            self._derived(item, (item,), content, tokens, item.kind),
            layer=Layer.LONG_TERM_MEMORY,
        )
        del self.contexts[item.id]
        self.stored[new.id] = new
        self.working -= item.tokens
        self._shrunk(item.tokens, tokens)

        def commit() -> None:
            self.memory.active_contexts._discard(item.id)
            self.memory.archived_contexts._insert(new)
            self._fresh.append(new)

        self._edit((item,), commit)
        return True

    def forget(self, item: Item) -> None:
        """Take an item out of long-term memory or the cache; its original stays reachable."""
        memory = self.memory
        if item.layer is Layer.CACHE:
            self.cached.remove(item)
            self._edit((), lambda: memory.cache._forget(item))
        else:
            holder = self.stored if item.layer is Layer.LONG_TERM_MEMORY else self.contexts
            layer = (
                memory.archived_contexts
                if item.layer is Layer.LONG_TERM_MEMORY
                else memory.active_contexts
            )
            del holder[item.id]
            if item.layer is Layer.WORKING_MEMORY:
                self.working -= item.tokens
            self._edit((item,), lambda: layer._discard(item.id))
        self.total -= item.tokens
        self.changed += 1

    # --- committing -------------------------------------------------------------------------

    def commit(self) -> int:
        """Make the changes, those whose items are still there. Returns how many items changed."""
        memory = self.memory
        with memory.lock:
            held: dict[str, Item] = {}
            self._places = {}
            for place, item in enumerate(memory.history._shown):
                if item is not None:
                    held[item.id] = item
                    self._places[item.id] = place
            for layer in (memory.active_contexts, memory.archived_contexts):
                held.update((item.id, item) for item in layer.items)
            changed = 0
            made: list[str] = []
            for items, new, apply in self._changes:
                if all(held.get(item.id) is item for item in items):
                    for item in items:
                        memory.record.originals.setdefault(item.id, item)
                        held.pop(item.id)
                    self._fresh.clear()
                    if apply is None:
                        self._show(items, new)
                    else:
                        apply()
                    held.update((item.id, item) for item in self._fresh)
                    made += [item.id for item in self._fresh]
                    changed += max(1, len(items))
            memory.record.made(made)
            self.discard()
            return changed

    def discard(self) -> None:
        """Let go of the changes, which hold this draft: as cyclic garbage it would have to be
        collected, and an event loop waits while that is done."""
        self._changes.clear()

    def _edit(self, items: tuple[Item, ...], apply: Callable[[], None]) -> None:
        self._changes.append((items, None, apply))

    def _show(self, olds: Sequence[Item], new: Item | None) -> None:
        """Show this in place of the first message, and nothing in place of the others."""
        for old in olds:
            place = self._places.pop(old.id)
            self.memory.history._show(place, new)
            if new is not None:
                self._places[new.id] = place
                self._fresh.append(new)
                new = None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {}

    @cached_property
    def _fresh(self) -> list[Item]:
        return []

    def _see(self, olds: Iterable[Item], new: Item | None) -> None:
        if "sight" in self.__dict__:
            for item in olds:
                self.sight.subtract(self.names_of(item))
            if new is not None:
                self.sight.update(self.names_of(new))

    def _shrunk(self, before: int, after: int) -> None:
        self.total += after - before
        self.compressed_in += before
        self.compressed_out += after
        self.changed += 1

    def _derived(
        self, like: Item, olds: Iterable[Item], content: Any, tokens: int, kind: str
    ) -> Item:
        sources: list[str] = []
        for item in olds:
            # What stands for others hands on whom it stands for, and can be asked for itself.
            sources += item.derived_from or (item.id,)
        return replace(
            like,
            id=self.memory._new_id("z"),
            content=content,
            tokens=tokens,
            kind=kind,
            derived_from=tuple(sources),
        )
