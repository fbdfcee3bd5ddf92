"""Reading all of a SQLite store, to tell what of it is damaged."""

from __future__ import annotations

import sqlite3

from ..errors import StoreDamagedError, StoreError
from .base import Damage, Verification
from .reading import Chain, read_head
from .runs import COLUMNS, run_from
from .statements import head_of, latest, listed, read, revisions


def check(connection: sqlite3.Connection) -> Verification:
    """What a store holds, and what of it is damaged: pages, hashes, roots, references."""
    damages = [Damage("", "database", text) for text in _integrity(connection)]
    snapshots = rows = 0
    try:
        names, lost = listed(connection)
    except sqlite3.DatabaseError as error:
        return Verification(0, 0, 0, (*damages, Damage("", "database", str(error))))
    damages += lost
    for key, name in names.items():
        last, strange = latest(connection, name, key)
        damages += [Damage(name, "session", text) for text in strange]
        chain = read(connection, key, last)
        rows += sum(chain.mark(revision).size for revision in chain.marks)
        damages += [Damage(name, f"snapshot {r}", text) for r, text in chain.damages.items()]
        after = last + 1
        for revision in (*revisions(connection, key, last), 0):
            if revision < after - 1:
                damages.append(
                    Damage(name, f"snapshots {revision + 1} to {after - 1}", "they are missing")
                )
            after = revision
            snapshots += revision > 0
            if not revision or revision in chain.damages:
                continue
            try:
                read_head(chain, revision, head_of(connection, key, revision))
            except StoreDamagedError as error:
                damages.append(Damage(name, f"snapshot {revision}", str(error)))
        damages += _references(chain, name)
    damages += _runs(connection, names)
    return Verification(len(names), snapshots, rows, tuple(damages))


def _integrity(connection: sqlite3.Connection) -> list[str]:
    try:
        found = [text for (text,) in connection.execute("PRAGMA integrity_check(20)")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def _references(chain: Chain, name: str) -> list[Damage]:
    """Items that stand for others which the log does not have."""
    there = {row.item[0] for row in chain.rows if row.item is not None}
    return [
        Damage(name, f"item {row.item[0]}", f"it stands for {source}, which is not there")
        for row in chain.rows
        if row.item is not None
        for source in row.item[11]
        if source not in there
    ]


def _runs(connection: sqlite3.Connection, names: dict[int, str]) -> list[Damage]:
    damages: list[Damage] = []
    try:
        for key, *row in connection.execute(
            f"SELECT session, {', '.join(COLUMNS)}, hash FROM runs"  # noqa: S608
        ):
            try:
                run_from(key, row)
            except StoreError as error:
                damages.append(Damage(names.get(key, ""), "run log", str(error)))
    except sqlite3.DatabaseError as error:
        damages.append(Damage("", "run log", str(error)))
    return damages
