"""The store for many machines: a PostgreSQL database.

What it holds, and what makes it sure of it, is what the embedded store has: a log of rows with
chained hashes, and one conditional statement that takes a session's next revision.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeVar

import psycopg

from ..errors import StaleSessionError, StoreError
from ..values import LoggedRun
from . import log, writer
from . import postgres_search as searching
from . import postgres_writing as writing
from . import search as jobs
from .archives import Archives
from .asleep import AsleepError, Whole
from .base import Found, Indexing, Loaded, Ticket, Verification, Write
from .log import key_of
from .postgres_address import DAMAGED, Address
from .postgres_archive import PostgresDesk, PostgresShelf
from .postgres_log import PostgresLog, newest, snapshot
from .postgres_pool import Connection, Pool
from .postgres_schema import VERSION, migrate, version
from .postgres_writing import Entry
from .reading import Places
from .rows import Head, Row
from .runs import run_from

if TYPE_CHECKING:
    from .postgres_deleting import PostgresUpkeep

T = TypeVar("T")


class PostgresStore:
    """Sessions in one schema of a PostgreSQL database.

    Args:
        url: ``postgresql://user:password@host:5432/database``, with libpq's options after a
            question mark; ``schema=name`` names the schema that holds its tables, ``memtrace``
            where it does not. What is not there of the schema is made.
        make: False: the schema has to be there.

    Attributes:
        durable: What is acknowledged outlives the process, and the server's.
        name: The address without its password.

    Raises:
        ConfigurationError: The address cannot be read.
        StoreError: There is no such server or database, or it refuses.
        StoreVersionError: A newer memtrace made the schema.
    """

    durable = True

    def __init__(self, url: str, *, make: bool = True) -> None:
        address = Address(url)
        self.name = address.name
        self._schema = address.schema
        self._pool = Pool(address)
        self._stems = searching.Stems(address.schema)
        self._unsure: dict[str, set[bytes]] = {}  # of writes nobody knows the fate of, by session
        with _adding:
            _stores.add(self)
        self._pool.run(lambda connection: self._set_up(connection, make))

    def __repr__(self) -> str:
        return f"<PostgresStore {self.name!r}>"

    def _set_up(self, connection: Connection, make: bool) -> None:
        found = version(connection, self._schema, self.name)
        if not found and not make:
            raise StoreError(f"there is no store {self.name}")
        if found < VERSION:
            migrate(connection, self._schema, self.name)

    def close(self) -> None:
        """Write what waits, and let go of the connections. It opens again when it is used."""
        writer.drain()
        self._pool.close()

    # --- writing ------------------------------------------------------------------------------

    def submit(self, write: Write, *, waits: bool = False) -> None:
        """Take in a write; its ticket tells when it is durable, or why it is not."""
        if waits:
            write.ticket.help = writer.help_out
            writer.put(self, write)
        else:
            writer.submit(self, write)

    def commit(self, writes: Sequence[Write]) -> list[BaseException | None]:
        """Write all in one transaction; for each, why it was not written."""
        errors: dict[int, BaseException] = {}
        entries: list[Entry] = []
        for index, write in enumerate(writes):
            try:
                entries.append(writing.entry_of(index, write))
            except StoreError as error:
                errors[index] = error
            except Exception as error:
                errors[index] = self._unfit(write.session, error)
        # In one order everywhere: two processes with the same sessions never wait in a circle.
        entries.sort(key=lambda entry: entry.key)
        if entries:
            errors.update(self._write(entries))
        for entry in entries:
            if entry.at not in errors:
                writes[entry.at].done(entry.root)
        return [errors.get(index) for index in range(len(writes))]

    def _write(self, entries: list[Entry]) -> dict[int, BaseException]:
        """Write what was prepared; why not, by place."""
        try:
            left = self._pool.run(lambda connection: self._send(connection, entries))
        except StoreError as error:
            if not _refused(error):
                return {entry.at: error for entry in entries}
            if len(entries) > 1:  # what was refused of it takes no other with it
                return {i: e for entry in entries for i, e in self._write([entry]).items()}
            return {entries[0].at: error}
        waiting = {entry.at for entry in left}
        self._settled([entry for entry in entries if entry.at not in waiting])
        looked = {entry.at: self._look(entry) for entry in left}
        return {index: error for index, error in looked.items() if error is not None}

    def _send(self, connection: Connection, entries: list[Entry]) -> list[Entry]:
        for entry in entries:
            if entry.rows:
                self._unsure.setdefault(entry.session, set()).add(entry.digest)
        return writing.send(connection, self._schema, entries)

    def _look(self, entry: Entry) -> BaseException | None:
        """Write one that needs a closer look; why it was not written."""
        unsure = self._unsure.get(entry.session, set())

        def look(connection: Connection) -> None:
            writing.look(connection, self._schema, entry, unsure)

        try:
            try:
                self._pool.run(look)
            except AsleepError:  # woken outside a transaction: it may have to be fetched from afar
                self.archives.wake(entry.session)
                self._pool.run(look)
        except StaleSessionError as error:
            self._settled([entry])
            return error
        except StoreError as error:
            return error
        self._settled([entry])
        return None

    def _settled(self, entries: Sequence[Entry]) -> None:
        """What these came to is known, and so is what came before."""
        for entry in entries:
            if entry.rows:
                self._unsure.pop(entry.session, None)

    def _unfit(self, session: str, error: BaseException) -> StoreError:
        return StoreError(
            f"session {session!r} cannot be written to {self.name}: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        )

    # --- reading ------------------------------------------------------------------------------

    def _read(self, work: Callable[[PostgresLog], T], *, one: bool = False) -> T:
        """What is read of the log as it is at one moment; what is damaged of it is passed over.

        Where it is by one statement, that needs no transaction, which takes two round trips.
        """

        def at_once(connection: Connection) -> T:
            try:
                with nullcontext() if one else snapshot(connection):
                    return work(PostgresLog(connection, self._schema, self.name))
            except DAMAGED:
                return work(PostgresLog(connection, self._schema, self.name, careful=True))

        return self._pool.run(at_once)

    def load(self, session: str, upto: int | None = None) -> Loaded | None:
        """A session's newest whole snapshot, or that of a revision; None: there is none."""
        if upto is None:
            loaded, well = self._pool.run(lambda c: newest(c, self._schema, self.name, session))
            if well:
                return loaded

        def whole(found: PostgresLog) -> Loaded | None:
            log_ = self._whole(found)
            read = log.load(log_, session, upto)[0]
            return read and read._replace(asleep=log_.used)

        return self._read(whole)

    def _whole(self, found: PostgresLog, fetched: Mapping[int, bytes] | None = None) -> Whole:
        return Whole(found, PostgresDesk(found.connection, self._schema), fetched)

    def heads(self, session: str, last: int) -> list[tuple[int, Head]]:
        """The last snapshots that can be read, oldest first, with their revisions."""
        awake = self._read(lambda found: log.heads(found, session, last), one=True)
        key = key_of(session)
        if awake or self._read(lambda found: found.entry(key), one=True) is None:
            return awake
        # It sleeps, or was woken just now: what is in neither place yet is in one at any moment.
        return self._read(lambda found: log.heads(self._whole(found), session, last))

    def row(self, session: str, revision: int, place: int) -> Row:
        """One row, compared with its hash."""
        return self._read(lambda found: log.row(self._whole(found), session, revision, place))

    def places(self, session: str) -> Places:
        """Revision and place of the row by which each item of a session came, by its id."""
        return self._read(lambda found: log.places(self._whole(found), session))

    def runs(self, session: str) -> list[LoggedRun]:
        """The run log of a session, oldest first."""
        rows = self._read(lambda found: list(found.runs(key_of(session))))
        return [run_from(key, row) for key, row in rows]

    def sessions(self) -> list[str]:
        """Ids of the sessions it holds; a warning tells of those whose ids are damaged."""
        return self._read(lambda found: log.sessions(self._whole(found)))

    def copy(self, session: str, to: str, upto: int) -> None:
        """A new session that holds what another held at a revision, its originals too."""
        self.archives.wake(session)
        self._pool.run(lambda c: writing.copy(c, self._schema, session, to, upto))

    @property
    def archives(self) -> Archives:
        """What was put away of it."""
        return Archives(PostgresShelf(self.name, self._pool, self._schema))

    @property
    def upkeep(self) -> PostgresUpkeep:
        """What can be done about what it keeps: telling of it, letting it go."""
        from .postgres_deleting import PostgresUpkeep

        return PostgresUpkeep(self)

    def check(self) -> Verification:
        """What it holds, and what of it is damaged."""
        from .checking import check, check_one, with_cold

        def look(session: str, fetched: Mapping[int, bytes]) -> Verification:
            key = key_of(session)
            return self._read(lambda found: check_one(self._whole(found, fetched), key, session))

        found, cold = self._read(
            lambda found: check(self._whole(found), found.runs(), (), psycopg.Error)
        )
        return with_cold(found, cold, self.archives, look)

    # --- searching ----------------------------------------------------------------------------

    def index(self, session: str, change: Indexing) -> Ticket:
        """Change what a session's items are found by; its caller waits for the ticket."""
        job = jobs.Job(session, key_of(session), change)
        return jobs.submit(jobs.Index(self._index), job, threaded=True)

    def _index(self, session: str, key: int, change: Indexing) -> None:
        def work(connection: Connection) -> None:
            with connection.transaction():
                writing.refuse_deleted(connection, self._schema, session, change.known)
                searching.put(connection, self._schema, self._stems, key, change)

        self._pool.run(work)

    def indexed(self, session: str) -> tuple[bytes, dict[str, float]]:
        """The mark of a session's index, and when each item in it was made, by its id."""
        return self._pool.run(lambda c: searching.indexed(c, self._schema, key_of(session)))

    def search(self, session: str, mark: bytes, words: Sequence[str], limit: int) -> list[Found]:
        """What of a session has any of these words, or their other forms, the best first."""
        key = key_of(session)

        def work(connection: Connection) -> list[Found]:
            return searching.search(connection, self._schema, self._stems, key, mark, words, limit)

        return self._pool.run(work)


def _refused(error: StoreError) -> bool:
    """Whether it is one of the writes that is at fault, not the server."""
    cause = error.__cause__
    if isinstance(cause, (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)):
        return True
    return isinstance(cause, psycopg.Error) and not isinstance(
        cause, (psycopg.OperationalError, psycopg.InterfaceError)
    )


# --- forks and the end ----------------------------------------------------------------------------

_stores: weakref.WeakSet[PostgresStore] = weakref.WeakSet()
_adding = threading.Lock()


def _all() -> list[PostgresStore]:
    with _adding:
        return list(_stores)


def _after_in_child() -> None:
    global _adding
    _adding = threading.Lock()
    for store in list(_stores):
        store._pool.leave()


@atexit.register
def _close_all() -> None:
    for store in _all():
        store.close()


writer.after_fork(_after_in_child)
