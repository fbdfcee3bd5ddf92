"""The embedded store: one SQLite file, or memory alone.

One connection writes and checkpoints, guarded by one lock: SQLite 3.7.0-3.51.2 can lose what was
committed where two connections of a process do. Processes take turns by ``BEGIN IMMEDIATE``,
which waits where a deferred transaction would fail.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Literal

from ..errors import StaleSessionError, StoreDamagedError, StoreError, StoreVersionError
from ..values import LoggedRun
from . import log, writer
from . import search as searching
from .archives import Archives
from .asleep import AsleepError, Whole
from .base import Found, Indexing, Loaded, Ticket, Verification, Write
from .log import key_of
from .reading import Places
from .rows import Head, Row
from .runs import COLUMNS, run_from
from .schema import APPLICATION_ID, MIGRATIONS, VERSION
from .sqlite_archive import SQLiteDesk, SQLiteShelf
from .statements import SQLiteLog, claim, put, refuse_deleted

if TYPE_CHECKING:
    from .deleting import SQLiteUpkeep

MEMORY = ":memory:"

Synchronous = Literal["FULL", "NORMAL"]

_PAGE_BYTES = 8192
"""Three messages of 2 KB fit, where SQLite's default of 4,096 takes one and leaves half empty."""

_BUSY_S = 30.0
"""Seconds to wait for another process's transaction."""

_AGAIN_S = 0.002
"""Seconds between attempts where SQLite itself does not wait."""


