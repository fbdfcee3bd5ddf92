"""Changes as rows, and rows as changes again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, StoreDamagedError
from ..layers import Change
from ..values import Item, Layer, made_item

if TYPE_CHECKING:
    from ..stores import Head, Row, StoredItem
    from .journal import Journal

STEPS = -1
"""Layer of the changes that are no layer's: how far a session came with its steps."""


LET_GO = "memtrace.let_go"
"""Key of an item whose content was let go by retention."""


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as a session has them: each once, sorted.

    Raises:
        ConfigurationError: They are no texts, or one is empty.
    """
    given = [tags] if isinstance(tags, str) else list(tags)
    if not all(isinstance(tag, str) and tag for tag in given):
        raise ConfigurationError(f"tags are texts such as 'user:ann', got {tags!r}")
    return tuple(sorted(set(given)))


def row_of(row: type[Row], change: Change, revision: int) -> Row:
    """A change as it is stored with a revision: a `row`, whose class is loaded late."""
    op, layer, place, key, item, extra = change
    stored: StoredItem | None = None
    if item is not None:
        stored = (
            item.id,
            item.kind,
            item.content,
            item.tokens,
            item.pinned,
            item.priority,
            item.created_at,
            item.last_used_at,
            item.expires_at,
            item.agent,
            item.run_id,
            item.derived_from,
            item.key,
        )
    return row(op, layer, revision if layer == STEPS else place, key, stored, extra)


def item_of(stored: StoredItem, layer: Layer) -> Item:
    """An item as it was stored."""
    return made_item((stored[0], layer, *stored[1:], None))


def replay(layers: Sequence[Any], journal: Journal, rows: Iterable[Row], head: Head) -> None:
    """Make stored changes again in layers that hold nothing. Called under the lock.

    Raises:
        StoreDamagedError: A change does not fit what the ones before it left.
    """
    appliers = [(layer.layer, layer._apply) for layer in layers]
    try:
        for row in rows:
            index, op, stored = row.layer, row.op, row.item
            if index == STEPS:
                journal.told(op, row.key, row.extra, row.place)
            elif op != "goto":
                layer, apply = appliers[index]
                # Written out, not `item_of`: this is done for every row there is.
                item = stored and made_item((stored[0], layer, *stored[1:], None))
                apply(op, row.place, row.key, item, row.extra)
    except Exception as error:  # whatever a change that makes no sense leads to
        raise StoreDamagedError(f"snapshot {head.id} cannot be made again: {error}") from error
