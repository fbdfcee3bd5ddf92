"""Archives in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from psycopg.types.numeric import Int8

from .packing import Chunk
from .postgres_log import snapshot
from .postgres_pool import Connection, Pool
from .postgres_schema import said
from .reading import Stored
from .shelving import Desk

T = TypeVar("T")


class PostgresDesk:
    """A transaction on a connection.

    Args:
        connection: Of the database.
        schema: That holds the tables.
    """

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    def _run(self, statement: str, values: Sequence[Any]) -> Any:
        cursor = self._connection.cursor(binary=True)
        return cursor.execute(_said(statement, self._schema), values)

    def all(self, statement: str, *values: Any) -> list[Any]:
        """What a statement gives."""
        found: list[Any] = self._run(statement, values).fetchall()
        return found

    def do(self, statement: str, *values: Any) -> int:
        """How many rows a statement changed."""
        changed: int = self._run(statement, values).rowcount
        return changed

    def log(self, key: int) -> list[Stored]:
        """All rows of a session's log in order, heads among them."""
        return self.all(
            "SELECT revision, place, payload, hash FROM {s}log WHERE session = ?"
            " ORDER BY revision, place",
            Int8(key),
        )

    def insert(self, key: int, rows: Sequence[Stored]) -> None:
        """Put rows into a session's log."""
        if not rows:
            return
        columns = [list(column) for column in zip(*rows, strict=True)]
        self._run(
            "INSERT INTO {s}log (session, revision, place, payload, hash)"
            " SELECT ?, r.* FROM"
            " unnest(?::bigint[], ?::integer[], ?::bytea[], ?::bytea[]) AS r",
            (Int8(key), *columns),
        )

    def chunks(self, key: int, number: int | None = None) -> list[Chunk]:
        """A session's chunks in order, or the one of that number."""
        which, values = ("", ()) if number is None else (" AND number = ?", (number,))
        found = self.all(
            "SELECT number, rows, raw_bytes, packed_bytes, payload, hash FROM {s}chunks"  # noqa: S608
            f" WHERE session = ?{which} ORDER BY number",
            Int8(key),
            *values,
        )
        return [Chunk(*row) for row in found]

    def owners(self) -> Iterable[int]:
        """The key of each session that has chunks, once."""
        return [key for (key,) in self.all("SELECT DISTINCT session FROM {s}chunks")]


class PostgresShelf:
    """The archives of one schema.

    Args:
        name: The store's.
        pool: Connections to its server.
        schema: That holds the tables.
    """

    def __init__(self, name: str, pool: Pool, schema: str) -> None:
        self.name = name
        self._pool = pool
        self._schema = schema

    @property
    def ready(self) -> bool:
        """Whether a connection is open now."""
        return self._pool.connected

    def run(self, work: Callable[[Desk], T], *, writes: bool = False) -> T:
        """What work in one transaction gives."""

        def at_once(connection: Connection) -> T:
            with connection.transaction() if writes else snapshot(connection):
                return work(PostgresDesk(connection, self._schema))

        return self._pool.run(at_once)


@lru_cache(maxsize=256)
def _said(statement: str, schema: str) -> bytes:
    text = statement.replace("{s}", "{s}.").replace("{lock}", " FOR UPDATE").replace("?", "%s")
    return said(text.replace("{now}", "extract(epoch FROM clock_timestamp())::float8"), schema)
