"""The conversation: messages in order, as the caller gave them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from ..messages import facts
from ..values import Item, Layer
from .base import BaseLayer, Change, Wiring
from .tally import Tally

_Chunk = tuple[tuple[Item, ...], tuple["Item | None", ...]]
_CHUNK = 256
"""Places of a history that snapshots share: each takes only the last of them anew."""


class View(NamedTuple):
    """What stands for a list of messages that the history adopted.

    Attributes:
        messages: To be sent: the list's own objects, except where a shorter form stands.
        items: The item of each.
        tokens: Of all of them.
    """

    messages: list[Any]
    items: list[Item]
    tokens: int


class History(BaseLayer):
    """Messages in order. Iterating yields messages; ``items`` yields their :class:`Item` forms.

    ``user_turns`` counts the users' messages that ever came in.

    Takes any provider's message form. A message is the caller's own object and is never
    copied or changed; to change one that is held, :meth:`replace` it.

    >>> from memtrace import Session
    >>> history = Session().history
    >>> history.append({"role": "user", "content": "hello"})
    >>> len(history), history.tokens > 3, history[0]["content"]
    (1, True, 'hello')
    """

    layer = Layer.CONVERSATION_HISTORY

    def __init__(self, wiring: Wiring, tally: Tally) -> None:
        super().__init__(wiring, tally)
        # Two parallel lists: what was received, and what stands for it in the view now (None
        # where it was dropped). `sync` compares against the first, everybody reads the second.
        self._received: list[Item] = []
        self._shown: list[Item | None] = []
        self.user_turns = 0
        self._writes = 0
        self._frozen: list[_Chunk] = []  # what snapshots share of both lists, from the beginning

    # --- reading ----------------------------------------------------------------------------

    @property
    def items(self) -> tuple[Item, ...]:
        with self._lock:
            return tuple(item for item in self._shown if item is not None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.messages())

    def __getitem__(self, index: int) -> Any:
        with self._lock:
            return self._shown[self._place(index)].content  # type: ignore[union-attr]

    def messages(self) -> list[Any]:
        """The messages of the view, in order, in a new list."""
        with self._lock:
            return [item.content for item in self._shown if item is not None]

    @property
    def received(self) -> tuple[Item, ...]:
        """The messages as they were received, in order, whatever stands for them in the view."""
        with self._lock:
            return tuple(self._received)

    def view_of(self, messages: Sequence[Any]) -> View | None:
        """What stands for a list that was adopted by :meth:`sync`, in one step.

        Returns:
            None: what the history holds is not this list (any more): another one was adopted
            since.

        >>> from memtrace import Session
        >>> history = Session().history
        >>> turn = [{"role": "user", "content": "one"}]
        >>> history.sync(turn)
        >>> history.view_of(turn).messages == turn, history.view_of([]) is None
        (True, True)
        """
        with self._lock:
            if len(messages) != len(self._received):
                return None
            if self._common_prefix(messages) != len(messages):
                return None
            view = View([], [], self._tally.tokens)
            for mine, received, shown in zip(messages, self._received, self._shown, strict=True):
                if shown is not None:
                    # An equal object is not the same one: a framework knows its own.
                    view.messages.append(mine if shown is received else shown.content)
                    view.items.append(shown)
            return view

    def common_prefix(self, messages: Sequence[Any]) -> int:
        """How many messages, from the first on, are those that the history received."""
        with self._lock:
            return self._common_prefix(messages)

    # --- writing ----------------------------------------------------------------------------

    def append(self, message: Any) -> None:
        """Take in one message.

        Raises:
            ConfigurationError: It is None, which is nobody's message form.
        """
        item = self._item(message)
        with self._lock:
            self._push(item)

    def extend(self, messages: Iterable[Any]) -> None:
        """Take in messages, in order and together."""
        new = [self._item(message) for message in messages]
        with self._lock:
            for item in new:
                self._push(item)

    def sync(self, messages: Sequence[Any]) -> None:
        """Adopt a list that is sent whole each turn.

        The longest common prefix with the messages as they were received stays as it is, what
        was replaced or dropped of it included; after the first difference the rest goes, and
        the list's own rest comes in. Only that rest is counted.

        >>> from memtrace import Session
        >>> history = Session().history
        >>> turn = [{"role": "user", "content": "one"}]
        >>> history.sync(turn)
        >>> history.sync([*turn, {"role": "assistant", "content": "two"}])
        >>> len(history)
        2
        """
        messages = list(messages)
        counted: dict[int, Item] = {}
        common, seen = 0, -1
        while True:
            with self._lock:
                if seen != self._writes:
                    common, seen = self._common_prefix(messages), self._writes
                new = range(common, len(messages))
                if all(index in counted for index in new):
                    self._truncate(common)
                    for index in new:
                        self._push(counted[index])
                    return
            # Counting is slow, so it is done outside the lock; then the prefix is looked at
            # again, if somebody wrote meanwhile.
            for index in new:
                if index not in counted:
                    counted[index] = self._item(messages[index])

    def replace(self, index: int, message: Any) -> None:
        """Put a message in the place of the one at ``index`` of the view.

        Raises:
            IndexError: There is none.
        """
        item = self._item(message)
        with self._lock:
            place = self._place(index)
            self._swap(place, item)
            self._tally.added += item.tokens
            self._note("swap", self._index, place, None, item)

    def pop(self, index: int = -1) -> Any:
        """Take out the message at ``index`` of the view, and return it.

        Raises:
            IndexError: There is none.
        """
        with self._lock:
            place = self._place(index)
            item = self._shown[place]
            self._delete(place)
            self._note("pop", self._index, place)
            return item.content  # type: ignore[union-attr]

    def clear(self) -> None:
        """Forget every message."""
        with self._lock:
            self._truncate(0)

    # --- within the package -----------------------------------------------------------------

    def _item(self, message: Any) -> Item:
        if message is None:
            raise ConfigurationError(
                "history takes messages, got None; for example {'role': 'user', 'content': 'hi'}"
            )
        wiring = self._wiring
        message = wiring.admit(message)
        run_id, agent = wiring.owner()
        now = wiring.now()
        told = facts(message)
        return Item(
            id=wiring.new_id("m"),
            layer=self.layer,
            kind=told.kind,
            content=message,
            tokens=wiring.count(message),
            created_at=now,
            last_used_at=now,
            agent=agent,
            run_id=run_id,
            facts=told,
        )

    def _push(self, item: Item) -> None:
        self._enter(item)
        self._tally.added += item.tokens
        self._note("push", self._index, 0, None, item)

    def _show(self, place: int, item: Item | None) -> None:
        """Show something else, or nothing, in a place. Called under the lock."""
        self._put(place, item)
        self._note("show", self._index, place, None, item)

    def _truncate(self, length: int) -> None:
        if length >= len(self._shown):
            return
        cut = self._shown[length] is None
        self._cut(length)
        self._note("cut", self._index, length)
        if cut:
            self._unfold()

    def _unfold(self) -> None:
        """Show again what was folded together with messages that are gone now.

        What comes next may answer a call among them.
        """
        place = len(self._shown)
        while place and self._shown[place - 1] is None:
            place -= 1
        if (
            place
            and (before := self._shown[place - 1]) is not None
            and len(before.derived_from) > 1
        ):
            place -= 1
        for index in range(place, len(self._shown)):
            self._show(index, self._received[index])

    # --- the five changes there are, and making them again ----------------------------------

    def _enter(self, item: Item) -> None:
        self._writes += 1
        self._received.append(item)
        self._shown.append(item)
        self._tally.tokens += item.tokens
        self._tally.items += 1
        if item.kind == "user":
            self.user_turns += 1

    def _put(self, place: int, item: Item | None) -> None:
        self._writes += 1
        self._thaw(place)
        before = self._shown[place]
        self._shown[place] = item
        if before is not None:
            self._tally.leave(before.tokens)
        if item is not None:
            self._tally.tokens += item.tokens
            self._tally.items += 1

    def _swap(self, place: int, item: Item) -> None:
        self._put(place, item)
        self._received[place] = item

    def _delete(self, place: int) -> None:
        self._put(place, None)
        del self._received[place], self._shown[place]

    def _cut(self, length: int) -> None:
        self._writes += 1
        self._thaw(length)
        for item in self._shown[length:]:
            if item is not None:
                self._tally.leave(item.tokens)
        del self._received[length:], self._shown[length:]

    def _apply(self, op: str, place: int, key: Any, item: Item | None, extra: Any) -> None:
        if op == "push" and item is not None:
            self._enter(item)
            return
        if not 0 <= place <= len(self._shown):
            raise ValueError(f"there is no place {place} in a history of {len(self._shown)}")
        if op == "show":
            self._put(place, item)
        elif op == "pop":
            self._delete(place)
        elif op == "cut":
            self._cut(place)
        elif op == "swap" and item is not None:
            self._swap(place, item)
        else:
            raise ValueError(f"no change {op!r} of a history")

    def _changes(self) -> Iterator[Change]:
        for place, (received, shown) in enumerate(zip(self._received, self._shown, strict=True)):
            yield Change("push", self._index, 0, None, received)
            if shown is not received:
                yield Change("show", self._index, place, None, shown)

    # --- reading back -----------------------------------------------------------------------

    def _place(self, index: int) -> int:
        """Position in the two lists of the message at ``index`` of the view."""
        if len(self._shown) == self._tally.items:
            places: Sequence[int] = range(len(self._shown))
        else:
            places = [place for place, item in enumerate(self._shown) if item is not None]
        try:
            return places[index]
        except IndexError:
            raise IndexError(f"no message {index} in a history of {len(places)}") from None

    def _common_prefix(self, messages: Sequence[Any]) -> int:
        # Mostly the list has only grown: comparing in one step is three times as fast.
        length = min(len(self._received), len(messages))
        ours = [item.content for item in self._received[:length]]
        if _equal(ours, messages[:length]):
            return length
        stored = self._wiring.stored
        for place, (held, theirs) in enumerate(zip(ours, messages, strict=False)):
            same = held is theirs or _equal(held, theirs)
            # What came from a store, or had a secret in it, is compared as it would be stored.
            if not same and not _equal(held, stored(theirs)):
                return place
        return length

    def _dump(self, _copied: Callable[[Any], Any]) -> Any:
        for start in range(len(self._frozen) * _CHUNK, len(self._shown) - _CHUNK + 1, _CHUNK):
            self._frozen.append(self._chunk(start, start + _CHUNK))
        return *self._frozen, self._chunk(len(self._frozen) * _CHUNK, len(self._shown))

    def _chunk(self, start: int, end: int) -> _Chunk:
        return tuple(self._received[start:end]), tuple(self._shown[start:end])

    def _thaw(self, place: int) -> None:
        """What is from this place on is no longer what snapshots have of it."""
        if place < len(self._frozen) * _CHUNK:
            del self._frozen[place // _CHUNK :]

    def _load(self, state: Any, _copied: Callable[[Any], Any]) -> None:
        self._cut(0)
        for received, shown in state:
            self._received += received
            self._shown += shown
        for item in self._shown:
            if item is not None:
                self._tally.tokens += item.tokens
                self._tally.items += 1

    def _recount(self) -> None:
        self._thaw(0)
        total = 0
        for place, item in enumerate(self._shown):
            if item is not None:
                tokens = self._wiring.count(item.content)
                if tokens != item.tokens:
                    counted = self._shown[place] = replace(item, tokens=tokens)
                    if self._received[place] is item:
                        self._received[place] = counted
                total += tokens
        self._tally.tokens = total
        self._tally.items = sum(item is not None for item in self._shown)


def _equal(ours: Any, theirs: Any) -> bool:
    """Equality of callers' objects, whose comparison may raise or return anything."""
    try:
        return bool(ours == theirs)
    except Exception:
        return False
