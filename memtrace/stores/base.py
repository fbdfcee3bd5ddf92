"""What a store is: the protocol, and the values that go in and come out."""

from __future__ import annotations

import os
import threading
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import StoreError
from ..values import LoggedRun
from .rows import Head, Row

if TYPE_CHECKING:
    from .archives import Archives
    from .keeping import Upkeep


class Written(NamedTuple):
    """What one write puts into a session's log: encoded rows, and the snapshot they make.

    Args:
        revision: The revision that it follows: it is refused if that is not the latest.
        rows: Payloads in order.
        root: Hash of the row that they rest on.
        head: The snapshot's head, given its root and the number of rows; None: only the run
            log is written.
        runs: Rows for the run log.
        tags: The session's from now on; None: they stay as they are.
    """

    revision: int
    rows: Sequence[bytes]
    root: bytes
    head: Callable[[bytes], bytes] | None
    runs: Sequence[LoggedRun]
    tags: Sequence[str] | None = None


class Write(Protocol):
    """Something to be written: asked for what it is at the moment of writing.

    Attributes:
        session: Id of the session.
        ticket: Tells its caller what came of it.
        source: Whose changes they are: of one source, one write at a time.
    """

    session: str
    ticket: Ticket
    source: object

    def prepare(self) -> Written:
        """What is to be written.

        Raises:
            StoreError: Something of it cannot be stored.
        """

    def done(self, root: bytes) -> None:
        """It is durable; the hash of its last row."""


class Loaded(NamedTuple):
    """A session as a store gives it back.

    Args:
        revision: The latest revision there is, whole or not.
        whole: The revision that ``head`` and ``rows`` are of: the newest that is whole.
        head: The snapshot's.
        rows: All changes that lead to it, in order.
        missing: What newer snapshots would have held, in words; empty if ``whole`` is the latest.
        asleep: Whether it was read from an archive.
    """

    revision: int
    whole: int
    head: Head
    rows: Sequence[Row]
    missing: Sequence[str]
    asleep: bool = False


class Entry(NamedTuple):
    """One text by which an item is found.

    Args:
        item: The item's id.
        created_at: When that was made: an id alone may come again after a crash.
        start: Where the text begins in the item's, in characters.
        stop: Where it ends.
        words: What it says, with a space between the words; empty: nothing.
    """

    item: str
    created_at: float
    start: int
    stop: int
    words: str


class Indexing(NamedTuple):
    """A change of a session's index.

    Args:
        before: The mark that the index has; empty: there is none yet.
        after: The mark that it gets: any bytes that it never had.
        gone: Ids of items that are not found any more.
        entries: What comes in, after those have gone.
        known: The revision that its writer knows: of a session that was deleted since, nothing
            is indexed. 0: it was never stored.
    """

    before: bytes
    after: bytes
    gone: Sequence[str]
    entries: Sequence[Entry]
    known: int = 0


class Found(NamedTuple):
    """Where a search found something.

    Args:
        item: The item's id.
        start: Where the text that was found begins in the item's, in characters.
        stop: Where it ends.
        score: The higher the better; of one search comparable, of two not.
    """

    item: str
    start: int
    stop: int
    score: float


class OutOfStepError(StoreError):
    """An index is not what its session takes it for: it has to be looked at anew."""


class Damage(NamedTuple):
    """One thing in a store that is not what was written.

    Args:
        session: Whose it is; empty where that cannot be told.
        where: Which row, snapshot or page.
        reason: What is wrong with it.
    """

    session: str
    where: str
    reason: str

    def __str__(self) -> str:
        whose = f"session {self.session!r}, " if self.session else ""
        return f"{whose}{self.where}: {self.reason}"


