"""What is said to PostgreSQL: the statements by which sessions are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from psycopg.types.numeric import Int8

from ..errors import StoreDamagedError
from . import log
from .base import Loaded
from .postgres_address import DAMAGED
from .postgres_pool import Connection
from .postgres_schema import said
from .reading import Stored
from .runs import COLUMNS


class PostgresLog:
    """The sessions that a connection reads.

    Args:
        connection: Of the database.
        schema: That holds the tables.
        name: The store's.
        careful: Pass over what PostgreSQL itself cannot read: the hashes tell what is missing.
            Not within a transaction, which ends with the first error.
    """

    def __init__(
        self, connection: Connection, schema: str, name: str = "", *, careful: bool = False
    ) -> None:
        self.connection = connection
        self._schema = schema
        self._careful = careful
        self.name = name

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self.connection.cursor(binary=True) as cursor:
            return cursor.execute(said(statement, self._schema), values, prepare=True).fetchall()

    def _one(self, statement: str, *values: Any) -> Any:
        return next(iter(self._all(statement, *values)), None)

    def entry(self, key: int) -> tuple[Any, Any, Any] | None:
        """Id, latest revision and hash of a session in the list of sessions."""
        found: tuple[Any, Any, Any] | None = self._one(_ENTRY, Int8(key))
        return found

    def entries(self) -> Iterable[tuple[Any, Any]]:
        """Key and id of each session in that list."""
        return self._all("SELECT key, id FROM {s}.sessions")

    def keys(self) -> Iterable[int]:
        """Each key that the log has rows of, once."""
        return (key for (key,) in self._all(_KEYS))

    def revisions(self, key: int, upto: int) -> Iterator[int]:
        """Revisions that the log has rows of, the latest first; one may come again."""
        if self._careful:  # those whose heads can be read
            entry = self.entry(key)
            for revision in range(min(upto, entry[1] if entry else 0), 0, -1):
                if self.head(key, revision) is not None:
                    yield revision
            return
        (last,) = self._one(
            "SELECT max(revision) FROM {s}.log WHERE session = %s AND revision <= %s",
            Int8(key),
            Int8(upto),
        )
        if last is None:
            return
        yield last
        for (revision,) in self._all(
            "SELECT DISTINCT revision FROM {s}.log WHERE session = %s AND revision < %s"
            " ORDER BY revision DESC",
            Int8(key),
            Int8(last),
        ):
            yield revision

    def readable(self, key: int, upto: int) -> Iterator[int]:
        """The same."""
        return self.revisions(key, upto)

    def rows(self, key: int, upto: int) -> Iterator[Stored]:
        """The rows of a log in order, but for revisions with a row that cannot be read."""
        with self._damaged_pages():
            yield from self._all(f"{_ROWS} AND revision <= %s{_ORDER}", Int8(key), Int8(upto))
            return
        for revision in range(1, upto + 1):
            with self._damaged_pages():
                yield from self._all(
                    f"{_ROWS} AND revision = %s{_ORDER}", Int8(key), Int8(revision)
                )

    def head(self, key: int, revision: int) -> tuple[bytes, bytes] | None:
        """Payload and hash of a snapshot's head."""
        with self._damaged_pages():
            return self.row(key, revision, 0)
        return None

    def heads(self, key: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Revision, payload and hash of each head, the latest first."""
        before = 2**63 - 1
        while True:
            found = self._all(_HEADS, Int8(key), Int8(before))
            yield from found
            if not found:
                return
            before = found[-1][0]

    def row(self, key: int, revision: int, place: int) -> tuple[bytes, bytes] | None:
        """Payload and hash of a row."""
        found: tuple[bytes, bytes] | None = self._one(
            "SELECT payload, hash FROM {s}.log WHERE session = %s AND revision = %s AND place = %s",
            Int8(key),
            Int8(revision),
            Int8(place),
        )
        return found

    def before(self, key: int, revision: int, place: int) -> bytes | None:
        """Hash of the row before it."""
        found = self._one(
            "SELECT hash FROM {s}.log WHERE session = %s AND place > 0"
            " AND (revision, place) < (%s, %s) ORDER BY revision DESC, place DESC LIMIT 1",
            Int8(key),
            Int8(revision),
            Int8(place),
        )
        return found[0] if found else None

    def runs(self, key: int | None = None) -> Iterator[tuple[int, Sequence[Any]]]:
        """Rows of the run log, of one session or of all, each with its session's key."""
        which, values = ("", ()) if key is None else (" WHERE session = %s", (Int8(key),))
        for found, *row in self._all(f"{_RUNS}{which} ORDER BY seq", *values):
            yield found, row

    @contextmanager
    def _damaged_pages(self) -> Iterator[None]:
        with suppress(*DAMAGED if self._careful else ()):
            yield


_KEYS = """
    WITH RECURSIVE each(key) AS (
        SELECT min(session) FROM {s}.log
        UNION ALL
        SELECT (SELECT min(session) FROM {s}.log WHERE session > key) FROM each
        WHERE key IS NOT NULL
    )
    SELECT key FROM each WHERE key IS NOT NULL
"""
"""Each key in the log once, by as many steps in its index."""

_ENTRY = "SELECT id, revision, hash FROM {s}.sessions WHERE key = %s"
_HEADS = """
    SELECT revision, payload, hash FROM {s}.log
    WHERE session = %s AND place = 0 AND revision < %s ORDER BY revision DESC LIMIT 20
"""
_ROWS = "SELECT revision, place, payload, hash FROM {s}.log WHERE session = %s AND place > 0"
_ORDER = " ORDER BY revision, place"
_RUNS = f"SELECT session, {', '.join(COLUMNS)}, hash FROM {{s}}.runs"  # noqa: S608


_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """A block whose statements all see what there was as it began."""
    connection.execute(_BEGIN)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(b"COMMIT")


def newest(
    connection: Connection, schema: str, name: str, session: str
) -> tuple[Loaded | None, bool]:
    """A session's latest snapshot, in one round trip, and whether all was well."""
    try:
        return log.load(_Latest(connection, schema, name, log.key_of(session)), session, None)
    except (StoreDamagedError, *DAMAGED):
        return None, False


class _Latest(PostgresLog):
    """What leads to one session's latest snapshot, all asked for at once, as of one moment."""

    def __init__(self, connection: Connection, schema: str, name: str, key: int) -> None:
        super().__init__(connection, schema, name)
        with connection.pipeline():
            connection.execute(_BEGIN)
            entry = self._ask(_ENTRY, Int8(key))
            rows = self._ask(f"{_ROWS}{_ORDER}", Int8(key))
            heads = self._ask(_HEADS, Int8(key), Int8(log.LAST))
            connection.execute(b"COMMIT")
        self._entry: tuple[Any, Any, Any] | None = entry.fetchone()
        self._rows: list[Stored] = rows.fetchall()
        self._head: tuple[int, bytes, bytes] = heads.fetchone() or (0, b"", b"")
        self._revision = max(self._head[0], self._rows[-1][0] if self._rows else 0)

    def _ask(self, statement: str, *values: Any) -> Any:
        cursor = self.connection.cursor(binary=True)
        return cursor.execute(said(statement, self._schema), values, prepare=True)

    def entry(self, key: int) -> tuple[Any, Any, Any] | None:
        return self._entry

    def revisions(self, key: int, upto: int) -> Iterator[int]:
        if self._revision:
            yield self._revision

    def rows(self, key: int, upto: int) -> Iterator[Stored]:
        yield from self._rows

    def head(self, key: int, revision: int) -> tuple[bytes, bytes] | None:
        return self._head[1:] if self._head[0] == revision else None
