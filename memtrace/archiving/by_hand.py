"""Putting sessions away by hand: one that is in memory, or those of a store that are idle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any, overload

from ..errors import ConfigurationError, MemtraceError
from ..memory import Memory
from ..policy import Policy
from ..values import ActionReport
from .away import is_away, put_away
from .fitness import is_stored
from .telling import tell_hooks, told

if TYPE_CHECKING:
    from ..stores.shelving import Archive


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What became of a store's idle sessions.

    Args:
        archived: Ids of those that were put away now.
        moved: Ids of those whose archives were moved to cold storage now.
        failed: Why, by id, of those that could be neither: they stay as they were.
        raw_bytes: What those put away took before.
        packed_bytes: What they take now.
        duration_s: Seconds it took.
    """

    archived: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    raw_bytes: int = 0
    packed_bytes: int = 0
    duration_s: float = 0.0


@overload
def archive(target: Memory, *, to: str | None = None) -> ActionReport: ...


@overload
def archive(
    target: Any, *, idle_s: float | None = None, to: str | None = None
) -> ArchiveReport: ...


def archive(
    target: Any, *, idle_s: float | None = None, to: str | None = None
) -> ActionReport | ArchiveReport:
    """Put a session away, or all of a store that are idle; each comes back on its next use.

    It is stored compressed, with its snapshots, originals and what is undone; its run log stays
    where it is, and so does the index by which it is recalled. A session in memory leaves it: the
    object stays, and is filled again when it is next used.

    Args:
        target: A session with a durable store; or a store, its path or its address.
        idle_s: Of a store: put away those that were not used for so many seconds; None:
            ``Policy.archive_after_s``, a day.
        to: Where archives are moved then, those put away earlier too: ``s3://bucket/prefix``,
            ``file:///folder``, or any URL of an object store. It needs the extra ``s3``. None:
            they stay in the store.

    Returns:
        Of a session an :class:`ActionReport`, ``ineffective`` where it is in use or cannot come
        back as it is; of a store an :class:`ArchiveReport`.

    Raises:
        ConfigurationError: The session has no durable store, or a value cannot work.
        StoreError: The store cannot be opened; of a session also: it cannot be put away.

    >>> import tempfile
    >>> from memtrace import Session
    >>> path = f"{tempfile.mkdtemp()}/memory.db"
    >>> session = Session.open("support-42", store=path)
    >>> session.history.append({"role": "user", "content": "hello"})
    >>> archive(session).outcome
    'effective'
    >>> session.history[0]["content"]
    'hello'
    >>> session.close()
    >>> archive(path, idle_s=0).archived
    ('support-42',)
    """
    url = None if to is None else _checked(to)
    if not isinstance(target, Memory):
        return _archive_store(target, _seconds(idle_s), url)
    if idle_s is not None:
        raise ConfigurationError("idle_s is for a store; a session is put away at once")
    if not target.durable:
        raise ConfigurationError(
            f"session {target.id!r} has no durable store to be put away in: Session.open("
            f"{target.id!r}, store='memory.db')"
        )
    report, error = archive_session(target, "asked for", url)
    if error is not None:
        raise error
    return report


def _checked(url: str) -> str:
    from ..stores import cold

    return cold.check(url)


def _seconds(idle_s: float | None) -> float:
    if idle_s is None:
        return Policy().archive_after_s
    if isinstance(idle_s, bool) or not isinstance(idle_s, (int, float)) or not idle_s >= 0:
        raise ConfigurationError(f"idle_s must be a number of seconds ≥ 0, got {idle_s!r}")
    return float(idle_s)


# --- one session ----------------------------------------------------------------------------------