class Verification(NamedTuple):
    """What :func:`memtrace.verify` found.

    Args:
        sessions: How many sessions there are.
        snapshots: How many snapshots of them.
        rows: How many changes were read and compared with their hashes.
        damages: What is not what was written; empty if all is well.
    """

    sessions: int
    snapshots: int
    rows: int
    damages: tuple[Damage, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages


class Store(Protocol):
    """Where sessions are kept. Safe for threads; several sessions share one.

    Attributes:
        durable: Whether what it took outlives the process.
        name: What to call it in messages.
    """

    durable: bool
    name: str

    def submit(self, write: Write, *, waits: bool = False) -> None:
        """Take in a write; its ticket tells when it is durable, or why it is not.

        Args:
            write: What is to be written.
            waits: Its caller is going to wait for the ticket at once.
        """

    def load(self, session: str, upto: int | None = None) -> Loaded | None:
        """A session's newest whole snapshot, or that of a revision; None: there is none.

        Raises:
            StoreDamagedError: Nothing of it is whole.
        """

    def heads(self, session: str, last: int) -> list[tuple[int, Head]]:
        """The last snapshots that can be read, oldest first, with their revisions."""

    def row(self, session: str, revision: int, place: int) -> Row:
        """One row.

        Raises:
            StoreDamagedError: It is not there, or is not what was written.
        """

    def places(self, session: str) -> dict[str, tuple[int, int]]:
        """Revision and place of the row by which each item of a session came, by its id."""

    def copy(self, session: str, to: str, upto: int) -> None:
        """A new session that holds what another held at a revision, its originals too."""

    def runs(self, session: str) -> list[LoggedRun]:
        """The run log of a session, oldest first."""

    def sessions(self) -> list[str]:
        """Ids of the sessions it holds."""

    def index(self, session: str, change: Indexing) -> Ticket:
        """Change what a session's items are found by; its caller waits for the ticket.

        The ticket raises :class:`OutOfStepError` where ``change.before`` is not its mark, and
        :class:`StaleSessionError` where the session was deleted since its writer knew it.
        """

    def indexed(self, session: str) -> tuple[bytes, dict[str, float]]:
        """The mark of a session's index, and when each item in it was made, by its id."""

    def search(self, session: str, mark: bytes, words: Sequence[str], limit: int) -> list[Found]:
        """What of a session has any of these words, or their other forms, the best first.

        Raises:
            OutOfStepError: Its index has another mark.
        """

    @property
    def upkeep(self) -> Upkeep:
        """What can be done about what it keeps: telling of it, letting it go."""

    @property
    def archives(self) -> Archives:
        """What was put away of it."""

    def check(self) -> Verification:
        """What it holds, and what of it is damaged."""

    def close(self) -> None:
        """Write what waits, and let go of the files. It opens again when it is used."""


class Ticket:
    """What a write will have come to: waited for by a thread, or awaited."""

    __slots__ = ("_error", "_event", "_futures", "_settled", "help")
    _turn = threading.Lock()

    def __init__(self) -> None:
        self.help: Callable[[], None] | None = None  # what a thread that waits can do meanwhile
        self._settled = False
        self._error: BaseException | None = None
        self._event: threading.Event | None = None
        self._futures: list[tuple[AbstractEventLoop, Future[None]]] | None = None

    @property
    def settled(self) -> bool:
        """Whether it is durable, or has failed."""
        return self._settled

    @property
    def error(self) -> BaseException | None:
        """Why it failed; None: it did not, or is not settled."""
        return self._error

    def result(self, timeout: float | None = None) -> None:
        """Wait until it is durable.

        Raises:
            MemtraceError: Why it is not.
        """
        if not self._settled and self.help is not None:
            self.help()
        if not self._settled:
            with Ticket._turn:
                if not self._settled and self._event is None:
                    self._event = threading.Event()
                event = self._event
            if event is not None:
                event.wait(timeout)
        if self._error is not None:
            raise self._error

    def __await__(self) -> Generator[Any, None, None]:
        if not self._settled:
            loop = get_running_loop()
            future: Future[None] = loop.create_future()
            with Ticket._turn:
                waits = not self._settled
                if waits:
                    self._futures = [*(self._futures or ()), (loop, future)]
            if waits:
                yield from future.__await__()
        if self._error is not None:
            raise self._error

    def settle(
        self, error: BaseException | None = None
    ) -> list[tuple[AbstractEventLoop, Future[None]]]:
        """It is durable, or has failed. Gives the futures that are to be woken."""
        with Ticket._turn:
            self._error = error
            self._settled = True
            futures, self._futures = self._futures, None
        if self._event is not None:
            self._event.set()
        return futures or []


def settled() -> Ticket:
    """A ticket that is settled already."""
    ticket = Ticket()
    ticket.settle()
    return ticket


def _after_fork() -> None:
    Ticket._turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