class SQLiteStore:
    """Sessions in one SQLite database.

    Args:
        path: Of the file, which is made (mode 0600) if it is not there; ``:memory:``: nowhere.
        synchronous: ``FULL``: what is acknowledged survives a power cut. ``NORMAL``: it
            survives the process, and a power cut may take the last moments.

    Attributes:
        durable: Whether there is a file.
        name: The path.

    Raises:
        StoreError: The file cannot be opened, or is no store.
        StoreVersionError: A newer memtrace wrote it.
    """

    def __init__(self, path: str | Path = MEMORY, *, synchronous: Synchronous = "FULL") -> None:
        self.name = os.fspath(path)
        self.durable = self.name != MEMORY
        self._synchronous = synchronous
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._finalizer: Callable[[], object] | None = None
        self._damaged = ""
        with _adding:
            _stores.add(self)
        if self.durable:
            with self._reading():
                pass

    def __repr__(self) -> str:
        return f"<SQLiteStore {self.name!r}>"

    # --- the connection -----------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for as long as the block; SQLite's errors leave it as memtrace's."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connect()
                assert self._connection is not None
                yield self._connection
            except sqlite3.Error as error:
                raise _typed(error, self.name) from error

    def _connect(self) -> None:
        if self.durable:
            _touch(self.name)
        connection = sqlite3.connect(
            self.name, isolation_level=None, timeout=_BUSY_S, check_same_thread=False
        )
        try:
            _set_up(connection, self.name, self._synchronous if self.durable else "OFF")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._finalizer = finalizer = weakref.finalize(self, _close, connection, os.getpid())
        finalizer.atexit = False  # what waits is written first: see `_close_all`

    def close(self) -> None:
        """Write what waits, and let go of the file. It opens again when it is used."""
        if self.durable:
            writer.drain()
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._connection = self._finalizer = None

    def _release(self) -> None:
        """Let go of the file, before a fork. Called under the lock."""
        if self.durable and self._finalizer is not None:
            self._finalizer()
            self._connection = self._finalizer = None

    def _forked(self, held: bool) -> None:
        """This is a child process. What could not be let go of is neither used nor closed here:
        either would break the parent's locks."""
        self._lock = threading.RLock()
        if self._connection is not None and (self.durable or not held):
            _leaked.append(self._connection)
            self._connection = self._finalizer = None

    # --- writing ------------------------------------------------------------------------------

    def submit(self, write: Write, *, waits: bool = False) -> None:
        """Take in a write; its ticket tells when it is durable, or why it is not."""
        if not self.durable:
            writer.settle([write], writer.committed(self, [write]))
        elif waits:
            write.ticket.help = writer.help_out
            writer.put(self, write)
        else:
            writer.submit(self, write)

    def commit(self, writes: Sequence[Write]) -> list[BaseException | None]:
        """Write all in one transaction; for each, why it was not written."""
        errors: dict[int, BaseException] = {}
        roots: dict[int, bytes] = {}
        while True:
            try:
                self._refuse_damaged()
                with self._reading() as connection, _transaction(connection):
                    self._put(connection, writes, errors, roots)
                break
            except _Sleeps as sleeps:
                error = self._woken(sleeps.session)
                if error is not None:
                    errors[sleeps.index] = error
            except _Unfit as unfit:  # what was written of it goes, the others are written anew
                errors[unfit.index] = StoreError(
                    f"session {writes[unfit.index].session!r} cannot be written to {self.name}: "
                    f"{type(unfit.error).__name__}: {unfit.error}"
                )
            except Exception as error:  # nothing of the transaction is there
                return [errors.get(index, error) for index in range(len(writes))]
        for index, root in roots.items():
            writes[index].done(root)
        return [errors.get(index) for index in range(len(writes))]

    def _woken(self, session: str) -> Exception | None:
        """Wake a session that is about to be written; why that failed. Not in a transaction: what
        it holds may have to be fetched from far away."""
        try:
            self.archives.wake(session)
        except Exception as error:
            return error
        return None

    def _refuse_damaged(self) -> None:
        if self._damaged:
            raise StoreDamagedError(
                f"pages of {self.name} are damaged, so nothing more is written to it; its sessions "
                f"can be read, and go on in another store: {self._damaged}"
            )

    @staticmethod
    def _put(
        connection: sqlite3.Connection,
        writes: Sequence[Write],
        errors: dict[int, BaseException],
        roots: dict[int, bytes],
    ) -> None:
        roots.clear()
        for index, write in enumerate(writes):
            if index in errors:
                continue
            try:
                roots[index] = put(connection, write.session, write.prepare())
            except (StaleSessionError, StoreError) as error:
                errors[index] = error
            except AsleepError as error:
                raise _Sleeps(index, write.session) from error
            except sqlite3.DatabaseError as error:
                if isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError)):
                    raise _Unfit(index, error) from error
                raise  # the database's own: it is everybody's
            except Exception as error:
                raise _Unfit(index, error) from error

    def _suspect(self, connection: sqlite3.Connection) -> None:
        """Something is damaged: where it is the database's own pages, no more is written to them.

        What is written into damaged pages may not be found again, so it must not be acknowledged.
        """
        found = [text for (text,) in connection.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            self._damaged = found[0]

    # --- reading ------------------------------------------------------------------------------

    def load(self, session: str, upto: int | None = None) -> Loaded | None:
        """A session's newest whole snapshot, or that of a revision; None: there is none."""
        with self._transaction(False) as connection:
            whole = self._whole(connection)
            loaded, well = log.load(whole, session, upto)
            if not well:
                self._suspect(connection)
        return loaded and loaded._replace(asleep=whole.used)

    def _whole(self, connection: sqlite3.Connection) -> Whole:
        return Whole(SQLiteLog(connection, self.name), SQLiteDesk(connection))

    def heads(self, session: str, last: int) -> list[tuple[int, Head]]:
        """The last snapshots that can be read, oldest first, with their revisions."""
        with self._transaction(False) as connection:
            return log.heads(self._whole(connection), session, last)

    def row(self, session: str, revision: int, place: int) -> Row:
        """One row, compared with its hash."""
        with self._transaction(False) as connection:
            return log.row(self._whole(connection), session, revision, place)

    def places(self, session: str) -> Places:
        """Revision and place of the row by which each item of a session came, by its id."""
        with self._transaction(False) as connection:
            return log.places(self._whole(connection), session)

    def runs(self, session: str) -> list[LoggedRun]:
        """The run log of a session, oldest first."""
        key = key_of(session)
        with self._reading() as connection:
            # No row tells of the next, so the table is read, and the index tells how many: where
            # a page of either is damaged, rows that are there can no longer be found.
            rows = connection.execute(
                f"SELECT {', '.join(COLUMNS)}, hash FROM runs NOT INDEXED"  # noqa: S608
                " WHERE session = ? ORDER BY seq",
                (key,),
            ).fetchall()
            count = connection.execute(
                "SELECT count(*) FROM runs INDEXED BY runs_of WHERE session = ?", (key,)
            ).fetchone()[0]
        if count != len(rows):
            raise StoreDamagedError(
                f"the run log of session {session!r} in {self.name} has {len(rows)} rows of {count}"
            )
        return [run_from(key, row) for row in rows]

    def sessions(self) -> list[str]:
        """Ids of the sessions it holds; a warning tells of those whose ids are damaged."""
        with self._reading() as connection:
            return log.sessions(self._whole(connection))

    def copy(self, session: str, to: str, upto: int) -> None:
        """A new session that holds what another held at a revision, its originals too."""
        key, new = key_of(session), key_of(to)
        self._refuse_damaged()
        self.archives.wake(session)
        with self._reading() as connection, _transaction(connection):
            claim(connection, to, new, 0, upto)
            connection.execute(
                "INSERT INTO log (session, revision, place, payload, hash)"
                " SELECT ?, revision, place, payload, hash FROM log"
                " WHERE session = ? AND revision <= ? ORDER BY revision, place",
                (new, key, upto),
            )
            connection.execute(
                "UPDATE sessions SET tags = (SELECT tags FROM sessions WHERE key = ?)"
                " WHERE key = ? AND EXISTS (SELECT 1 FROM sessions WHERE key = ?)",
                (key, new, key),
            )

    # --- putting away -------------------------------------------------------------------------

    @property
    def archives(self) -> Archives:
        """What was put away of it."""
        return Archives(SQLiteShelf(self.name, self._connection is not None, self._transaction))

    @contextmanager
    def _transaction(self, writes: bool) -> Iterator[sqlite3.Connection]:
        if writes:
            self._refuse_damaged()
        with (
            self._reading() as connection,
            _transaction(connection, "IMMEDIATE" if writes else "DEFERRED"),
        ):
            yield connection

    # --- searching ----------------------------------------------------------------------------

    def index(self, session: str, change: Indexing) -> Ticket:
        """Change what a session's items are found by; its caller waits for the ticket."""
        job = searching.Job(session, key_of(session), change)
        return searching.submit(searching.Index(self._index), job, threaded=self.durable)

    def _index(self, session: str, key: int, change: Indexing) -> None:
        self._refuse_damaged()
        with self._reading() as connection, _transaction(connection):
            refuse_deleted(connection, session, key, change.known)
            searching.put(connection, key, change)

    def indexed(self, session: str) -> tuple[bytes, dict[str, float]]:
        """The mark of a session's index, and when each item in it was made, by its id."""
        with self._reading() as connection:
            return searching.indexed(connection, key_of(session))

    def search(self, session: str, mark: bytes, words: Sequence[str], limit: int) -> list[Found]:
        """What of a session has any of these words, or their other forms, the best first."""
        with self._reading() as connection:
            return searching.search(connection, key_of(session), mark, words, limit)

    @property
    def upkeep(self) -> SQLiteUpkeep:
        """What can be done about what it keeps: telling of it, letting it go."""
        from .deleting import SQLiteUpkeep

        return SQLiteUpkeep(self)

    def check(self) -> Verification:
        """What it holds, and what of it is damaged."""
        from .checking import check, check_one, with_cold

        def look(session: str, fetched: Mapping[int, bytes]) -> Verification:
            with self._reading() as connection:
                whole = Whole(SQLiteLog(connection, self.name), SQLiteDesk(connection), fetched)
                return check_one(whole, key_of(session), session)

        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT session, {', '.join(COLUMNS)}, hash FROM runs"  # noqa: S608
            )
            runs = ((key, row) for key, *row in rows)
            pages = _integrity(connection)
            found, cold = check(self._whole(connection), runs, pages, sqlite3.DatabaseError)
        return with_cold(found, cold, self.archives, look)