def archive_session(
    memory: Memory, reason: str, url: str | None = None
) -> tuple[ActionReport, Exception | None]:
    """Put a session away that is in memory; its report, and what it failed with."""
    started_ns = time_ns()
    before, items = sum(memory.read_tokens()), memory.count()
    if is_away(memory):
        archives = _archives_of(memory.id, memory)
        if url is not None:
            archives.move(memory.id, url)
        return told(memory.id, started_ns, (0, 0), 0, "it is put away", "no_op"), None
    profile = memory.profile()
    before = profile.total_tokens
    try:
        why = _kept(memory) or put_away(memory)
        if not why:
            archives = _archives_of(memory.id, memory)
            archives.archive(memory.id)
            if url is not None:
                archives.move(memory.id, url)
    except MemtraceError as error:
        left = sum(memory.read_tokens())
        reason = f"{type(error).__name__}: {error}"
        report = told(memory.id, started_ns, (before, left), 0, reason, "failed", error)
        tell_hooks(memory, profile, report)
        return report, error
    if why:
        report = told(memory.id, started_ns, (before, before), 0, why, "ineffective")
    else:
        report = told(memory.id, started_ns, (before, 0), items, reason, "effective")
    tell_hooks(memory, profile, report)
    return report, None


def _kept(memory: Memory) -> str:
    """Have its store hold all of it; why that cannot be."""
    from ..actions import create_memory_snapshot

    if memory._open_runs:
        return "it is in use"
    with memory.lock:
        stored = is_stored(memory)
    if not stored:  # else whoever has it open elsewhere would know an older one for no reason
        create_memory_snapshot(memory, "archive")
    with memory.lock:
        ticket = memory.journal.write(None)
    ticket.result()
    return ""


def _archives_of(session: str, memory: Memory) -> Any:
    store: Any = object.__getattribute__(memory.journal, "_store") or memory.journal.store
    archives = getattr(store, "archives", None)
    if archives is None:
        raise ConfigurationError(f"the store of session {session!r} keeps no archives: {store!r}")
    return archives


# --- a store --------------------------------------------------------------------------------------


def _archive_store(target: Any, idle_s: float, url: str | None) -> ArchiveReport:
    from ..stores import open_store
    from .sweeping import unpack

    store: Any = open_store(target, make=False)
    archives = getattr(store, "archives", None)
    if archives is None:
        raise ConfigurationError(f"this store keeps no archives: {store!r}")
    started = perf_counter()
    failed: dict[str, str] = {}
    unpack()  # a session that is half awake is neither idle nor asleep
    done = each(store, archives.idle(idle_s), lambda name: archives.archive(name, idle_s), failed)
    moved: dict[str, Archive] = {}
    if url is not None:
        waiting = [name for name in archives.asleep() if not archives.state(name).moved]
        moved = each(store, waiting, lambda name: archives.move(name, url), failed, tells=False)
    return ArchiveReport(
        tuple(done),
        tuple(moved),
        failed,
        sum(kept.raw_bytes for kept in done.values()),
        sum(kept.packed_bytes for kept in done.values()),
        perf_counter() - started,
    )


def each(
    store: Any,
    sessions: list[str],
    work: Callable[[str], Archive | None],
    failed: dict[str, str],
    *,
    tells: bool = True,
    goes_on: Callable[[], bool] = lambda: True,
) -> dict[str, Archive]:
    """Do something with each session of a store; one that fails does not keep the others.

    Args:
        store: The store.
        sessions: Ids.
        work: Gives None where there is nothing to do any more.
        failed: Takes why one failed, by id.
        tells: Whether each makes a span.
        goes_on: Asked before each.

    Returns:
        What became of those that something was done with, by id.
    """
    done: dict[str, Archive] = {}
    for session in sessions:
        if not goes_on():
            break
        started_ns = time_ns()
        try:
            tokens, items = _held(store, session) if tells else (0, 0)
            found = work(session)
        except Exception as error:
            failed[session] = f"{type(error).__name__}: {error}"
            if tells:
                told(session, started_ns, (0, 0), 0, failed[session], "failed", error)
            continue
        if found is not None:
            done[session] = found
            if tells:
                told(session, started_ns, (tokens, 0), items, "idle", "effective")
    return done


def _held(store: Any, session: str) -> tuple[int, int]:
    """Tokens and items of a session's last snapshot."""
    for _, head in store.heads(session, 1):
        return head.tokens, head.items
    return 0, 0
