"""A session's log without what is let go of: pure functions over its rows.

The log is a chain, so nothing is taken out of its middle. It is written anew: the oldest snapshot
that is kept becomes its beginning, with the changes that lead to it and rest on nothing. What is
let go of in them keeps its place, its tokens and its id, and says nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..journal import LET_GO
from ..stores.keeping import SINCE, Snapped
from ..stores.rows import START, Head, Row, StoredItem, chained, encode
from ..values import LAYERS, Layer

_CACHE, _AGENTS = LAYERS.index(Layer.CACHE), LAYERS.index(Layer.AGENT_STATES)
_HISTORY = LAYERS.index(Layer.CONVERSATION_HISTORY)
_GOTO = "goto"


@dataclass(frozen=True, slots=True)
class Slimmed:
    """A log written anew.

    Attributes:
        rows: Revision, place, payload and hash of every row, in order, heads first in each.
        snapshots: How many snapshots are not in it any more.
        items: How many items say nothing any more.
        items_bytes: What those items' content took, encoded.
        oldest_at: When the oldest of all that was taken or came; 0: nothing went.
        root: Hash of its last row.
        revision: Of the last snapshot, which is new: who knows the log as it was is stale.
    """

    rows: list[tuple[int, int, bytes, bytes]]
    snapshots: int
    items: int
    items_bytes: int
    oldest_at: float
    root: bytes
    revision: int


def held(rows: Iterable[Row]) -> set[str]:
    """Ids of the items that memory holds after these changes."""
    shown: list[str | None] = []
    others: dict[tuple[int, Any], str] = {}
    for row in rows:
        item = None if row.item is None else row.item[0]
        if row.layer == _HISTORY:
            _show(shown, row, item)
        elif row.op == "add" and item is not None:
            others[row.layer, _hashable(item)] = item
        elif row.op == "put" and item is not None:
            others[row.layer, _hashable(row.key)] = item
        elif row.op in ("remove", "drop"):
            others.pop((row.layer, _hashable(row.key)), None)
    return {item for item in shown if item is not None} | set(others.values())


def _show(shown: list[str | None], row: Row, item: str | None) -> None:
    if row.op == "push":
        shown.append(item)
    elif row.op in ("show", "swap"):
        shown[row.place] = item
    elif row.op == "pop":
        del shown[row.place]
    elif row.op == "cut":
        del shown[row.place :]


def _hashable(key: Any) -> Any:
    return repr(key)


def slim(
    snapshots: Sequence[Snapped],
    leading: Callable[[int], Sequence[Row]],
    *,
    keep_from: float,
    let_go_before: float | None,
) -> Slimmed | None:
    """The log without old snapshots and, if asked for, without what they alone held.

    Args:
        snapshots: All there are, in order.
        leading: Gives the changes that lead from nothing to the snapshot of a revision.
        keep_from: Seconds since the epoch; snapshots before it go, but for the newest.
        let_go_before: The same, for items that the first kept snapshot does not hold; None: they
            all stay.

    Returns:
        None where nothing would go.
    """
    kept = first_kept(snapshots, keep_from)
    gone = snapshots[: len(snapshots) - len(kept)]
    base, last = kept[0].revision, kept[-1]
    new = last.revision + 1  # who knows the log as it was is stale from now on
    written = _Written(held(leading(base)), let_go_before, new if len(kept) == 1 else base)
    for snapped in kept if len(kept) > 1 else ():
        rows: Iterable[Row] = snapped.rows
        if snapped.revision == base or _behind(snapped, base):
            rows = written.anew(leading(snapped.revision))
        written.add(snapped.revision, snapped.head, rows)
    if len(kept) == 1:
        written.add(new, last.head, written.anew(leading(base)))
    if not gone and not written.items:
        return None
    if len(kept) > 1:
        name = f"retention-{new}"
        written.add(new, msgspec.structs.replace(last.head, id=name, name="retention"), ())
    oldest = [snapped.head.created_at for snapped in gone[:1]]
    oldest += [written.oldest_at] if written.items else []
    return Slimmed(
        written.rows,
        len(gone),
        len(written.items),
        written.items_bytes,
        min(oldest),
        written.root,
        new,
    )


def _behind(snapped: Snapped, base: int) -> bool:
    """Whether a snapshot rests on one that goes."""
    first = next(iter(snapped.rows), None)
    return first is not None and first.op == _GOTO and first.place < base


def first_kept(snapshots: Sequence[Snapped], keep_from: float) -> Sequence[Snapped]:
    """The snapshots from the first that is not too old; the newest at least."""
    for at, snapped in enumerate(snapshots):
        if snapped.head.created_at >= keep_from:
            return snapshots[at:]
    return snapshots[-1:]


def settled(rows: Sequence[Row]) -> list[Row]:
    """The same changes without agents' states and cached values that later ones replaced."""
    last: dict[tuple[int, str], Row] = {}
    others: list[Row] = []
    for row in rows:
        if row.layer not in (_CACHE, _AGENTS) or row.op == _GOTO:
            if row.op != _GOTO:
                others.append(row)
            continue
        name = row.layer, _hashable(row.key)
        if row.op in ("drop", "leave"):
            last.pop(name, None)
        else:
            last[name] = row
    return [*others, *last.values()]


