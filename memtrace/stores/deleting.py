"""What the embedded store can do about what it keeps: tell of it, let it go, free its space."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from .keeping import (
    Kept,
    Past,
    columns_of,
    cut_off,
    finish,
    head_time,
    name_of,
    past,
    tags_of,
    written_since,
)
from .log import id_of, key_of, latest, mark_of
from .reading import Stored
from .runs import COLUMNS
from .statements import SQLiteLog

if TYPE_CHECKING:
    from .sqlite import SQLiteStore

_FEW = 500
"""Rows read at a time: others write between them."""


class SQLiteUpkeep:
    """The upkeep of one SQLite database.

    Args:
        store: Its store.
    """

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    # --- what there is ------------------------------------------------------------------------

    def kept(self) -> list[Kept]:
        """Every session, and each that only the run log has."""
        with self._store._reading() as connection:
            logs = _by_key(connection, _LOGS)
            chunks = _by_key(connection, _CHUNKS)
            runs = _by_key(connection, _RUNS + _BY_KEY)
            texts = _by_key(connection, _TEXTS) if _has_words(connection) else {}
            found = [
                _kept(connection, row, logs, chunks, runs.pop(row[0], (0, 0, 0.0)), texts)
                for row in connection.execute(_SESSIONS).fetchall()
                if name_of(*row[:2]) is not None
            ]
        loose = [
            Kept("", key, 0, runs=n, runs_bytes=b, runs_from=at) for key, (n, b, at) in runs.items()
        ]
        return found + loose

    def due(self, now: float, every_s: float) -> int:
        """How many sessions are past their review."""
        with self._store._reading() as connection:
            rows = connection.execute(_SESSIONS).fetchall()
            return sum(
                _kept(connection, row, {}, {}, (0, 0, 0.0), {}).review_due(now, every_s)
                for row in rows
                if row[5] is None or row[5] / 1e9 + every_s < now
            )

    def find(self, session: str) -> Kept | None:
        """One session; None: there is none of that id. What it takes is not told."""
        with self._store._reading() as connection:
            row = connection.execute(f"{_SESSIONS} WHERE key = ?", (key_of(session),)).fetchone()
            return row and _kept(connection, row, {}, {}, (0, 0, 0.0), {})

    def past(self, session: str) -> Past | None:
        """All of a session's log; None: there is none."""
        if self.find(session) is None:
            return None
        return past(self._store.archives.rows(session), session, self._store.name)

    def runs(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """Rows of the whole run log in order, each with its session's key, a few at a time."""
        after = 0
        while True:
            with self._store._reading() as connection:
                rows = connection.execute(
                    f"SELECT seq, session, {', '.join(COLUMNS)}, hash FROM runs WHERE seq > ?"  # noqa: S608
                    " ORDER BY seq LIMIT ?",
                    (after, _FEW),
                ).fetchall()
            for seq, key, *row in rows:
                yield key, row
                after = seq
            if len(rows) < _FEW:
                return

    def texts(self, session: str) -> Iterator[tuple[str, float, int, int, str]]:
        """Its index: item, when that was made, start, stop, and the words."""
        after = 0
        while True:
            with self._store._reading() as connection:
                said = "said" if _has_words(connection) else "''"
                joined = "LEFT JOIN words ON words.rowid = passages.seq" if said == "said" else ""
                rows = connection.execute(
                    f"SELECT seq, number, item, created_at, start, stop, {said} FROM passages"  # noqa: S608
                    f" JOIN recalls ON number = recall {joined}"
                    " WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?",
                    (key_of(session), after, _FEW),
                ).fetchall()
            for seq, number, item, created_at, start, stop, words in rows:
                yield item, created_at, start, stop, _unprefixed(words or "", number)
                after = seq
            if len(rows) < _FEW:
                return

    # --- letting go ---------------------------------------------------------------------------

    def delete(self, session: str, known: int | None = None) -> int:
        """Delete all there is of a session; gives how many rows went."""
        key = key_of(session)
        with self._changing() as connection, _transaction(connection):
            found, _ = latest(SQLiteLog(connection), session, key)
            if known is not None and found != known:
                raise written_since(session, found, known)
            cold = connection.execute("SELECT cold FROM sessions WHERE key = ?", (key,)).fetchone()
            gone = _drop_index(connection, key)
            for table in ("log", "runs", "chunks"):
                gone += connection.execute(
                    f"DELETE FROM {table} WHERE session = ?",  # noqa: S608
                    (key,),
                ).rowcount
            if cold and cold[0]:  # nobody's, until its copies are gone as well
                connection.execute(
                    "UPDATE sessions SET id = x'', revision = 0, hash = x'', archived_at = NULL,"
                    " used_at = NULL, tags = '[]', pinned = 0, reviewed_at = NULL WHERE key = ?",
                    (key,),
                )
            else:
                gone += connection.execute("DELETE FROM sessions WHERE key = ?", (key,)).rowcount
        self.finish()
        return gone

    def finish(self) -> None:
        """Delete the cold copies of sessions that are deleted."""
        with self._store._reading() as connection:
            left = connection.execute(
                "SELECT key, cold FROM sessions WHERE id = x'' AND cold IS NOT NULL"
            ).fetchall()
        for key, url in left:
            finish(url)
            with self._changing() as connection, _transaction(connection):
                connection.execute(
                    "DELETE FROM sessions WHERE key = ? AND id = x'' AND cold = ?", (key, url)
                )

    def rewrite(
        self, session: str, known: int, rows: Sequence[Stored], root: bytes, used_at: float
    ) -> None:
        """Have a session's log be these rows."""
        key, new = key_of(session), rows[-1][0]
        with self._changing() as connection, _transaction(connection):
            found, _ = latest(SQLiteLog(connection), session, key)
            if found != known:
                raise written_since(session, found, known)
            for table in ("log", "chunks"):  # it may have been put away since
                connection.execute(f"DELETE FROM {table} WHERE session = ?", (key,))  # noqa: S608
            connection.executemany(
                "INSERT INTO log (session, revision, place, payload, hash) VALUES (?, ?, ?, ?, ?)",
                [(key, *row) for row in rows],
            )
            connection.execute(
                "UPDATE sessions SET revision = ?, hash = ?, used_at = ?, archived_at = NULL"
                " WHERE key = ?",
                (new, mark_of(session, new), used_at, key),
            )

    def old_runs(self, before: float) -> dict[int, tuple[int, int, float]]:
        """Rows of the run log that began earlier: by key how many, bytes, when the oldest did."""
        with self._store._reading() as connection:
            rows = connection.execute(f"{_RUNS} WHERE started_at < ?{_BY_KEY}", (before,))
            return {key: (count, size, at) for key, count, size, at in rows}

    def drop_runs(self, key: int, before: float) -> int:
        """Delete a session's rows of the run log that began earlier; gives how many."""
        with self._changing() as connection, _transaction(connection):
            gone = connection.execute(
                "DELETE FROM runs WHERE session = ? AND started_at < ?", (key, before)
            )
        return int(gone.rowcount)

    def drop_index(self, session: str) -> int:
        """Delete a session's index; gives how many texts it had."""
        with self._changing() as connection, _transaction(connection):
            return _drop_index(connection, key_of(session))

    def note(self, session: str, **columns: Any) -> bool:
        """Set ``tags``, ``pinned`` or ``reviewed_at`` of a session; whether it is there."""
        told, values = columns_of(columns, "?")
        with self._changing() as connection, _transaction(connection):
            return bool(
                connection.execute(
                    f"UPDATE sessions SET {told} WHERE key = ? AND id = ?",  # noqa: S608
                    (*values, key_of(session), id_of(session)),
                ).rowcount
            )

    def vacuum(self) -> None:
        """Give back the space of what was deleted, so that no file has any of it.

        Raises:
            StoreError: Another process reads all the while; what was deleted is in the
                write-ahead log still.
        """
        with self._changing() as connection:
            if _has_words(connection):  # what was deleted of it is only marked as such
                connection.execute("INSERT INTO words (words) VALUES ('optimize')")
            connection.execute("VACUUM")
            if not self._store.durable:
                return
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise StoreError(
                f"{self._store.name} is being read, so what was deleted is in {self._store.name}"
                "-wal still; vacuum it again when the readers are done"
            )

    def _changing(self) -> Any:
        self._store._refuse_damaged()
        return self._store._reading()


def _transaction(connection: sqlite3.Connection) -> Any:
    from .sqlite import _transaction as transaction

    return transaction(connection)


_SESSIONS = (
    "SELECT key, id, revision, tags, pinned, reviewed_at, used_at, archived_at, cold FROM sessions"
)
_LOGS = "SELECT session, sum(length(payload) + length(hash)) FROM log GROUP BY session"
_CHUNKS = "SELECT session, sum(packed_bytes) FROM chunks GROUP BY session"
_RUNS = (
    "SELECT session, count(*), sum(length(actions) + length(hash) + 120), min(started_at) FROM runs"
)
_BY_KEY = " GROUP BY session"
_TEXTS = (
    "SELECT session, count(*), sum(length(item) + 32 + coalesce(length(said), 0)) FROM recalls"
    " JOIN passages ON recall = number LEFT JOIN words ON words.rowid = passages.seq"
    " GROUP BY session"
)


def _by_key(connection: sqlite3.Connection, statement: str) -> dict[int, tuple[Any, ...]]:
    return {key: tuple(rest) for key, *rest in connection.execute(statement)}


def _kept(
    connection: sqlite3.Connection,
    row: Sequence[Any],
    logs: dict[int, tuple[Any, ...]],
    chunks: dict[int, tuple[Any, ...]],
    runs: tuple[Any, ...],
    texts: dict[int, tuple[Any, ...]],
) -> Kept:
    key, name, revision, tags, pinned, reviewed_at, used_at, archived_at, cold = row
    first, last = (
        head_time(connection.execute(f"{_HEAD} {which} LIMIT 1", (key,)).fetchone())
        for which in ("ASC", "DESC")
    )
    texts_count, texts_bytes = texts.get(key, (0, 0))
    return Kept(
        session=name_of(key, name) or "",
        key=key,
        revision=revision,
        tags=tags_of(tags),
        pinned=bool(pinned),
        reviewed_at=None if reviewed_at is None else reviewed_at / 1e9,
        began_at=first or used_at or 0.0,
        used_at=used_at or last,
        bytes=logs.get(key, (0,))[0] + chunks.get(key, (0,))[0],
        runs=runs[0],
        runs_bytes=runs[1],
        runs_from=runs[2],
        texts=texts_count,
        texts_bytes=texts_bytes,
        archived_at=archived_at,
        cold=cold,
    )


_HEAD = "SELECT payload, hash FROM log WHERE session = ? AND place = 0 ORDER BY revision"


def _has_words(connection: sqlite3.Connection) -> bool:
    """Whether anything was ever indexed: the table of words is made with the first."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone()
    return found is not None


def _drop_index(connection: sqlite3.Connection, key: int) -> int:
    found = connection.execute("SELECT number FROM recalls WHERE session = ?", (key,)).fetchone()
    if found is None:
        return 0
    if _has_words(connection):
        connection.execute(
            "DELETE FROM words WHERE rowid IN (SELECT seq FROM passages WHERE recall = ?)", found
        )
    gone = connection.execute("DELETE FROM passages WHERE recall = ?", found).rowcount
    connection.execute("DELETE FROM recalls WHERE number = ?", found)
    return gone


def _unprefixed(words: str, number: int) -> str:
    """The words without the number that each begins with."""
    return cut_off(words, f"{number}q")
