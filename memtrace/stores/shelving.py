"""What is said to a database about archives: the statements that both have.

``{s}`` is the schema with its dot, ``{now}`` seconds since the epoch by the database's own clock,
``{lock}`` what has others wait for the row, ``?`` a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from ..errors import StoreDamagedError, StoreError
from .asleep import Chunks, ColdError
from .log import id_of, key_of
from .packing import HEADS, Chunk, unpack
from .reading import Stored, follow, read_head

T = TypeVar("T")


class Archive(NamedTuple):
    """What is known of a session besides its log.

    Args:
        session: Its id.
        key: Its key.
        revision: The latest.
        used_at: When it was last written or woken: seconds since the epoch.
        archived_at: When it was put away; None: it is awake.
        cold: Folder in cold storage where objects of it may be; None: there are none.
        moved: Whether its chunks are there alone.
        rows: Rows of its archive; 0: it is awake.
        raw_bytes: What they are unpacked.
        packed_bytes: What they are packed.
    """

    session: str
    key: int
    revision: int
    used_at: float | None
    archived_at: float | None
    cold: str | None
    moved: bool
    rows: int
    raw_bytes: int
    packed_bytes: int


class Desk(Chunks, Protocol):
    """A transaction of a database."""

    def all(self, statement: str, *values: Any) -> list[Any]:
        """What a statement gives."""

    def do(self, statement: str, *values: Any) -> int:
        """How many rows a statement changed."""

    def log(self, key: int) -> Iterable[Stored]:
        """All rows of a session's log in order, heads among them."""

    def insert(self, key: int, rows: Sequence[Stored]) -> None:
        """Put rows into a session's log."""


class Shelf(Protocol):
    """A database that keeps archives.

    Attributes:
        name: The store's.
    """

    name: str

    @property
    def ready(self) -> bool:
        """Whether it is open now."""

    def run(self, work: Callable[[Desk], T], *, writes: bool = False) -> T:
        """What work in one transaction gives; it may be done again."""


LEFTOVER = """
    cold IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM {s}chunks AS c WHERE c.session = sessions.key AND c.payload IS NULL
    )
"""


def state(desk: Desk, session: str, *, lock: bool = False) -> Archive | None:
    """What is known of a session; None: there is none.

    Args:
        desk: The transaction.
        session: The session's id.
        lock: Have nobody else write it before the transaction ends.
    """
    key = key_of(session)
    rows = desk.all(_LOCKED if lock else _STATE, key)
    if not rows or rows[0][0] != id_of(session):
        return None
    facts = desk.all(
        "SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(raw_bytes), 0),"
        " coalesce(sum(packed_bytes), 0), count(payload) FROM {s}chunks WHERE session = ?",
        key,
    )
    _, revision, used_at, archived_at, cold = rows[0]
    count, held, raw_bytes, packed_bytes, here = map(int, facts[0])
    known = session, key, revision, used_at, archived_at, cold
    return Archive(*known, here < count, held, raw_bytes, packed_bytes)


_STATE = "SELECT id, revision, used_at, archived_at, cold FROM {s}sessions WHERE key = ?"
_LOCKED = _STATE + "{lock}"


def state_of(shelf: Shelf, session: str) -> Archive:
    """The same.

    Raises:
        StoreError: There is none.
    """
    found = shelf.run(lambda desk: state(desk, session))
    if found is None:
        raise StoreError(f"there is no session {session!r} in {shelf.name}")
    return found


def idle_for(desk: Desk, found: Archive, idle_s: float) -> bool:
    """Whether a session was neither written nor woken for so many seconds."""
    if idle_s <= 0:
        return True
    statement = "SELECT 1 FROM {s}sessions WHERE key = ? AND used_at <= {now} - ?"
    return bool(desk.all(statement, found.key, idle_s))


