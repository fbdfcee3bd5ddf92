"""Changes as rows, and rows as changes again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from ..layers import Change
from ..values import Item, Layer

if TYPE_CHECKING:
    from ..stores import Head, Row, StoredItem
    from .journal import Journal

STEPS = -1
"""Layer of the changes that are no layer's: how far a session came with its steps."""


def row_of(change: Change, revision: int) -> Row:
    """A change as it is stored with a revision."""
    from ..stores import Row, StoredItem

    op, layer, place, key, item, extra = change
    stored = None
    if item is not None:
        stored = StoredItem(
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
    return Row(op, layer, revision if layer == STEPS else place, key, stored, extra)


def item_of(stored: StoredItem, layer: Layer) -> Item:
    """An item as it was stored."""
    return Item(
        stored.id,
        layer,
        stored.kind,
        stored.content,
        stored.tokens,
        stored.pinned,
        stored.priority,
        stored.created_at,
        stored.last_used_at,
        stored.expires_at,
        stored.agent,
        stored.run_id,
        stored.derived_from,
        stored.key,
    )


def replay(layers: Sequence[Any], journal: Journal, rows: Iterable[Row], head: Head) -> None:
    """Make stored changes again in layers that hold nothing. Called under the lock.

    Raises:
        StoreError: A change does not fit what the ones before it left.
    """
    try:
        for row in rows:
            if row.layer == STEPS:
                journal.told(row.op, row.key, row.extra, row.place)
            elif row.op != "goto":
                layer = layers[row.layer]
                item = item_of(row.item, layer.layer) if row.item is not None else None
                layer._apply(row.op, row.place, row.key, item, row.extra)
    except (LookupError, TypeError, ValueError) as error:
        raise StoreError(f"snapshot {head.id} cannot be made again: {error}") from error
