"""The index by which a session's items are found again, in SQLite's own full-text search.

It holds nothing that is not elsewhere: what it lacks, or has too many of, is put right from the
session when that is next searched. So it is written by jobs of its own, never with a checkpoint,
and its table of words is made with the first of them: who never searches pays nothing.

All sessions of a file share that table. Each word in it begins with its session's number, so a
query walks through one session's words alone, and their rarity is what it is in that session.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from . import writer
from .base import Found, Indexing, OutOfStepError, Ticket

_MAKE = """
    CREATE VIRTUAL TABLE IF NOT EXISTS words
    USING fts5(said, tokenize = 'porter unicode61 remove_diacritics 2')
"""

_LONGEST = 4_000_000
"""Characters of one text's words; SQLite's own limit is a thousand million bytes."""


class Index:
    """Puts jobs of indexing in line with what else is written; each is a transaction.

    Args:
        put: Changes the index of a session, named by its id and key, in a transaction.
    """

    def __init__(self, put: Callable[[str, int, Indexing], None]) -> None:
        self._put = put

    def commit(self, writes: Sequence[Any]) -> list[BaseException | None]:
        """Do each job; for each, why it was not done."""
        errors: list[BaseException | None] = []
        for job in writes:
            try:
                self._put(job.session, job.key, job.change)
                errors.append(None)
            except Exception as error:
                errors.append(error)
        return errors


class Job:
    """One change of a session's index, as the writer sees it."""

    __slots__ = ("change", "key", "session", "source", "ticket")

    def __init__(self, session: str, key: int, change: Indexing) -> None:
        self.session, self.key, self.change = session, key, change
        self.ticket = Ticket()
        self.source: object = self


def submit(index: Index, job: Job, *, threaded: bool) -> Ticket:
    """Put a job in line, for a caller that is going to wait for it."""
    write: Any = job
    target: Any = index
    if threaded:
        job.ticket.help = writer.help_out
        writer.put(target, write)
    else:
        writer.settle([write], writer.committed(target, [write]))
    return job.ticket


def put(connection: sqlite3.Connection, key: int, change: Indexing) -> None:
    """Take items out of a session's index, and others in.

    Raises:
        OutOfStepError: Somebody else changed it meanwhile.
    """
    number, mark = _number(connection, key)
    if mark != change.before:
        raise OutOfStepError("the index was changed elsewhere")
    connection.execute(_MAKE)
    if number is None:
        number = connection.execute(
            "INSERT INTO recalls (session, mark) VALUES (?, ?)", (key, change.after)
        ).lastrowid
    else:
        connection.execute("UPDATE recalls SET mark = ? WHERE number = ?", (change.after, number))
    for item in change.gone:
        for (seq,) in connection.execute(
            "SELECT seq FROM passages WHERE recall = ? AND item = ?", (number, item)
        ).fetchall():
            connection.execute("DELETE FROM words WHERE rowid = ?", (seq,))
            connection.execute("DELETE FROM passages WHERE seq = ?", (seq,))
    prefix = _prefix(number)
    last = connection.execute("SELECT coalesce(max(seq), 0) FROM passages").fetchone()[0]
    connection.executemany(
        "INSERT INTO passages (seq, recall, item, created_at, start, stop)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (seq, number, entry.item, entry.created_at, entry.start, entry.stop)
            for seq, entry in enumerate(change.entries, last + 1)
        ],
    )
    connection.executemany(
        "INSERT INTO words (rowid, said) VALUES (?, ?)",
        [
            (seq, _prefixed(prefix, entry.words))
            for seq, entry in enumerate(change.entries, last + 1)
            if entry.words
        ],
    )


def indexed(connection: sqlite3.Connection, key: int) -> tuple[bytes, dict[str, float]]:
    """The mark of a session's index, and when each item that it holds was made, by its id."""
    number, mark = _number(connection, key)
    held = connection.execute(
        "SELECT item, max(created_at) FROM passages WHERE recall = ? GROUP BY item", (number,)
    )
    return mark, dict(held.fetchall())


def search(
    connection: sqlite3.Connection, key: int, mark: bytes, words: Sequence[str], limit: int
) -> list[Found]:
    """What holds any of these words, the best first.

    Raises:
        OutOfStepError: The index is not as that mark has it.
    """
    number, found = _number(connection, key)
    if found != mark:
        raise OutOfStepError("the index was changed elsewhere")
    if number is None or not words:
        return []
    prefix = _prefix(number)
    query = " OR ".join(_quoted(prefix, word) for word in words)
    ranks = dict(
        connection.execute(
            "SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?",
            (query, limit),
        ).fetchall()
    )
    places = connection.execute(
        # By the rows' numbers alone: the index of sessions would lead through all of this one.
        "SELECT seq, recall, item, start, stop FROM passages WHERE seq IN (%s)"  # noqa: S608, UP031
        % ",".join(map(str, ranks))
    )
    hits = [
        Found(item, start, stop, -ranks[seq])
        for seq, recall, item, start, stop in places
        if recall == number
    ]
    return sorted(hits, key=lambda hit: -hit.score)


def _number(connection: sqlite3.Connection, key: int) -> tuple[int | None, bytes]:
    row = connection.execute(
        "SELECT number, mark FROM recalls WHERE session = ?", (key,)
    ).fetchone()
    return (None, b"") if row is None else (int(row[0]), bytes(row[1]))


def _prefix(number: int | None) -> str:
    """What each word of a session begins with: no vowel, so that stemming stays what it is."""
    return f"{number}q"


def _prefixed(prefix: str, words: str) -> str:
    return prefix + _plain(words[:_LONGEST]).replace(" ", f" {prefix}")


def _quoted(prefix: str, word: str) -> str:
    """A word as FTS5 takes it for nothing but a word, whatever it is made of."""
    return '"' + prefix + _plain(word).replace('"', " ") + '"'


def _plain(text: str) -> str:
    """SQLite takes no lone surrogates, and FTS5 no NUL."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
