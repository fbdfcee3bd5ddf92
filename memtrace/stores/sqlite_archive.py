"""Archives in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, TypeVar

from .packing import Chunk
from .reading import Stored
from .shelving import Desk

T = TypeVar("T")


class SQLiteDesk:
    """A transaction on a connection.

    Args:
        connection: Of the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self, statement: str, *values: Any) -> list[Any]:
        """What a statement gives."""
        return self._connection.execute(_said(statement), values).fetchall()

    def do(self, statement: str, *values: Any) -> int:
        """How many rows a statement changed."""
        return self._connection.execute(_said(statement), values).rowcount

    def log(self, key: int) -> list[Stored]:
        """All rows of a session's log in order, heads among them."""
        return self._connection.execute(
            "SELECT revision, place, payload, hash FROM log WHERE session = ?"
            " ORDER BY revision, place",
            (key,),
        ).fetchall()

    def insert(self, key: int, rows: Sequence[Stored]) -> None:
        """Put rows into a session's log."""
        self._connection.executemany(
            "INSERT INTO log (session, revision, place, payload, hash) VALUES (?, ?, ?, ?, ?)",
            [(key, *row) for row in rows],
        )

    def chunks(self, key: int, number: int | None = None) -> list[Chunk]:
        """A session's chunks in order, or the one of that number."""
        which, values = ("", (key,)) if number is None else (" AND number = ?", (key, number))
        found = self._connection.execute(
            f"SELECT number, rows, raw_bytes, packed_bytes, payload, hash FROM chunks"  # noqa: S608
            f" WHERE session = ?{which} ORDER BY number",
            values,
        )
        return [Chunk(*row) for row in found]

    def owners(self) -> Iterable[int]:
        """The key of each session that has chunks, once."""
        return [key for (key,) in self._connection.execute("SELECT DISTINCT session FROM chunks")]


class SQLiteShelf:
    """The archives of one SQLite database.

    Args:
        name: The store's.
        ready: Whether it is open now.
        transaction: A block on its connection that is a transaction: one that writes, or not.
    """

    def __init__(
        self,
        name: str,
        ready: bool,
        transaction: Callable[[bool], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        self.name = name
        self.ready = ready
        self._transaction = transaction

    def run(self, work: Callable[[Desk], T], *, writes: bool = False) -> T:
        """What work in one transaction gives."""
        with self._transaction(writes) as connection:
            return work(SQLiteDesk(connection))


@lru_cache(maxsize=64)
def _said(statement: str) -> str:
    now = "(julianday('now') - 2440587.5) * 86400.0"
    return statement.replace("{s}", "").replace("{lock}", "").replace("{now}", now)
