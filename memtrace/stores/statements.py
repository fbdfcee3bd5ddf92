"""What is said to SQLite: the statements by which sessions are written and read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import time
from typing import Any

from .asleep import AsleepError
from .base import Written
from .keeping import columns_of
from .log import chain_of, goes_back, id_of, key_of, latest, mark_of, stale
from .reading import Stored
from .rows import START
from .runs import COLUMNS, run_hash, run_values


class SQLiteLog:
    """The sessions that a connection reads.

    Args:
        connection: Of the database.
        name: Its path.
    """

    def __init__(self, connection: sqlite3.Connection, name: str = "") -> None:
        self._connection = connection
        self.name = name

    def entry(self, key: int) -> tuple[Any, Any, Any] | None:
        """Id, latest revision and hash of a session in the list of sessions."""
        found: tuple[Any, Any, Any] | None = self._connection.execute(
            "SELECT id, revision, hash FROM sessions WHERE key = ?", (key,)
        ).fetchone()
        return found

    def entries(self) -> Iterable[tuple[Any, Any]]:
        """Key and id of each session in that list."""
        return self._connection.execute("SELECT key, id FROM sessions")

    def keys(self) -> Iterable[int]:
        """Each key that the log has rows of, once."""
        return (key for (key,) in self._connection.execute(_KEYS))

    def revisions(self, key: int, upto: int) -> Iterator[int]:
        """Revisions that the log has rows of, the latest first; one may come again."""
        for (revision,) in self._connection.execute(
            "SELECT revision FROM log WHERE session = ? AND revision <= ?"
            " AND typeof(revision) = 'integer' ORDER BY revision DESC",
            (key, upto),
        ):
            yield revision

    def readable(self, key: int, upto: int) -> Iterator[int]:
        """The same, up to the first damaged page."""
        with _damaged_pages():
            yield from self.revisions(key, upto)

    def rows(self, key: int, upto: int) -> Iterator[Stored]:
        """The rows of a log in order, but for those that lie in damaged pages."""
        row: Stored | None = None
        with _damaged_pages():
            for row in self._connection.execute(f"{_ROWS} ORDER BY revision, place", (key, upto)):
                yield row
            return
        after = (row[0], row[1]) if row is not None else (0, 0)
        # The index tells which there are behind the damage: what was written since rests on none
        # of it.
        places: list[tuple[int, int]] = []
        with _damaged_pages():
            places += self._connection.execute(
                "SELECT revision, place FROM log WHERE session = ? AND revision <= ? AND place > 0"
                " AND (revision, place) > (?, ?) ORDER BY revision, place",
                (key, upto, *after),
            )
        for place in places:
            with _damaged_pages():
                yield from self._connection.execute(
                    f"{_ROWS} AND (revision, place) = (?, ?)", (key, upto, *place)
                )

    def head(self, key: int, revision: int) -> tuple[bytes, bytes] | None:
        """Payload and hash of a snapshot's head."""
        found: tuple[bytes, bytes] | None = None
        with _damaged_pages():
            found = self.row(key, revision, 0)
        return found

    def heads(self, key: int) -> Iterable[tuple[int, bytes, bytes]]:
        """Revision, payload and hash of each head, the latest first."""
        return self._connection.execute(
            "SELECT revision, payload, hash FROM log WHERE session = ? AND place = 0"
            " AND typeof(revision) = 'integer' ORDER BY revision DESC",
            (key,),
        )

    def row(self, key: int, revision: int, place: int) -> tuple[bytes, bytes] | None:
        """Payload and hash of a row."""
        found: tuple[bytes, bytes] | None = self._connection.execute(
            "SELECT payload, hash FROM log WHERE session = ? AND revision = ? AND place = ?",
            (key, revision, place),
        ).fetchone()
        return found

    def before(self, key: int, revision: int, place: int) -> bytes | None:
        """Hash of the row before it."""
        found = self._connection.execute(
            "SELECT hash FROM log WHERE session = ? AND place > 0"
            " AND (revision, place) < (?, ?) ORDER BY revision DESC, place DESC LIMIT 1",
            (key, revision, place),
        ).fetchone()
        return found[0] if found else None


