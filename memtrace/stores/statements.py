"""What is said to SQLite: the statements by which sessions are written and read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256

from ..errors import StaleSessionError
from .base import Damage, Written
from .reading import Chain, Places, Stored, follow
from .rows import chained
from .runs import COLUMNS, run_hash, run_values


@lru_cache(maxsize=4096)
def key_of(session: str) -> int:
    """A session's key: 63 bits of the hash of its id, so that a lost row of it shows."""
    return int.from_bytes(sha256(_id(session)).digest()[:8], "big") >> 1


def _id(session: str) -> bytes:
    return session.encode("utf-8", "surrogatepass")


def listed(connection: sqlite3.Connection) -> tuple[dict[int, str], list[Damage]]:
    """Ids of the sessions by their keys, and what is wrong with the list."""
    found: dict[int, str] = {}
    lost: dict[object, str] = {}
    for key, stored in connection.execute("SELECT key, id FROM sessions"):
        name = _name(stored)
        if name is not None and key_of(name) == key:
            found[key] = name
        else:
            lost[key] = "its id is not what was written"
    for (key,) in connection.execute(_KEYS):
        if key not in found:
            lost.setdefault(key, "it is not in the list of sessions")
    return found, [Damage("", f"session {key}", reason) for key, reason in lost.items()]


def _name(stored: object) -> str | None:
    try:
        return stored.decode("utf-8", "surrogatepass") if isinstance(stored, bytes) else None
    except UnicodeDecodeError:
        return None


_KEYS = """
    WITH RECURSIVE each(key) AS (
        SELECT min(session) FROM log
        UNION ALL
        SELECT (SELECT min(session) FROM log WHERE session > key) FROM each WHERE key IS NOT NULL
    )
    SELECT key FROM each WHERE key IS NOT NULL
"""
"""Each key in the log once, by as many steps in its index."""


@lru_cache(maxsize=4096)  # what one write has put there the next one looks for
def _mark(session: str, revision: int) -> bytes:
    return chained(revision.to_bytes(8, "big", signed=True), _id(session))


def claim(
    connection: sqlite3.Connection, session: str, key: int, known: int, revision: int
) -> None:
    """Take the next revision of a session, if what its writer knows is the latest.

    Raises:
        StaleSessionError: It is not.
    """
    name, mark = _id(session), _mark(session, revision)
    # One statement where all is as it should be; if not, a closer look tells why.
    if connection.execute(
        _CLAIM, (revision, mark, key, known, name, _mark(session, known), key, known)
    ).rowcount:
        return
    found, _ = latest(connection, session, key)
    if found != known:
        raise StaleSessionError(
            f"session {session!r} was written elsewhere: it is at revision {found or 'none'}, and "
            f"this one knows it as of revision {known}; nothing was stored. To go on with it: "
            f"Session.open({session!r}, store=...)"
        )
    connection.execute(
        "INSERT OR REPLACE INTO sessions (key, id, revision, hash) VALUES (?, ?, ?, ?)",
        (key, name, revision, mark),
    )


_CLAIM = """
    UPDATE sessions SET revision = ?, hash = ?
    WHERE key = ? AND revision = ? AND id = ? AND hash = ?
    AND (SELECT max(revision) FROM log WHERE session = ?) = ?
"""


def put(connection: sqlite3.Connection, session: str, written: Written) -> bytes:
    """Write one write's rows; gives the root."""
    key = key_of(session)
    root = written.root
    if written.head is not None:
        revision = written.revision + 1
        rows: list[tuple[int, int, int, bytes, bytes]] = []
        for place, payload in enumerate(written.rows, 1):
            root = chained(root, payload)
            rows.append((key, revision, place, payload, root))
        head = written.head(root)
        rows.append((key, revision, 0, head, chained(root, head)))
        claim(connection, session, key, written.revision, revision)
        connection.executemany(
            "INSERT INTO log (session, revision, place, payload, hash) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
    if written.runs:
        marks = ", ".join("?" * (len(COLUMNS) + 2))
        connection.executemany(
            f"INSERT INTO runs (session, {', '.join(COLUMNS)}, hash) VALUES ({marks})",  # noqa: S608
            [(key, *values, run_hash(key, values)) for values in map(run_values, written.runs)],
        )
    return root


LAST = 2**62
"""Revisions past this are nobody's."""


def latest(connection: sqlite3.Connection, session: str, key: int) -> tuple[int, list[str]]:
    """The latest revision of a session (0: there is none), and what is strange about it."""
    row = connection.execute(
        "SELECT id, revision, hash FROM sessions WHERE key = ?", (key,)
    ).fetchone()
    held = next(_revisions(connection, key, LAST), 0)
    if row is None:
        return held, ["it is not in the list of sessions"] if held else []
    told = row[1] if isinstance(row[1], int) and 0 < row[1] < LAST else 0
    if not told or row[0] != _id(session) or row[2] != _mark(session, told):
        return held, ["its entry in the list of sessions is damaged"]
    if held != told:
        return max(held, told), [f"its log ends at snapshot {held} of {told}"]
    return held, []


def _revisions(connection: sqlite3.Connection, key: int, upto: int) -> Iterator[int]:
    """Revisions that the log has rows of, the latest first; one may come again."""
    for (revision,) in connection.execute(
        "SELECT revision FROM log WHERE session = ? AND revision <= ?"
        " AND typeof(revision) = 'integer' ORDER BY revision DESC",
        (key, upto),
    ):
        yield revision


def revisions(connection: sqlite3.Connection, key: int, upto: int) -> Iterator[int]:
    """The given revision, and then each before it that the log has anything of."""
    yield upto
    before = upto
    with _damaged_pages():
        for revision in _revisions(connection, key, upto):
            if 0 < revision < before:
                yield revision
                before = revision


def read(
    connection: sqlite3.Connection, key: int, upto: int, places: Places | None = None
) -> Chain:
    return follow(_stored(connection, key, upto), places)


def _stored(connection: sqlite3.Connection, key: int, upto: int) -> Iterator[Stored]:
    """The rows of a log in order, but for those that lie in damaged pages."""
    after = 0, 0
    with _damaged_pages():
        for row in connection.execute(f"{_ROWS} ORDER BY revision, place", (key, upto)):
            yield row
            after = row[0], row[1]
        return
    # The index tells which there are behind the damage: what was written since rests on none of it.
    places: list[tuple[int, int]] = []
    with _damaged_pages():
        places += connection.execute(
            "SELECT revision, place FROM log WHERE session = ? AND revision <= ? AND place > 0"
            " AND (revision, place) > (?, ?) ORDER BY revision, place",
            (key, upto, *after),
        )
    for place in places:
        with _damaged_pages():
            yield from connection.execute(
                f"{_ROWS} AND (revision, place) = (?, ?)", (key, upto, *place)
            )


_ROWS = (
    "SELECT revision, place, payload, hash FROM log"
    " WHERE session = ? AND revision <= ? AND place > 0"
)


def head_of(connection: sqlite3.Connection, key: int, revision: int) -> tuple[bytes, bytes] | None:
    found: tuple[bytes, bytes] | None = None
    with _damaged_pages():
        found = connection.execute(
            "SELECT payload, hash FROM log WHERE session = ? AND revision = ? AND place = 0",
            (key, revision),
        ).fetchone()
    return found


@contextmanager
def _damaged_pages() -> Iterator[None]:
    """Pass over what SQLite itself cannot read: the hashes tell what is missing then."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # such as a full disk: no damage
            raise
