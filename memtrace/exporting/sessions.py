"""All that is kept about one session, or about one user's, in one file of JSON Lines."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import StoreDamagedError
from ..files import written
from ..retaining import choose, opened_store
from ..values import LAYERS
from .plain import line

if TYPE_CHECKING:
    from ..stores import Store
    from ..stores.keeping import Kept

FORM = 1
"""Of the file; a later one has a larger number."""

_ITEM = (
    "id",
    "kind",
    "content",
    "tokens",
    "pinned",
    "priority",
    "created_at",
    "last_used_at",
    "expires_at",
    "agent",
    "run_id",
    "derived_from",
    "key",
)


def export_sessions(
    store: Any, path: str | os.PathLike[str], *ids: str, tag: str | None = None
) -> int:
    """Write all that is kept about sessions to one file of JSON Lines.

    The first line is of the record ``export``, the last of ``end`` with the number of lines
    between. Between them, session by session: ``session`` (its tags, pin, review, where it is),
    ``snapshot`` and ``change`` (what its memory is read back from, originals included, archived
    or not), ``run`` (a row of the run log), ``text`` (words by which an item is found). Times are
    seconds since the epoch.

    Args:
        store: A path, an address or a store, as :meth:`Session.open` takes.
        path: The file. It takes its name when it is whole; what was there before stays till then.
        *ids: The sessions'.
        tag: And all that have this tag; None: no others.

    Returns:
        How many sessions are in it.

    Raises:
        ConfigurationError: No session is named, or the file cannot be written.
        StoreError: There is none of an id, or something of it cannot be read.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from memtrace import Session
    >>> folder = tempfile.mkdtemp()
    >>> with Session.open("support-42", store=f"{folder}/memory.db", tags=["user:ann"]) as session:
    ...     session.history.append({"role": "user", "content": "hello"})
    >>> export_sessions(f"{folder}/memory.db", f"{folder}/ann.jsonl", tag="user:ann")
    1
    >>> "hello" in Path(f"{folder}/ann.jsonl").read_text()
    True
    """
    opened = opened_store(store)
    chosen = choose(opened, ids, tag)
    keys = {kept.key for kept in chosen}
    lines = 0
    with written(os.fspath(path)) as file:
        names = [kept.session for kept in chosen]
        head = {"record": "export", "form": FORM, "memtrace": __version__, "store": opened.name}
        file.write(line({**head, "made_at": time.time(), "tag": tag, "sessions": names}))
        for kept in chosen:
            for record in _session(opened, kept):
                file.write(line(record))
                lines += 1
        for record in _runs(opened, keys, {kept.key: kept.session for kept in chosen}):
            file.write(line(record))
            lines += 1
        file.write(line({"record": "end", "lines": lines}))
    return len(chosen)


def _session(store: Store, kept: Kept) -> Iterator[dict[str, Any]]:
    yield {
        "record": "session",
        "session": kept.session,
        "tags": kept.tags,
        "pinned": kept.pinned,
        "reviewed_at": kept.reviewed_at,
        "used_at": kept.used_at,
        "archived_at": kept.archived_at,
        "cold": kept.cold,
        "revision": kept.revision,
    }
    for revision, place, payload, _ in store.archives.rows(kept.session):
        of = {"session": kept.session, "revision": revision}
        yield {**of, **(_change(place, payload) if place else _snapshot(payload))}
    for item, created_at, start, stop, words in store.upkeep.texts(kept.session):
        yield {
            "record": "text",
            "session": kept.session,
            "item": item,
            "created_at": created_at,
            "start": start,
            "stop": stop,
            "words": words,
        }


def _snapshot(payload: bytes) -> dict[str, Any]:
    from ..stores.rows import decode_head

    try:
        head = decode_head(payload)
    except StoreDamagedError:
        return {"record": "damaged", "bytes": bytes(payload)}
    return {
        "record": "snapshot",
        "id": head.id,
        "name": head.name,
        "created_at": head.created_at,
        "tokens": head.tokens,
        "items": head.items,
        "facts": head.facts,
    }


def _change(place: int, payload: bytes) -> dict[str, Any]:
    from ..stores.rows import decode_row

    try:
        row = decode_row(payload)
    except StoreDamagedError:
        return {"record": "damaged", "bytes": bytes(payload)}
    told: dict[str, Any] = {"record": "change", "place": place, "op": row.op}
    told["layer"] = LAYERS[row.layer].value if 0 <= row.layer < len(LAYERS) else None
    told["at"], told["key"], told["extra"] = row.place, row.key, row.extra
    told["item"] = None if row.item is None else dict(zip(_ITEM, row.item, strict=True))
    return told


def _runs(store: Store, keys: set[int], names: dict[int, str]) -> Iterator[dict[str, Any]]:
    from ..stores.runs import COLUMNS

    for key, row in store.upkeep.runs():
        if key in keys:
            yield {
                "record": "run",
                "session": names[key],
                **dict(zip(COLUMNS, row, strict=False)),  # without its hash
            }
