"""What changed in a session since it was last stored, in order, and how it is stored.

Nothing is noted until something is first kept: a session that takes no snapshot pays one
comparison a change. From then on each change waits here until a write takes it to the store;
one that fails leaves all in place, for the next to take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import StoreError
from ..layers import Change
from ..telemetry import spans
from ..values import LAYERS, Item, Layer, LoggedRun
from .rows import STEPS, row_of

if TYPE_CHECKING:
    from ..stores import Loaded, Row, Store, Ticket, Written

PLAIN = (dict, list, str, int, float, bool, bytes, type(None))
"""Types that come back from a store as they were."""

KEPT_RUNS = 1000
"""Rows of the run log that are kept where no durable store takes them."""

_RUNS, _RUNS_S = 64, 5.0
"""Rows of the run log, and seconds, after which they are written without a checkpoint."""

_ALONG, _ALONG_S = 16, 1.0
"""Rows of the run log, and seconds, after which they go along with one: it touches fewer pages
without them."""


@cache
def _stores() -> Any:
    """The package of stores, loaded when something is first kept."""
    from .. import stores

    return stores


class Taken(NamedTuple):
    """What is known of a snapshot at the moment it is taken.

    Args:
        id: Unique in its session.
        name: As given.
        created_at: Seconds since the epoch.
        tokens: The session's total.
        items: Number of items.
        facts: The session's counters and its budget.
    """

    id: str
    name: str
    created_at: float
    tokens: int
    items: int
    facts: dict[str, Any]


@dataclass(slots=True)
class Loop:
    """How far a loop over steps came.

    Attributes:
        done: Hashes of the steps that are done, in order.
        open: Whether it has not come to its end.
        revision: Of the snapshot that was taken as its latest step began; 0: none yet.
    """

    done: list[bytes] = field(default_factory=list)
    open: bool = False
    revision: int = 0


class Journal:
    """Changes of one session on their way to its store.

    Attributes:
        durable: Whether the store outlives the process.
        revision: The latest revision of the session that is stored and known here; 0: none.
        loops: Loops over steps, by name.
        run_rows: What rows of the run log that wait are made of, oldest first: the last 1,000
            where no durable store takes them, the last 10,000 where that fails.
    """

    def __init__(
        self, session: str, lock: Any, open_store: Callable[[], Store], durable: bool
    ) -> None:
        self.durable = durable
        self._logged_at = 0.0
        self._session = session
        self._lock = lock
        self._open = open_store
        self._store: Store | None = None
        self._changes: list[Change] | None = None
        self._taken = 0  # how many changes were written ever: the number of the first that waits
        self._rests_on = 0  # the revision that the waiting changes follow
        self._root = b""
        self._roots: dict[str, tuple[int, bytes]] = {}  # revision and root by snapshot id
        self._came: dict[str, dict[str, Loop]] = {}  # how far loops were, by snapshot id
        # Of the write that is being made: where items will be, which of them come back as they
        # were, and which loops it tells of.
        self._coming: dict[str, tuple[int, int]] = {}
        self._exact: list[str] = []
        self._loops: set[str] = set()
        self.run_rows: deque[tuple[Any, ...]] = deque(
            maxlen=10 * KEPT_RUNS if durable else KEPT_RUNS
        )
        self._logging: Ticket | None = None
        self._last: Ticket | None = None
        self.revision = 0
        self.tags: tuple[str, ...] | None = None  # to be written with the next snapshot
        # Revision and place of the row by which each stored item came, by its id: of what was
        # there already only once it is asked for.
        self._places: dict[str, tuple[int, int]] = {}
        self._unread = False
        self.loops: dict[str, Loop] = {}
        self.released: Callable[[Iterable[str]], None] = lambda ids: None

    # --- noting -----------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether changes are noted."""
        return self._changes is not None

    @property
    def waiting(self) -> int:
        """How many changes wait to be written."""
        return len(self._changes) if self._changes is not None else 0

    @property
    def store(self) -> Store:
        """The session's store, opened when it is first asked for."""
        if self._store is None:
            self._store = self._open()
        return self._store

    def note(
        self,
        op: str,
        layer: int = 0,
        place: int = 0,
        key: Any = None,
        item: Item | None = None,
        extra: Any = None,
    ) -> None:
        """Take in a change that was made. Called under the session's lock."""
        if self._changes is not None:
            self._changes.append(Change(op, layer, place, key, item, extra))

    def begin(self, changes: Iterable[Change]) -> None:
        """Note from now on, beginning with the changes that lead to the present state."""
        self._changes = list(changes)

    def rest(self) -> None:
        """Note nothing: memory is about to be made what a store has."""
        self._changes = None
        self.loops = {}

    def log(self, now: float) -> None:
        """A row was put into the run log: have it written, if that was not done lately."""
        if len(self.run_rows) < _RUNS and now - self._logged_at < _RUNS_S:
            return
        self._logged_at = now
        failed = self._logging.error if self._logging is not None else None
        with self._lock:
            self._logging = self.write(None)
        if failed is not None:
            spans.failure("run log", failed)

    def waiting_runs(self) -> tuple[LoggedRun, ...]:
        """The run log's rows that are not written yet, oldest first."""
        return tuple(map(_row, tuple(self.run_rows)))

    def step(self, op: str, name: str, extra: Any = None) -> None:
        """A loop over steps begins after so many of them, is a step further, or ends."""
        with self._lock:
            self.told(op, name, extra)
            self.note(op, STEPS, 0, name, None, extra)

    def steps_done(self, name: str) -> tuple[bytes, ...]:
        """Hashes of the steps that a loop completed, in order."""
        loop = self.loops.get(name)
        return tuple(loop.done) if loop is not None else ()

    def told(self, op: str, name: str, extra: Any, revision: int = 0) -> None:
        """The same, as a store tells it of a revision; nothing is noted."""
        loop = self.loops.setdefault(name, Loop())
        loop.open = op != "end"
        if op == "begin":
            del loop.done[int(extra) :]
        elif op == "done" and isinstance(extra, bytes):
            loop.done.append(extra)
        elif op != "end":
            raise ValueError(f"no change {op!r} of steps with {type(extra).__name__}")
        loop.revision = revision or loop.revision

    # --- writing ----------------------------------------------------------------------------

    def write(self, taken: Taken | None, *, waits: bool = False) -> Ticket:
        """Have what waits written, as a snapshot; None: the run log alone.

        Called under the session's lock, and never waits for the disk.

        Args:
            taken: The snapshot.
            waits: The caller is going to wait for the ticket, once it has left the lock.
        """
        ticket: Ticket = _stores().Ticket()
        mark = self._taken + self.waiting
        runs = taken is None or (
            len(self.run_rows) >= _ALONG or taken.created_at - self._logged_at > _ALONG_S
        )
        write = _Write(self, taken, mark, ticket, runs)
        if taken is not None:
            self._last = ticket
            if runs:
                self._logged_at = taken.created_at
            self._came[taken.id] = {
                name: replace(loop, done=list(loop.done)) for name, loop in self.loops.items()
            }
        self.store.submit(write, waits=waits)
        return ticket

    def settle(self) -> None:
        """Wait for the write that is under way, if one is; what it came to is its caller's."""
        last = self._last
        if last is not None:
            try:
                last.result()
            except Exception:
                return

    def prepare(self, taken: Taken | None, mark: int, logs: bool) -> tuple[Written, int, int]:
        """What a write consists of, and how many changes and runs it takes."""
        stores = _stores()
        with self._lock:
            changes = (self._changes or [])[: max(0, mark - self._taken)] if taken else []
            runs = self.waiting_runs() if self.durable and logs else ()
            revision, rests_on, root = self.revision, self._rests_on, self._root
        rows: list[bytes] = []
        if taken is not None and rests_on != revision:
            rows.append(stores.encode(stores.Row("goto", place=rests_on))[0])
        self._coming, self._exact, self._loops = {}, [], set()
        for change in changes:
            self._add(stores, rows, change, revision + 1)
        head = None if taken is None else _head(taken, len(rows))
        tags = None if taken is None else self.tags
        written = stores.Written(revision, rows, root or bytes(16), head, runs, tags)
        return written, len(changes), len(runs)

    def _add(self, stores: Any, rows: list[bytes], change: Change, revision: int) -> None:
        item = change.item
        if change.layer == STEPS:
            self._loops.add(change.key)
        try:
            payload, same = stores.encode(row_of(stores.Row, change, revision))
        except StoreError as error:
            if not self.durable or change.layer == LAYERS.index(Layer.CACHE):
                return  # what a cache holds can be made again
            what = f"item {item.id} ({item.kind})" if item is not None else f"{change.key!r}"
            raise StoreError(f"session {self._session!r}: {what} {error}") from error
        rows.append(payload)
        if item is not None:
            self._coming[item.id] = revision, len(rows)
            if same and type(item.content) in PLAIN:
                self._exact.append(item.id)

    def written(self, taken: Taken, changes: int, runs: int, root: bytes) -> None:
        """A write is durable."""
        with self._lock:
            if self._changes is not None:
                del self._changes[:changes]
            self._drop_runs(runs)
            self._taken += changes
            self.revision += 1
            self._rests_on = self.revision
            self._root = root
            self.tags = None
            self._roots[taken.id] = self.revision, root
            self._places.update(self._coming)
            for name in self._loops & self.loops.keys():
                self.loops[name].revision = self.revision
            self.released(self._exact)

    def logged(self, runs: int) -> None:
        """Rows of the run log are durable."""
        with self._lock:
            self._drop_runs(runs)

    def _drop_runs(self, count: int) -> None:
        for _ in range(min(count, len(self.run_rows))):
            self.run_rows.popleft()

    # --- finding ----------------------------------------------------------------------------

    def stored(self, item_id: str) -> Row | None:
        """The row by which an item came to the store; None: it is not there.

        Not under the session's lock: the store is read.

        Raises:
            StoreError: It cannot be read.
        """
        with self._lock:
            place, unread = self._places.get(item_id), self._unread
        if place is None and unread:
            told = self.store.places(self._session)
            with self._lock:
                self._places = {**told, **self._places}
                self._unread = False
                place = self._places.get(item_id)
        return None if place is None else self.store.row(self._session, *place)

    # --- going back -------------------------------------------------------------------------

    def forget(self, snapshot: str) -> None:
        """This snapshot is no longer gone back to in the process."""
        self._roots.pop(snapshot, None)
        self._came.pop(snapshot, None)

    def went_back(self, snapshot: str, present: Iterable[Change]) -> None:
        """Memory is what it was at a snapshot: what waits was undone. Called under the lock.

        Args:
            snapshot: Its id.
            present: The changes that lead from nothing to it.
        """
        self.loops = self._came.get(snapshot, {})
        if self._changes is None:
            return
        self._taken += len(self._changes)
        self._changes.clear()
        found = self._roots.get(snapshot)
        if found is None:  # it was never stored: everything is told anew
            self._rests_on, self._root = 0, bytes(16)
            self._changes.extend(present)
        else:
            self._rests_on, self._root = found

    def revision_of(self, snapshot: str) -> int:
        """Revision of a snapshot that can be gone back to in the process; 0: it is none."""
        return self._roots.get(snapshot, (0, b""))[0]

    def opened(self, loaded: Loaded) -> None:
        """The session is what a store gave back; changes are noted from now on."""
        self.revision = max(self.revision, loaded.revision)
        self._rests_on = loaded.whole
        self._root = loaded.head.root
        self._roots[loaded.head.id] = loaded.whole, loaded.head.root
        self._unread = True
        self._changes = []