_KEYS = """
    WITH RECURSIVE each(key) AS (
        SELECT min(session) FROM log
        UNION ALL
        SELECT (SELECT min(session) FROM log WHERE session > key) FROM each WHERE key IS NOT NULL
    )
    SELECT key FROM each WHERE key IS NOT NULL
"""
"""Each key in the log once, by as many steps in its index."""

_ROWS = (
    "SELECT revision, place, payload, hash FROM log"
    " WHERE session = ? AND revision <= ? AND place > 0"
)


@contextmanager
def _damaged_pages() -> Iterator[None]:
    """Pass over what SQLite itself cannot read: the hashes tell what is missing then."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # such as a full disk: no damage
            raise


# --- writing --------------------------------------------------------------------------------------


def claim(
    connection: sqlite3.Connection,
    session: str,
    key: int,
    known: int,
    revision: int,
    root: bytes | None = None,
) -> None:
    """Take the next revision of a session, if what its writer knows is the latest.

    Args:
        connection: Of the database.
        session: Its id.
        key: Its key.
        known: The revision that its writer knows.
        revision: The new one.
        root: The hash that the writer takes for the log's last: one that was deleted and begun
            anew may have come to the same revision. None: what is written rests on another.

    Raises:
        StaleSessionError: It is not.
    """
    name, mark = id_of(session), mark_of(session, revision)
    # One statement where all is as it should be; if not, a closer look tells why.
    values = revision, mark, time(), key, known, name, mark_of(session, known), key, known
    if connection.execute(_CLAIM, (*values, root, key, root)).rowcount:
        return
    if connection.execute(_ASLEEP, (key,)).fetchone():
        raise AsleepError(session)
    log = SQLiteLog(connection)
    found, _ = latest(log, session, key)
    if found != known or (root is not None and (log.before(key, known + 1, 0) or START) != root):
        raise stale(session, found, known)
    connection.execute(
        "INSERT INTO sessions (key, id, revision, hash, used_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET"
        " id = excluded.id, revision = excluded.revision, hash = excluded.hash,"
        " used_at = excluded.used_at",
        (key, name, revision, mark, time()),
    )


_ASLEEP = "SELECT 1 FROM sessions WHERE key = ? AND archived_at IS NOT NULL"

_CLAIM = """
    UPDATE sessions SET revision = ?, hash = ?, used_at = ?
    WHERE key = ? AND revision = ? AND id = ? AND hash = ?
    AND (SELECT max(revision) FROM log WHERE session = ?) = ?
    AND (? IS NULL OR (
        SELECT hash FROM log WHERE session = ? AND place > 0
        ORDER BY revision DESC, place DESC LIMIT 1
    ) = ?)
"""


def refuse_deleted(connection: sqlite3.Connection, session: str, key: int, known: int) -> None:
    """Take nothing of a writer that knows a session which is not there any more.

    Raises:
        StaleSessionError: It was deleted.
    """
    if (
        known
        and not connection.execute(
            "SELECT 1 FROM sessions WHERE key = ? AND revision > 0", (key,)
        ).fetchone()
    ):
        found, _ = latest(SQLiteLog(connection), session, key)
        if not found:
            raise stale(session, 0, known)


def put(connection: sqlite3.Connection, session: str, written: Written) -> bytes:
    """Write one write's rows; gives the root."""
    key = key_of(session)
    root = written.root
    if written.head is None:
        refuse_deleted(connection, session, key, written.revision)
    if written.head is not None:
        revision = written.revision + 1
        rows, root = chain_of(written)
        rests_on = None if goes_back(written) else written.root
        claim(connection, session, key, written.revision, revision, rests_on)
        connection.executemany(
            "INSERT INTO log (session, revision, place, payload, hash) VALUES (?, ?, ?, ?, ?)",
            [(key, revision, at, *rows[at]) for at in (*range(1, len(rows)), 0)],
        )
    if written.tags is not None:
        told, values = columns_of({"tags": written.tags}, "?")
        connection.execute(f"UPDATE sessions SET {told} WHERE key = ?", (*values, key))  # noqa: S608
    if written.runs:
        marks = ", ".join("?" * (len(COLUMNS) + 2))
        connection.executemany(
            f"INSERT INTO runs (session, {', '.join(COLUMNS)}, hash) VALUES ({marks})",  # noqa: S608
            [(key, *values, run_hash(key, values)) for values in map(run_values, written.runs)],
        )
    return root