def refuse_damaged(seen: Archive, rows: Sequence[Stored], store: str) -> None:
    """Have nothing put away that could not be brought back whole."""
    chain = follow(row for row in rows if row[1])
    head = next(((row[2], row[3]) for row in reversed(rows) if row[:2] == (seen.revision, 0)), None)
    try:
        if chain.damages:
            raise StoreDamagedError(next(iter(chain.damages.values())))
        read_head(chain, seen.revision, head)
    except StoreDamagedError as error:
        raise StoreDamagedError(
            f"session {seen.session!r} in {store} is damaged, so it is not put away: {error}"
        ) from error


def put_away(desk: Desk, seen: Archive, chunks: Sequence[Chunk]) -> Archive | None:
    """Take a session's rows from the log into chunks, if it is what it was seen as."""
    now = state(desk, seen.session, lock=True)
    if now is None or now[:5] != seen[:5]:
        return None
    desk.do("DELETE FROM {s}chunks WHERE session = ?", seen.key)
    for chunk in chunks:
        desk.do(
            "INSERT INTO {s}chunks"
            " (session, number, rows, raw_bytes, packed_bytes, payload, hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            seen.key,
            *chunk,
        )
    desk.do("DELETE FROM {s}log WHERE session = ?", seen.key)
    desk.do("UPDATE {s}sessions SET archived_at = {now} WHERE key = ?", seen.key)
    return state(desk, seen.session)


def wake(session: str, fetched: Mapping[int, bytes], since: float | None, desk: Desk) -> bool:
    """Take a session's rows from its chunks into the log; False: it is awake.

    Args:
        session: Its id.
        fetched: Payloads of the chunks that are in cold storage.
        since: Only if it was put away then; None: whenever that was.
        desk: The transaction.

    Raises:
        ColdError: More of them are.
    """
    found = state(desk, session, lock=True)
    if found is None or found.archived_at is None or since not in (None, found.archived_at):
        return False
    for chunk in desk.chunks(found.key):
        payload = chunk.payload if chunk.payload is not None else fetched.get(chunk.number)
        if payload is None:
            raise ColdError(f"session {session!r} is in cold storage")
        try:
            rows = list(unpack(found.key, chunk._replace(payload=payload)))
        except StoreDamagedError:
            continue
        desk.insert(found.key, rows)
        desk.do("DELETE FROM {s}chunks WHERE session = ? AND number = ?", found.key, chunk.number)
    desk.do("UPDATE {s}sessions SET archived_at = NULL, used_at = {now} WHERE key = ?", found.key)
    return True


# --- moving ---------------------------------------------------------------------------------------


def note(desk: Desk, seen: Archive, folder: str) -> bool:
    """Have it known where objects are going to be, before any is."""
    return bool(
        desk.do(
            "UPDATE {s}sessions SET cold = ? WHERE key = ? AND archived_at = ? AND cold IS NULL",
            folder,
            seen.key,
            seen.archived_at,
        )
    )


def let_go(desk: Desk, seen: Archive, folder: str, chunks: Sequence[Chunk]) -> Archive | None:
    """Let go of what is in cold storage, if the session still sleeps as it did."""
    now = state(desk, seen.session, lock=True)
    if now is None or (now.archived_at, now.cold) != (seen.archived_at, folder):
        return None
    for chunk in chunks:
        if chunk.number != HEADS:
            desk.do(
                "UPDATE {s}chunks SET payload = NULL WHERE session = ? AND number = ?",
                seen.key,
                chunk.number,
            )
    return state(desk, seen.session)


def give_up(desk: Desk, session: str) -> str | None:
    """Have a folder that holds nothing of a session's be nobody's; gives its name from then on.

    A move that is under way to it finds that its folder is called otherwise, and lets go of
    nothing. The name, with a slash at its end, is of the same objects.
    """
    now = state(desk, session, lock=True)
    if now is None or now.cold is None or now.moved:
        return None
    folder = f"{now.cold.rstrip('/')}/"
    desk.do("UPDATE {s}sessions SET cold = ? WHERE key = ?", folder, now.key)
    return folder
