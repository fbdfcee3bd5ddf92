"""What a store in PostgreSQL can do about what it keeps: tell of it, let it go, free its space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.types.numeric import Int8

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
from .postgres_log import PostgresLog
from .postgres_pool import Connection
from .postgres_schema import said
from .reading import Stored
from .runs import COLUMNS

if TYPE_CHECKING:
    from .postgres import PostgresStore

T = TypeVar("T")

_FEW = 500
"""Rows read at a time."""


class PostgresUpkeep:
    """The upkeep of one schema.

    Args:
        store: Its store.
    """

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._schema = store._schema

    def _all(self, connection: Connection, statement: str, *values: Any) -> list[Any]:
        return connection.execute(said(statement, self._schema), values, binary=True).fetchall()

    def _gone(self, connection: Connection, statement: str, *values: Any) -> int:
        return connection.execute(said(statement, self._schema), values).rowcount

    def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        return self._store._pool.run(lambda connection: call(connection, *arguments))

    # --- what there is ------------------------------------------------------------------------

    def kept(self) -> list[Kept]:
        """Every session, and each that only the run log has."""

        def work(connection: Connection) -> list[Kept]:
            with connection.transaction():
                sizes = {
                    name: {key: tuple(rest) for key, *rest in self._all(connection, statement)}
                    for name, statement in _SIZES.items()
                }
                rows = self._all(connection, _SESSIONS)
            runs = sizes["runs"]
            found = [
                _kept(row, sizes, runs.pop(row[0], (0, 0, 0.0)))
                for row in rows
                if name_of(*row[:2]) is not None
            ]
            return found + [
                Kept("", key, 0, runs=n, runs_bytes=b, runs_from=at)
                for key, (n, b, at) in runs.items()
            ]

        return self._store._pool.run(work)

    def due(self, now: float, every_s: float) -> int:
        """How many sessions are past their review."""
        rows = self._store._pool.run(lambda connection: self._all(connection, _SESSIONS))
        return sum(_kept(row, {}, (0, 0, 0.0)).review_due(now, every_s) for row in rows)

    def find(self, session: str) -> Kept | None:
        """One session; None: there is none of that id. What it takes is not told."""
        rows = self._store._pool.run(
            lambda c: self._all(c, f"{_SESSIONS} WHERE key = %s", Int8(key_of(session)))
        )
        return _kept(rows[0], {}, (0, 0, 0.0)) if rows else None

    def past(self, session: str) -> Past | None:
        """All of a session's log; None: there is none."""
        if self.find(session) is None:
            return None
        return past(self._store.archives.rows(session), session, self._store.name)

    def runs(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """Rows of the whole run log in order, each with its session's key, a few at a time."""
        for key, *row in self._pages(
            f"SELECT seq, session, {', '.join(COLUMNS)}, hash"  # noqa: S608
            " FROM {s}.runs WHERE seq > %s"
        ):
            yield key, row

    def texts(self, session: str) -> Iterator[tuple[str, float, int, int, str]]:
        """Its index: item, when that was made, start, stop, and the stems of the words."""
        statement = (
            "SELECT seq, number, item, created_at, start, stop,"
            " array_to_string(tsvector_to_array(said), E'\\n')"
            " FROM {s}.passages JOIN {s}.recalls ON number = recall WHERE seq > %s AND session = %s"
        )
        for number, item, created_at, start, stop, words in self._pages(
            statement, Int8(key_of(session))
        ):
            name = bytes(item).decode("utf-8", "surrogatepass")
            stems = [cut_off(word, f"{number} ") for word in words.split("\n")]
            yield name, created_at, start, stop, " ".join(stems)

    def _pages(self, statement: str, *values: Any) -> Iterator[Sequence[Any]]:
        after = 0
        while True:
            page = f"{statement} ORDER BY seq LIMIT {_FEW}"
            rows = self._run(self._all, page, Int8(after), *values)
            for after, *row in rows:  # noqa: B007  (where the next page begins)
                yield row
            if len(rows) < _FEW:
                return

    # --- letting go ---------------------------------------------------------------------------

    def delete(self, session: str, known: int | None = None) -> int:
        """Delete all there is of a session; gives how many rows went."""
        key = Int8(key_of(session))

        def work(connection: Connection) -> int:
            with connection.transaction():
                cold = self._hold(connection, session, known)
                gone = _drop_index(self, connection, key)
                for table in ("log", "runs", "chunks"):
                    statement = f"DELETE FROM {{s}}.{table} WHERE session = %s"  # noqa: S608
                    gone += self._gone(connection, statement, key)
                if cold:  # nobody's, until its copies are gone as well
                    self._gone(connection, _DISOWN, key)
                    return gone
                return gone + self._gone(connection, "DELETE FROM {s}.sessions WHERE key = %s", key)

        gone = self._store._pool.run(work)
        self.finish()
        return gone

    def _hold(self, connection: Connection, session: str, known: int | None) -> str | None:
        """Have nobody write a session for the rest of the transaction; gives its cold address."""
        key = key_of(session)
        rows = self._all(
            connection, "SELECT cold FROM {s}.sessions WHERE key = %s FOR UPDATE", Int8(key)
        )
        found, _ = latest(PostgresLog(connection, self._schema), session, key)
        if known is not None and found != known:
            raise written_since(session, found, known)
        return rows[0][0] if rows else None

    def finish(self) -> None:
        """Delete the cold copies of sessions that are deleted."""
        left = self._store._pool.run(lambda connection: self._all(connection, _DISOWNED))
        for key, url in left:
            finish(url)
            self._run(self._gone, _DROP_DISOWNED, Int8(key), url)

    def rewrite(
        self, session: str, known: int, rows: Sequence[Stored], root: bytes, used_at: float
    ) -> None:
        """Have a session's log be these rows."""
        key, new = Int8(key_of(session)), rows[-1][0]

        def work(connection: Connection) -> None:
            with connection.transaction():
                self._hold(connection, session, known)
                for table in ("log", "chunks"):  # it may have been put away since
                    self._gone(connection, f"DELETE FROM {{s}}.{table} WHERE session = %s", key)  # noqa: S608
                revisions, places, payloads, hashes = map(list, zip(*rows, strict=True))
                self._gone(connection, _PUT, key, revisions, places, payloads, hashes)
                self._gone(
                    connection,
                    "UPDATE {s}.sessions SET revision = %s, hash = %s, root = %s, used_at = %s,"
                    " archived_at = NULL WHERE key = %s",
                    Int8(new),
                    mark_of(session, new),
                    root,
                    used_at,
                    key,
                )

        self._store._pool.run(work)

    def old_runs(self, before: float) -> dict[int, tuple[int, int, float]]:
        """Rows of the run log that began earlier: by key how many, bytes, when the oldest did."""
        statement = f"{_RUNS} WHERE started_at < %s{_BY_KEY}"
        rows = self._store._pool.run(lambda connection: self._all(connection, statement, before))
        return {key: (count, size, at) for key, count, size, at in rows}

    def drop_runs(self, key: int, before: float) -> int:
        """Delete a session's rows of the run log that began earlier; gives how many."""
        statement = "DELETE FROM {s}.runs WHERE session = %s AND started_at < %s"
        return self._store._pool.run(lambda c: self._gone(c, statement, Int8(key), before))

    def drop_index(self, session: str) -> int:
        """Delete a session's index; gives how many texts it had."""

        def work(connection: Connection) -> int:
            with connection.transaction():
                return _drop_index(self, connection, Int8(key_of(session)))

        return self._store._pool.run(work)

    def note(self, session: str, **columns: Any) -> bool:
        """Set ``tags``, ``pinned`` or ``reviewed_at`` of a session; whether it is there."""
        told, values = columns_of(columns, "%s")
        statement = f"UPDATE {{s}}.sessions SET {told} WHERE key = %s AND id = %s"  # noqa: S608
        return bool(
            self._store._pool.run(
                lambda c: self._gone(c, statement, *values, Int8(key_of(session)), id_of(session))
            )
        )

    def vacuum(self) -> None:
        """Give back the space of what was deleted: the tables' files are written anew.

        Each table is locked meanwhile. What the server keeps of its own for its recovery, its
        write-ahead log and what was made of it elsewhere, it drops in its own time.
        """

        def work(connection: Connection) -> None:
            for table in ("log", "runs", "passages", "recalls", "chunks", "sessions"):
                connection.execute(said(f"VACUUM (FULL, ANALYZE) {{s}}.{table}", self._schema))

        self._store._pool.run(work)


_SESSIONS = """
    SELECT key, id, revision, tags, pinned, reviewed_at, used_at, archived_at, cold,
        first.payload, first.hash, last.payload, last.hash
    FROM {s}.sessions
    LEFT JOIN LATERAL (
        SELECT payload, log.hash FROM {s}.log WHERE session = key AND place = 0
        ORDER BY log.revision LIMIT 1
    ) AS first ON true
    LEFT JOIN LATERAL (
        SELECT payload, log.hash FROM {s}.log WHERE session = key AND place = 0
        ORDER BY log.revision DESC LIMIT 1
    ) AS last ON true
"""
_BY_KEY = " GROUP BY session"
_RUNS = (
    "SELECT session, count(*), sum(octet_length(actions) + octet_length(hash) + 120)::bigint,"
    " min(started_at) FROM {s}.runs"
)
_SIZES = {
    "log": "SELECT session, sum(octet_length(payload) + octet_length(hash))::bigint"
    " FROM {s}.log GROUP BY session",
    "chunks": "SELECT session, sum(packed_bytes)::bigint FROM {s}.chunks GROUP BY session",
    "runs": _RUNS + _BY_KEY,
    "texts": "SELECT session, count(*), sum(octet_length(item) + 32 + pg_column_size(said))::bigint"
    " FROM {s}.recalls JOIN {s}.passages ON recall = number GROUP BY session",
}
_PUT = """
    INSERT INTO {s}.log (session, revision, place, payload, hash)
    SELECT %s, r.* FROM unnest(%s::bigint[], %s::integer[], %s::bytea[], %s::bytea[]) AS r
"""
_DISOWN = (
    "UPDATE {s}.sessions SET id = '', revision = 0, hash = '', root = '', archived_at = NULL,"
    " used_at = NULL, tags = '[]', pinned = 0, reviewed_at = NULL WHERE key = %s"
)
_DROP_DISOWNED = "DELETE FROM {s}.sessions WHERE key = %s AND id = '' AND cold = %s"
_DISOWNED = "SELECT key, cold FROM {s}.sessions WHERE id = '' AND cold IS NOT NULL"


def _kept(row: Sequence[Any], sizes: dict[str, dict[int, Any]], runs: tuple[Any, ...]) -> Kept:
    key, name, revision, tags, pinned, reviewed_at, used_at, archived_at, cold, *heads = row
    first, last = (
        0.0 if payload is None else head_time((payload, digest))
        for payload, digest in (heads[:2], heads[2:])
    )
    size = sum(sizes.get(of, {}).get(key, (0,))[0] for of in ("log", "chunks"))
    texts_count, texts_bytes = sizes.get("texts", {}).get(key, (0, 0))
    return Kept(
        session=name_of(key, name) or "",
        key=key,
        revision=revision,
        tags=tags_of(tags),
        pinned=bool(pinned),
        reviewed_at=None if reviewed_at is None else reviewed_at / 1e9,
        began_at=first or used_at or 0.0,
        used_at=used_at or last,
        bytes=size,
        runs=runs[0],
        runs_bytes=runs[1],
        runs_from=runs[2],
        texts=texts_count,
        texts_bytes=texts_bytes,
        archived_at=archived_at,
        cold=cold,
    )


def _drop_index(upkeep: PostgresUpkeep, connection: Connection, key: Int8) -> int:
    gone = upkeep._gone(
        connection,
        "DELETE FROM {s}.passages USING {s}.recalls WHERE recall = number AND session = %s",
        key,
    )
    upkeep._gone(connection, "DELETE FROM {s}.recalls WHERE session = %s", key)
    return gone
