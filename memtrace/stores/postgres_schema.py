"""The tables in PostgreSQL, version by version. Each step takes a schema one version forward.

All stand in one schema of the database, so that several stores, and other people's tables, can
share it. ``{s}`` is its name.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from psycopg import Connection

from ..errors import StoreError, StoreVersionError
from .schema import APPLICATION_ID

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # 1: sessions and their log, the run log, what is indexed
        """CREATE TABLE {s}.sessions (
            key bigint PRIMARY KEY,
            id bytea NOT NULL,
            revision bigint NOT NULL,
            hash bytea NOT NULL,
            root bytea NOT NULL
        ) WITH (fillfactor = 50)""",  # an update that finds room in its page touches no index
        """CREATE TABLE {s}.log (
            session bigint NOT NULL,
            revision bigint NOT NULL,
            place integer NOT NULL,
            payload bytea NOT NULL,
            hash bytea NOT NULL,
            PRIMARY KEY (session, revision, place)
        )""",
        """CREATE TABLE {s}.runs (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            session bigint NOT NULL,
            run bigint NOT NULL,
            kind text NOT NULL,
            agent text,
            started_at double precision NOT NULL,
            duration_s double precision NOT NULL,
            error text,
            token_budget bigint NOT NULL,
            working_memory_before bigint NOT NULL,
            long_term_memory_before bigint NOT NULL,
            cache_before bigint NOT NULL,
            agent_states_before bigint NOT NULL,
            conversation_history_before bigint NOT NULL,
            working_memory_after bigint NOT NULL,
            long_term_memory_after bigint NOT NULL,
            cache_after bigint NOT NULL,
            agent_states_after bigint NOT NULL,
            conversation_history_after bigint NOT NULL,
            actions text NOT NULL,
            hash bytea NOT NULL,
            UNIQUE (session, hash)
        )""",  # a row whose writing was never answered for is written again, and there once
        """CREATE TABLE {s}.recalls (
            number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            session bigint NOT NULL UNIQUE,
            mark bytea NOT NULL,
            texts bigint NOT NULL,
            words bigint NOT NULL
        )""",
        """CREATE TABLE {s}.passages (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            recall integer NOT NULL,
            item bytea NOT NULL,
            created_at double precision NOT NULL,
            start integer NOT NULL,
            stop integer NOT NULL,
            words integer NOT NULL,
            said tsvector NOT NULL
        )""",
        "CREATE INDEX passages_of ON {s}.passages (recall, item)",
        # Without the list of what is yet to be put in: each search would have to read it.
        "CREATE INDEX passages_said ON {s}.passages USING gin (said) WITH (fastupdate = off)",
        # Of PostgreSQL's own, English leaves stopwords out, which are chosen in the query here.
        "CREATE TEXT SEARCH DICTIONARY {s}.stem (TEMPLATE = snowball, Language = porter)",
    ),
    (  # 2: what is put away of a session, and what is known of it besides its log
        "ALTER TABLE {s}.sessions"
        " ADD COLUMN used_at double precision,"  # when it was last: seconds since the epoch
        " ADD COLUMN archived_at double precision,"  # NULL: its rows are in the log
        " ADD COLUMN cold text,"  # where copies of its chunks may be
        " ADD COLUMN tags text NOT NULL DEFAULT '[]',"  # a JSON list of texts
        " ADD COLUMN pinned smallint NOT NULL DEFAULT 0,"
        " ADD COLUMN reviewed_at bigint",  # nanoseconds since the epoch
        # Nobody knows when: they are idle from now on.
        "UPDATE {s}.sessions SET used_at = extract(epoch FROM clock_timestamp())",
        """CREATE TABLE {s}.chunks (
            session bigint NOT NULL,
            number integer NOT NULL,
            rows integer NOT NULL,
            raw_bytes bigint NOT NULL,
            packed_bytes bigint NOT NULL,
            payload bytea,
            hash bytea NOT NULL,
            PRIMARY KEY (session, number)
        )""",  # payload NULL: it is where `cold` says
        "ALTER TABLE {s}.chunks ALTER COLUMN payload SET STORAGE EXTERNAL",  # it is compressed
        # Samples of what a column holds would stay in the server's statistics after it is deleted.
        *(
            f"ALTER TABLE {{s}}.{table} ALTER COLUMN {column} SET STATISTICS 0"
            for table, columns in (
                ("sessions", ("id", "tags")),
                ("log", ("payload", "hash")),
                ("chunks", ("payload", "hash")),
                ("runs", ("agent", "error", "actions")),
                ("passages", ("item", "said")),
            )
            for column in columns
        ),
    ),
)
"""Never changed, only added to: a store of every older version must still open."""

VERSION = len(MIGRATIONS)


@lru_cache(maxsize=256)
def said(statement: str, schema: str) -> bytes:
    """A statement for a schema. Its name was checked where it came from."""
    return statement.format(s=f'"{schema}"').encode()


def version(connection: Connection[Any], schema: str, name: str) -> int:
    """The version of a schema; 0: it is not there.

    Raises:
        StoreError: It is somebody else's.
        StoreVersionError: A newer memtrace made it.
    """
    there, marked, empty = connection.execute(
        "SELECT to_regnamespace(%s) IS NOT NULL, to_regclass(%s) IS NOT NULL, NOT EXISTS"
        " (SELECT FROM pg_class WHERE relnamespace = to_regnamespace(%s))",
        (f'"{schema}"', f'"{schema}".store', f'"{schema}"'),
    ).fetchone() or (False, False, True)
    if not there or (not marked and empty):
        return 0
    found = None
    if marked:
        found = connection.execute(
            said("SELECT application, version FROM {s}.store", schema)
        ).fetchone()
    if found is None or found[0] != APPLICATION_ID:
        raise StoreError(f"the schema {schema!r} of {name} is no store of memtrace's")
    if found[1] > VERSION:
        raise StoreVersionError(
            f"{name} was written by a newer memtrace (form {found[1]}; this one knows up to "
            f"{VERSION}): update memtrace-otel"
        )
    return int(found[1])


def migrate(connection: Connection[Any], schema: str, name: str) -> None:
    """Take a schema forward to this version. Processes that come at once wait for the first."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, schema))
        before = version(connection, schema, name)
        if before == 0:
            _make(connection, schema)
            connection.execute(
                said("CREATE TABLE {s}.store (application bigint, version integer)", schema)
            )
            connection.execute(
                said("INSERT INTO {s}.store VALUES (%s, 0)", schema), (APPLICATION_ID,)
            )
        for steps in MIGRATIONS[before:]:
            for statement in steps:
                connection.execute(said(statement, schema))
        connection.execute(said("UPDATE {s}.store SET version = %s", schema), (VERSION,))


def _make(connection: Connection[Any], schema: str) -> None:
    """Make a schema if it is not there: one may be given by who has the right to make it."""
    there = connection.execute("SELECT to_regnamespace(%s)", (f'"{schema}"',)).fetchone()
    if there is None or there[0] is None:
        connection.execute(said("CREATE SCHEMA {s}", schema))


_LOCK = APPLICATION_ID
"""The first half of the advisory lock's number; the second is of the schema."""