def _integrity(connection: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds damaged."""
    try:
        found = [text for (text,) in connection.execute("PRAGMA integrity_check(20)")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else found


class _Sleeps(Exception):
    """A write is for a session that sleeps."""

    def __init__(self, index: int, session: str) -> None:
        super().__init__(index)
        self.index = index
        self.session = session


class _Unfit(Exception):
    """A write that no database could take; it takes no other with it."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(index)
        self.index = index
        self.error = error


# --- set-up ---------------------------------------------------------------------------------------


def _touch(path: str) -> None:
    """Make the file if it is not there, readable by its owner alone."""
    folder = Path(path).parent
    if not os.path.isdir(folder):  # noqa: PTH112  (`Path.is_dir` raises without rights)
        raise StoreError(
            f"cannot open the store {path}: there is no folder {folder}; make it first, "
            f"for example: mkdir -m 700 {folder}"
        )
    try:
        # One that is there is not opened by us: closing it would end SQLite's locks on it.
        if not os.path.exists(path):  # noqa: PTH110
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        elif not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError("no right to write it")
        elif _cut_short(Path(path)):
            raise StoreDamagedError(f"{path} was cut short: nothing of it is left")
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot open the store {path}: {error}") from error


def _cut_short(path: Path) -> bool:
    """Whether it was a database, and so little is left of it that SQLite would take it for new."""
    size = path.stat().st_size
    wal = Path(f"{path}-wal")
    if not path.is_file() or size >= _LEAST_BYTES:
        return False
    return size > 0 or (wal.is_file() and wal.stat().st_size > 0)


_LEAST_BYTES = 512
"""No database is smaller: a page has so much at least."""


def _set_up(connection: sqlite3.Connection, name: str, synchronous: str) -> None:
    connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    # Damage can make any column text, of any bytes: reading it is no error, its hash will be.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    with _transaction(connection, "DEFERRED"):  # another process may be making it just now
        version = _version(connection, name)
    if version == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    if name != MEMORY:
        _use_wal(connection)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    if version < VERSION:
        _migrate(connection, name)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to a WAL: where processes do so at the same time, SQLite lets none of them wait."""
    end = monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > end:
                raise
            sleep(_AGAIN_S)


def _version(connection: sqlite3.Connection, name: str) -> int:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application == APPLICATION_ID:
        if version > VERSION:
            raise StoreVersionError(
                f"{name} was written by a newer memtrace (form {version}; this one knows up to "
                f"{VERSION}): update memtrace-otel"
            )
        return version
    if application or version or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise StoreError(f"{name} is a SQLite database, but no store of memtrace's")
    return 0


def _migrate(connection: sqlite3.Connection, name: str) -> None:
    with _transaction(connection):
        # Another process may have been first.
        for version in range(_version(connection, name), VERSION):
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


class _transaction:  # noqa: N801  (used as a function; a generator would take three times as long)
    """A block whose writes are all there after it, or none."""

    __slots__ = ("_connection", "_kind")

    def __init__(self, connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> None:
        self._connection = connection
        self._kind = kind

    def __enter__(self) -> None:
        self._connection.execute(f"BEGIN {self._kind}")

    def __exit__(self, failed: object, error: object, traceback: object) -> None:
        try:
            if failed is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")


def _typed(error: sqlite3.Error, name: str) -> StoreError:
    text = str(error)
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        kind: type[StoreError] = StoreDamagedError
        if "not a database" in text:
            return StoreError(f"{name} is no SQLite database, so it cannot be a store")
    else:
        kind = StoreError
    return kind(f"the store {name} failed: {text}")


def _close(connection: sqlite3.Connection, process: int) -> None:
    if os.getpid() == process:
        with suppress(sqlite3.Error):
            connection.close()
    else:
        _leaked.append(connection)


_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()
_adding = threading.Lock()
_held: list[SQLiteStore] = []
_leaked: list[sqlite3.Connection] = []

_FORK_S = 10.0
"""Seconds to wait, before a fork, for a write that is under way."""


def _all() -> list[SQLiteStore]:
    with _adding:
        return list(_stores)


def _before_fork() -> None:
    """Have nothing open when the process forks.

    SQLite keeps a process's locks in its memory. A child would inherit them: one held by a write
    that was under way it would find held for ever, and one that it believes to hold its parent
    would not know of, which then deletes the WAL from under it.
    """
    _held[:] = [store for store in _all() if store._lock.acquire(timeout=_FORK_S)]
    for store in _held:
        store._release()


def _after_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()


def _after_in_child() -> None:
    global _adding
    _adding = threading.Lock()
    for store in list(_stores):
        store._forked(store in _held)
    _held.clear()


@atexit.register
def _close_all() -> None:
    for store in _all():
        store.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent)
writer.after_fork(_after_in_child)
