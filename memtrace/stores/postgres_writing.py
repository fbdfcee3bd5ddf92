"""What is said to PostgreSQL: the statements by which sessions are written.

A write is one statement: it takes the next revision if its writer knows the latest, and puts in
the rows if it did. So one alone is one round trip, with the commit; several are one too, in a
pipeline.

A server that is lost while it commits leaves a write whose fate nobody knows. It is refused, and
the session goes on; if the store has it all the same, the next write takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.types.numeric import Int8

from .asleep import AsleepError
from .base import Write, Written
from .keeping import columns_of
from .log import chain_of, goes_back, id_of, key_of, latest, mark_of, stale
from .postgres_log import PostgresLog
from .postgres_pool import Connection
from .postgres_schema import said
from .rows import START
from .runs import COLUMNS, run_hash, run_values


class Entry(NamedTuple):
    """A write as it is sent.

    Args:
        at: Its place among those that were given.
        session: Id of the session.
        key: The session's.
        written: What it consists of.
        rows: Payloads with their hashes, the head first; none: it is for the run log alone.
        root: Hash of the last row.
    """

    at: int
    session: str
    key: int
    written: Written
    rows: list[tuple[bytes, bytes]]
    root: bytes

    @property
    def digest(self) -> bytes:
        """What the write is known by: the hash of its head."""
        return self.rows[0][1] if self.rows else b""

    @property
    def goes_back(self) -> bool:
        """Whether it rests on another revision than the latest."""
        return goes_back(self.written)


def entry_of(at: int, write: Write) -> Entry:
    """A write, asked for what it is.

    Raises:
        StoreError: Something of it cannot be stored.
    """
    written = write.prepare()
    rows, root = ([], written.root) if written.head is None else chain_of(written)
    return Entry(at, write.session, key_of(write.session), written, rows, root)


def send(connection: Connection, schema: str, entries: Sequence[Entry]) -> list[Entry]:
    """Write all in one transaction; gives those that are not there, by no fault of the server's."""
    entries = [entry for entry in entries if entry.rows or entry.written.runs]
    if not entries:
        return []
    if len(entries) == 1 and not entries[0].written.runs and entries[0].written.tags is None:
        return [] if _claim(connection, schema, entries[0]).fetchone()[0] else entries
    claims = []
    logged = []
    with connection.pipeline(), connection.transaction():
        for entry in entries:
            if entry.rows:
                claims.append((entry, _claim(connection, schema, entry)))
            _tag(connection, schema, entry)
            logged.append((entry, _log_runs(connection, schema, entry)))
    left = [entry for entry, claim in claims if not claim.fetchone()[0]]
    # Rows for the run log alone: they are there already, or the session is not there any more.
    return left + [e for e, done in logged if done and not e.rows and not done.rowcount]


def _claim(connection: Connection, schema: str, entry: Entry) -> Any:
    known = entry.written.revision
    statement = _CLAIM if known else _BEGIN
    payloads, hashes = zip(*entry.rows, strict=True)
    return connection.execute(
        said(statement, schema),
        {
            "key": Int8(entry.key),
            "id": id_of(entry.session),
            "known": Int8(known),
            "known_hash": mark_of(entry.session, known),
            "rests_on": entry.written.root,
            "goes_back": entry.goes_back,
            "revision": Int8(known + 1),
            "hash": mark_of(entry.session, known + 1),
            "root": entry.root,
            "payloads": list(payloads),
            "hashes": list(hashes),
        },
        prepare=True,
        binary=True,
    )


USED_AT = "extract(epoch FROM clock_timestamp())::float8"
"""By the server's clock: the machines' own may differ."""

_PUT = """
    , put AS (
        INSERT INTO {s}.log (session, revision, place, payload, hash)
        SELECT claimed.key, %(revision)b, r.place - 1, r.payload, r.hash
        FROM claimed, unnest(%(payloads)b::bytea[], %(hashes)b::bytea[])
            WITH ORDINALITY AS r (payload, hash, place)
    )
    SELECT count(*) FROM claimed
"""