class _Write:
    """One write of a session, as its store sees it."""

    __slots__ = ("_changes", "_logs", "_mark", "_runs", "_taken", "session", "source", "ticket")

    def __init__(
        self, journal: Journal, taken: Taken | None, mark: int, ticket: Ticket, logs: bool
    ) -> None:
        self.session = journal._session
        self.source: Any = journal
        self.ticket = ticket
        self._taken = taken
        self._mark = mark
        self._logs = logs

    def prepare(self) -> Written:
        written: Written
        written, self._changes, self._runs = self.source.prepare(
            self._taken, self._mark, self._logs
        )
        return written

    def done(self, root: bytes) -> None:
        if self._taken is None:
            self.source.logged(self._runs)
        else:
            self.source.written(self._taken, self._changes, self._runs, root)


def _row(waiting: tuple[Any, ...]) -> LoggedRun:
    """A row of the run log, of what the engine put in its place."""
    run_id, spec, started_ns, ended_ns, error, budget, before, after, reports = waiting
    took_s = (ended_ns - started_ns) / 1e9
    return LoggedRun(
        run_id,
        spec.kind,
        spec.name,
        started_ns / 1e9,
        took_s,
        error,
        budget.total,
        before,
        after,
        reports,
    )


def _head(taken: Taken, rows: int) -> Callable[[bytes], bytes]:
    stores = _stores()
    head, encode = stores.Head, stores.encode
    return lambda root: encode(head(*taken[:5], rows, root, taken.facts))[0]