class _Written:
    """The log as it is written, a snapshot after the other."""

    def __init__(self, present: set[str], before: float | None, since: int) -> None:
        self._present = present
        self._before = before
        self._since = since
        self._roots: dict[int, bytes] = {}
        self.root = START
        self.rows: list[tuple[int, int, bytes, bytes]] = []
        self.items: set[str] = set()
        self.items_bytes = 0
        self.oldest_at = 0.0

    def anew(self, rows: Sequence[Row]) -> Iterable[Row]:
        """Changes that lead from nothing to a snapshot, resting on nothing."""
        return [Row(_GOTO), *self._blank(settled(rows))]

    def add(self, revision: int, head: Head, rows: Iterable[Row]) -> None:
        """Put in a snapshot, with hashes that rest on what is before it."""
        payloads: list[tuple[bytes, bytes]] = []
        root = self.root
        for row in rows:
            if row.op == _GOTO:
                root = self._roots.get(row.place, START)
            payload = encode(row)[0]
            root = chained(root, payload)
            payloads.append((payload, root))
        self.root = self._roots[revision] = root
        facts = {**head.facts, SINCE: self._since}
        new = msgspec.structs.replace(head, rows=len(payloads), root=root, facts=facts)
        told = encode(new)[0]
        payloads.insert(0, (told, chained(root, told)))
        self.rows += [(revision, place, *row) for place, row in enumerate(payloads)]

    def _blank(self, rows: Iterable[Row]) -> Iterable[Row]:
        """The same rows; items that are let go of say nothing in them."""
        for row in rows:
            item = row.item
            if item is None or not self._goes(item):
                yield row
                continue
            self.items.add(item[0])
            self.items_bytes += len(encode(item[2])[0])
            self.oldest_at = min(self.oldest_at or item[6], item[6])
            yield msgspec.structs.replace(row, item=let_go(item, row.layer))

    def _goes(self, item: StoredItem) -> bool:
        if self._before is None or item[0] in self._present or item[4]:
            return False
        return item[6] < self._before and item[12] != LET_GO


def let_go(item: StoredItem, layer: int) -> StoredItem:
    """What stays of an item: its id, its kind, its tokens and times, and what it stood for.

    Of a message a plain one is left, without calls or results: were it ever shown again, a
    provider would take it.
    """
    role = "user" if item[1] == "user" else "assistant"
    content: Any = {"role": role, "content": ""} if layer == _HISTORY else ""
    return (item[0], item[1], content, item[3], False, *item[5:12], LET_GO)