_CLAIM = f"""
    WITH claimed AS (
        UPDATE {{s}}.sessions
        SET revision = %(revision)b, hash = %(hash)b, root = %(root)b, used_at = {USED_AT}
        WHERE key = %(key)b AND revision = %(known)b AND id = %(id)b AND hash = %(known_hash)b
        AND archived_at IS NULL
        AND (root = %(rests_on)b OR %(goes_back)b)
        AND (SELECT max(revision) FROM {{s}}.log WHERE session = %(key)b) = %(known)b
        RETURNING key
    )
    {_PUT}
"""  # noqa: S608

_BEGIN = f"""
    WITH claimed AS (
        INSERT INTO {{s}}.sessions (key, id, revision, hash, root, used_at)
        SELECT %(key)b, %(id)b, %(revision)b, %(hash)b, %(root)b, {USED_AT}
        WHERE NOT EXISTS (SELECT FROM {{s}}.log WHERE session = %(key)b)
        ON CONFLICT (key) DO NOTHING
        RETURNING key
    )
    {_PUT}
"""  # noqa: S608


def look(connection: Connection, schema: str, entry: Entry, unsure: set[bytes]) -> None:
    """Write one that the plain statement did not take, if it may be; in a transaction.

    Args:
        connection: Of the database.
        schema: That holds the tables.
        entry: The write.
        unsure: What writes of the session are known by whose fate is not.

    Raises:
        StaleSessionError: The session was written elsewhere.
    """
    session, key, known = entry.session, entry.key, entry.written.revision
    log = PostgresLog(connection, schema)
    if not entry.rows:
        refuse_deleted(connection, schema, session, known)
        return
    with connection.transaction():
        _hold(connection, schema, session)
        if connection.execute(said(_ASLEEP, schema), (Int8(key),)).fetchone():
            raise AsleepError(session)
        found, _ = latest(log, session, key)
        if found == known + 1:
            head = log.row(key, found, 0)
            if head is not None and head[1] == entry.digest:  # it is there: only nobody told
                _log_runs(connection, schema, entry)
                return
            if head is not None and head[1] in unsure:
                connection.execute(
                    said("DELETE FROM {s}.log WHERE session = %s AND revision = %s", schema),
                    (Int8(key), Int8(found)),
                )
                found = known
        root = log.before(key, known + 1, 1) or START
        if found != known or not (entry.goes_back or root == entry.written.root):
            raise stale(session, found, known)
        _enter(connection, schema, session, known + 1, entry.root)
        payloads, hashes = zip(*entry.rows, strict=True)
        connection.execute(
            said(_INSERT, schema), (Int8(key), Int8(known + 1), list(payloads), list(hashes))
        )
        _tag(connection, schema, entry)
        _log_runs(connection, schema, entry)


_ASLEEP = "SELECT 1 FROM {s}.sessions WHERE key = %s AND archived_at IS NOT NULL"

_INSERT = """
    INSERT INTO {s}.log (session, revision, place, payload, hash)
    SELECT %b, %b, r.place - 1, r.payload, r.hash
    FROM unnest(%b::bytea[], %b::bytea[]) WITH ORDINALITY AS r (payload, hash, place)
"""


def _tag(connection: Connection, schema: str, entry: Entry) -> None:
    """Note a session's tags, where the snapshot that they came with was taken."""
    if entry.written.tags is None:
        return
    told, values = columns_of({"tags": entry.written.tags}, "%s")
    connection.execute(
        said(f"UPDATE {{s}}.sessions SET {told} WHERE key = %s AND root = %s", schema),  # noqa: S608
        (*values, Int8(entry.key), entry.root),
    )


def refuse_deleted(connection: Connection, schema: str, session: str, known: int) -> None:
    """Take nothing of a writer that knows a session which is not there any more.

    Within a transaction it stays there until that ends.

    Raises:
        StaleSessionError: It was deleted.
    """
    key = key_of(session)
    there = said(f"SELECT 1 {_THERE}", schema)
    if known and not connection.execute(there, (Int8(key),)).fetchall():
        found, _ = latest(PostgresLog(connection, schema), session, key)
        if not found:
            raise stale(session, 0, known)


