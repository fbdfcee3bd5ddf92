"""Working memory and long-term memory: contents under a key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import inf
from typing import Any

from ..errors import ConfigurationError
from ..values import Item, Layer
from .base import BaseLayer, Change, Wiring
from .tally import Tally

PINNED_KINDS = frozenset({"system", "tools"})
"""Kinds that are always pinned: the system prompt and tool schemas."""


class Contexts(BaseLayer):
    """Documents, modules, results … by key, in the order they came. Iterating yields items.

    >>> from memtrace import Session
    >>> contexts = Session().active_contexts
    >>> item = contexts.add("def f(): ...", key="f.py", kind="module")
    >>> contexts.get("f.py") is item, contexts.tokens == item.tokens
    (True, True)
    """

    def __init__(self, layer: Layer, wiring: Wiring, tally: Tally) -> None:
        self.layer = layer
        super().__init__(wiring, tally)
        self._by_id: dict[str, Item] = {}
        self._ids: dict[str, str] = {}  # id by key
        self._touches: dict[str, int] = {}  # how often, by id
        self._soonest = inf  # no item expires before it
        self._writes = 0
        # What is not held any more: True: a pass took it out, and it can be recalled; False: it was
        # replaced by a shorter form, and its owner took that out.
        self._left: dict[str, bool] = {}
        self._left_shared = False  # a snapshot has it: it is copied before it changes

    @property
    def items(self) -> tuple[Item, ...]:
        """The items held, in the order they came; a snapshot."""
        with self._lock:
            return tuple(self._by_id.values())

    def __contains__(self, key: object) -> bool:
        return key in self._ids or key in self._by_id

    def add(
        self,
        content: Any,
        *,
        key: str | None = None,
        kind: str = "document",
        pinned: bool = False,
        priority: int = 0,
        ttl_s: float | None = None,
        agent: str | None = None,
    ) -> Item:
        """Take in a content, or replace the one under the same key.

        Args:
            content: Text, or any JSON-like value; kept as it is.
            key: The name to find it by again; None: the new item's id.
            kind: What it is. Kinds ``system`` and ``tools`` are always pinned.
            pinned: Never compressed, consolidated or dropped.
            priority: Higher stays longer among equally old items.
            ttl_s: Seconds after which it is expired, > 0; None: never.
            agent: Its owner; None: the agent of the current run.

        Raises:
            ConfigurationError: ``ttl_s`` is not above 0, or ``key`` is no text.
        """
        if ttl_s is not None and not ttl_s > 0:
            raise ConfigurationError(f"ttl_s must be a number of seconds above 0, got {ttl_s!r}")
        if key is not None and not isinstance(key, str):
            raise ConfigurationError(f"key must be text, got {key!r}; for example key={str(key)!r}")
        wiring = self._wiring
        content = wiring.admit(content)
        now = wiring.now()
        run_id, run_agent = wiring.owner()
        item = Item(
            id=wiring.new_id("c"),
            layer=self.layer,
            kind=kind,
            content=content,
            tokens=wiring.count(content),
            pinned=pinned or kind in PINNED_KINDS,
            priority=priority,
            created_at=now,
            last_used_at=now,
            expires_at=None if ttl_s is None else now + ttl_s,
            agent=agent if agent is not None else run_agent,
            run_id=run_id,
            key=key,
        )
        with self._lock:
            if key is not None and key in self._ids:
                self._discard(self._ids[key], gone=True)
            self._insert(item)
        return item

    def sync(self, content: Any, *, key: str, kind: str = "document") -> Item | None:
        """Hold what a caller sends whole each turn; counted anew only where it changed.

        Args:
            content: As in :meth:`add`; None or empty: nothing is held under the key any more.
            key: The name it has from turn to turn.
            kind: As in :meth:`add`.

        Returns:
            The item held; None: nothing.

        >>> from memtrace import Session
        >>> contexts = Session().active_contexts
        >>> first = contexts.sync("You are kind.", key="prompt", kind="system")
        >>> contexts.sync("You are kind.", key="prompt", kind="system") is first
        True
        """
        held = self.get(key)
        if not content:
            if held is not None:
                self.remove(key)
            return None
        # What had a secret in it is compared as it was stored.
        if (
            held is not None
            and held.kind == kind
            and (held.content == content or held.content == self._wiring.stored(content))
        ):
            return held
        return self.add(content, key=key, kind=kind)

    def get(self, key: str) -> Item | None:
        """The item under a key or an id; None where there is none."""
        with self._lock:
            return self._by_id.get(self._ids.get(key, key))

    def touch(self, key: str) -> Item:
        """Mark an item as used now, by the current run.

        Raises:
            KeyError: There is none under that key or id.
        """
        with self._lock:
            item = self._require(key)
            run_id, _ = self._wiring.owner()
            run_id = run_id if run_id is not None else item.run_id
            now = self._wiring.now()
            self._note("touch", self._index, 0, item.id, None, (now, run_id))
            return self._touch(item, now, run_id)

    def touches(self, item_id: str) -> int:
        """How often an item was touched."""
        return self._touches.get(item_id, 0)

    def remove(self, key: str) -> Item:
        """Take out the item under a key or an id, and return it. It is not recalled any more.

        Raises:
            KeyError: There is none.
        """
        with self._lock:
            item = self._require(key)
            self._discard(item.id, gone=True)
            return item

    @property
    def due(self) -> bool:
        """Whether an item may have expired."""
        return self._soonest <= self._wiring.now()

    def clear(self) -> None:
        """Forget every item."""
        with self._lock:
            for item_id in tuple(self._by_id):
                self._discard(item_id, gone=True)

    # --- within the package, under the lock -------------------------------------------------

    def _look_ahead(self) -> None:
        """Find out again when the next item expires."""
        deadlines = (item.expires_at for item in self._by_id.values())
        self._soonest = min((at for at in deadlines if at is not None), default=inf)

    def _require(self, key: str) -> Item:
        item = self._by_id.get(self._ids.get(key, key))
        if item is None:
            raise KeyError(f"no item {key!r} in {self.layer.value}")
        return item

    def _insert(self, item: Item) -> None:
        self._put(item)
        self._tally.added += item.tokens
        self._note("add", self._index, 0, None, item)

    def _discard(self, item_id: str, gone: bool = False) -> None:
        """Take an item out; where it is not ``gone`` for good, it can still be recalled."""
        self._remove(item_id, gone)
        self._note("remove", self._index, 0, item_id, None, gone or None)

    # --- the changes there are, and making them again ---------------------------------------

    def _put(self, item: Item) -> None:
        self._writes += 1
        self._by_id[item.id] = item
        if item.key is not None:
            self._ids[item.key] = item.id
        self._tally.tokens += item.tokens
        self._tally.items += 1
        if item.pinned:
            self._tally.pinned += item.tokens
        if item.expires_at is not None:
            self._soonest = min(self._soonest, item.expires_at)

    def _touch(self, item: Item, now: float, run_id: int | None) -> Item:
        touched = replace(item, last_used_at=now, run_id=run_id)
        self._by_id[item.id] = touched
        self._touches[item.id] = self._touches.get(item.id, 0) + 1
        return touched

    def _remove(self, item_id: str, gone: bool) -> None:
        self._writes += 1
        item = self._by_id.pop(item_id)
        self._leave(item.derived_from if gone else item.derived_from or (item_id,), not gone)
        self._touches.pop(item_id, None)
        if item.key is not None and self._ids.get(item.key) == item_id:
            del self._ids[item.key]
        self._tally.leave(item.tokens)
        if item.pinned:
            self._tally.pinned -= item.tokens

    def _leave(self, ids: Iterable[str], recallable: bool) -> None:
        if self._left_shared:
            self._left, self._left_shared = dict(self._left), False
        self._left.update(dict.fromkeys(ids, recallable))

    def _dump(self, _copied: Callable[[Any], Any]) -> Any:
        self._left_shared = True
        return tuple(self._by_id.values()), dict(self._touches), self._left

    def _load(self, state: Any, _copied: Callable[[Any], Any]) -> None:
        items, touches, *left = state
        for item_id in tuple(self._by_id):
            self._remove(item_id, gone=True)
        for item in items:
            self._put(item)
        self._touches = dict(touches)
        self._left = dict(*left)

    def _apply(self, op: str, place: int, key: Any, item: Item | None, extra: Any) -> None:
        if op == "add" and item is not None:
            self._put(item)
        elif op == "remove":
            self._remove(key, gone=bool(extra))
        elif op == "left":
            self._leave((key,), bool(extra))
        elif op == "touch":
            now, run_id = extra
            self._touch(self._by_id[key], float(now), run_id)
        else:
            raise ValueError(f"no change {op!r} of {self.layer.value}")

    def _changes(self) -> Iterator[Change]:
        for item in self._by_id.values():
            yield Change("add", self._index, 0, None, item)
            for _ in range(self._touches.get(item.id, 0)):
                yield Change(
                    "touch", self._index, 0, item.id, None, (item.last_used_at, item.run_id)
                )
        for item_id, recallable in self._left.items():
            yield Change("left", self._index, 0, item_id, None, recallable)

    def _recount(self) -> None:
        for item in self._by_id.values():
            tokens = self._wiring.count(item.content)
            if tokens != item.tokens:
                self._by_id[item.id] = replace(item, tokens=tokens)
        self._tally.tokens = sum(item.tokens for item in self._by_id.values())
        self._tally.items = len(self._by_id)
        self._tally.pinned = sum(item.tokens for item in self._by_id.values() if item.pinned)