def _hold(connection: Connection, schema: str, session: str) -> None:
    """Have nobody else write a session for the rest of the transaction."""
    connection.execute(
        said(
            "INSERT INTO {s}.sessions (key, id, revision, hash, root)"
            " VALUES (%s, %s, 0, '', '') ON CONFLICT (key) DO NOTHING",
            schema,
        ),
        (Int8(key_of(session)), id_of(session)),
    )
    connection.execute(
        said("SELECT FROM {s}.sessions WHERE key = %s FOR UPDATE", schema),
        (Int8(key_of(session)),),
    )


def _enter(connection: Connection, schema: str, session: str, revision: int, root: bytes) -> None:
    """Have the list of sessions say what the log holds."""
    connection.execute(
        said(
            "UPDATE {s}.sessions SET id = %s, revision = %s, hash = %s, root = %s,"  # noqa: S608
            f" used_at = {USED_AT} WHERE key = %s",
            schema,
        ),
        (
            id_of(session),
            Int8(revision),
            mark_of(session, revision),
            root,
            Int8(key_of(session)),
        ),
    )


def copy(connection: Connection, schema: str, session: str, to: str, upto: int) -> None:
    """A new session that holds what another held at a revision; in a transaction.

    Raises:
        StaleSessionError: There is one of that id.
    """
    log = PostgresLog(connection, schema)
    key, new = Int8(key_of(session)), Int8(key_of(to))
    with connection.transaction():
        _hold(connection, schema, to)
        found, _ = latest(log, to, new)
        if found:
            raise stale(to, found, 0)
        _enter(connection, schema, to, upto, log.before(key, upto + 1, 0) or START)
        connection.execute(
            said(
                "INSERT INTO {s}.log (session, revision, place, payload, hash)"
                " SELECT %s, revision, place, payload, hash FROM {s}.log"
                " WHERE session = %s AND revision <= %s",
                schema,
            ),
            (new, key, Int8(upto)),
        )
        connection.execute(
            said(
                "UPDATE {s}.sessions AS made SET tags = of.tags FROM {s}.sessions AS of"
                " WHERE made.key = %s AND of.key = %s",
                schema,
            ),
            (new, key),
        )


# --- the run log ----------------------------------------------------------------------------------


def _log_runs(connection: Connection, schema: str, entry: Entry) -> Any:
    """Put rows into the run log, where the snapshot that they came with was taken.

    Those that come with none are put in where their session is there, or was never stored.
    """
    if not entry.written.runs:
        return None
    rows = [_plain(run_values(run)) for run in entry.written.runs]
    hashes = [run_hash(entry.key, row) for row in rows]
    known = entry.written.revision
    return connection.execute(
        said(_RUNS, schema),
        (
            Int8(entry.key),
            *map(list, zip(*rows, strict=True)),
            hashes,
            not entry.rows and not known,
            not entry.rows,
            Int8(entry.key),
            Int8(entry.key),
            Int8(known + 1),
            entry.root,
        ),
    )


def _plain(values: Sequence[Any]) -> tuple[Any, ...]:
    """PostgreSQL's text has no NUL."""
    return tuple(v.replace("\0", "\ufffd") if isinstance(v, str) else v for v in values)


_TYPES = {
    "kind": "text",
    "agent": "text",
    "error": "text",
    "actions": "text",
    "started_at": "float8",
    "duration_s": "float8",
}

_THERE = "FROM {s}.sessions WHERE key = %s AND revision > 0 FOR KEY SHARE"
"""A deletion waits for who has seen it so, and who asks during one waits for its end."""

_RUNS = f"""
    INSERT INTO {{s}}.runs (session, {", ".join(COLUMNS)}, hash)
    SELECT %s, r.* FROM unnest(
        {", ".join(f"%s::{_TYPES.get(column, 'bigint')}[]" for column in COLUMNS)}, %s::bytea[]
    ) AS r
    WHERE %s OR (%s AND EXISTS (SELECT 1 {_THERE})) OR EXISTS (
        SELECT FROM {{s}}.sessions WHERE key = %s AND revision = %s AND root = %s
    )
    ON CONFLICT DO NOTHING
"""  # noqa: S608
