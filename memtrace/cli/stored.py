"""Sessions of a store, read and not changed: no session is opened for its own work here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..decide.monitor import LoopFacts, monitor
from ..errors import ConfigurationError
from ..policy import Policy
from ..record import Snapshot
from ..reviving import list_snapshots, revive, stored_budget
from ..session import Session
from ..spantree import counted
from ..values import ActionReport, LoggedRun, MemoryProfile, Point, TokenBudget
from .addresses import refuse_others

if TYPE_CHECKING:
    from ..stores import Head, Store

ENVIRONMENT = "MEMTRACE_STORE"
"""The variable that names the store where ``--store`` does not."""

_ALL = 1_000_000
"""Snapshots of a session, at most."""

_REPORTS = 100
"""Reports that are shown of a session, at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One session of a store, as a list has it.

    Args:
        id: The session's.
        revision: Its last snapshot's; 0: it has none that can be read.
        tokens: What it held then.
        token_budget: What that was held against; 0: unknown.
        items: How many items it held.
        used_at: Seconds since the epoch; 0: unknown.
        bytes: What it takes in the store; None: not asked for.
        archived_at: Seconds since the epoch when it was put away; None: it is not.
        pinned: Whether retention leaves it alone.
        tags: Its user's.
    """

    id: str
    revision: int
    tokens: int = 0
    token_budget: int = 0
    items: int = 0
    used_at: float = 0.0
    bytes: int | None = None
    archived_at: float | None = None
    pinned: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """One session of a store, as its last snapshot has it.

    Args:
        entry: As the list has it.
        profile: What it held.
        points: The five monitoring points, as far as a store can tell them.
        runs: Its run log, oldest first.
    """

    entry: Entry
    profile: MemoryProfile
    points: Sequence[Point]
    runs: Sequence[LoggedRun]

    @property
    def actions(self) -> list[tuple[LoggedRun, ActionReport]]:
        """What actions did lately, the last first, with the run of each."""
        return list(_reports(self.runs))


def open_named(target: str | None) -> Store:
    """The store that an option or the environment names.

    Raises:
        ConfigurationError: Neither does.
        StoreError: It is not there, is no store, or cannot be opened.
    """
    from ..stores import open_store

    if not target:
        raise ConfigurationError(
            f"which store? name it with --store or in {ENVIRONMENT}, for example "
            "--store sqlite:///memory.db"
        )
    refuse_others(target)
    return open_store(target, make=False)


def entries(store: Store, *, sizes: bool = False) -> list[Entry]:
    """Every session of a store, the last used first.

    Args:
        store: The store.
        sizes: Whether to reckon what each takes, for which all of the store is gone through.
    """
    kept = {known.session: known for known in _kept(store)} if sizes else {}
    found = [entry(store, name, kept.get(name)) for name in store.sessions()]
    return sorted(found, key=lambda one: (-one.used_at, one.id))


def _kept(store: Any) -> Sequence[Any]:
    upkeep = getattr(store, "upkeep", None)
    return () if upkeep is None else list(upkeep.kept())


def entry(store: Store, session_id: str, kept: Any = None) -> Entry:
    """One session as a list has it."""
    latest = store.heads(session_id, 1)
    extra: dict[str, Any] = {}
    if kept is not None:
        extra = {name: getattr(kept, name) for name in ("bytes", "archived_at", "pinned", "tags")}
    if not latest:
        return Entry(session_id, 0, **extra)
    revision, head = latest[-1]
    used_at = max(head.created_at, kept.used_at if kept is not None else 0.0)
    return Entry(session_id, revision, head.tokens, budget_of(head), head.items, used_at, **extra)


def budget_of(head: Head) -> int:
    """Tokens of the budget that a snapshot was taken with; 0: unknown."""
    try:
        return TokenBudget(*head.facts["budget"]).total
    except (KeyError, TypeError, ValueError):
        return 0


def known(store: Store, session_id: str) -> str:
    """The id, if the store has such a session.

    Raises:
        ConfigurationError: It has none; some that it has are named.
    """
    if store.heads(session_id, 1):
        return session_id
    there = sorted(store.sessions())
    if session_id in there:
        return session_id
    near = [name for name in there if session_id.lower() in name.lower()] or there
    names = ", ".join(map(repr, near[:5])) or "none"
    raise ConfigurationError(f"{store.name} holds no session {session_id!r}; there are {names}")


def only(store: Store) -> str:
    """The id of the one session that a store has.

    Raises:
        ConfigurationError: It has none, or several.
    """
    there = sorted(store.sessions())
    if len(there) == 1:
        return there[0]
    names = ", ".join(map(repr, there[:5])) or "none"
    raise ConfigurationError(
        f"{store.name} holds {counted(len(there), 'session')}: name one by its id, with --store "
        f"{store.name}; there are {names}"
    )


def read(
    store: Store,
    session_id: str,
    *,
    token_budget: int | None = None,
    policy: Policy | None = None,
) -> Session:
    """A session as its last snapshot has it: apart from the store, and in no metric.

    One that was put away stays so.

    Args:
        store: The store.
        session_id: Which of its sessions.
        token_budget: Tokens to hold it against; None: those it was stored with.
        policy: The loop's constants; None: the defaults.

    Raises:
        StoreError: It cannot be read.
    """
    budget = token_budget if token_budget is not None else stored_budget(store, session_id)
    session = Session(session_id, token_budget=budget, policy=policy, store=store)
    session._dismiss()  # it may be open elsewhere, and is in the metrics there
    revive(session, wakes=False)
    list_snapshots(session)
    return session


def view(store: Store, session_id: str) -> View:
    """All that is shown of one session.

    Raises:
        StoreError: It cannot be read.
    """
    session = read(store, session_id)
    profile, runs = session.profile(), store.runs(session_id)
    heads = store.heads(session_id, 1)
    facts = heads[-1][1].facts if heads else {}
    points = monitor(_with_lookups(profile, facts), _loop_facts(facts, runs), Policy())
    return View(entry(store, session_id), profile, points, runs)


def _with_lookups(profile: MemoryProfile, facts: Any) -> MemoryProfile:
    """The profile with the cache's lookups, which a session does not take up again."""
    hits, misses = _pair(facts.get("lookups"))
    budget, tokens, items, _, _, counting, pinned, *_ = profile._held
    return MemoryProfile(budget, tokens, items, hits, misses, counting, pinned)


def _loop_facts(facts: Any, runs: Sequence[LoggedRun]) -> LoopFacts:
    window = Policy().cleanup_window
    agents = [place for place, run in enumerate(runs) if run.kind == "agent"][-window:]
    reports = [report for run in runs[agents[0] :] for report in run.reports] if agents else []
    cleanups = sum(r.action == "cleanup" and r.outcome != "declined" for r in reports)
    compressions = facts.get("compressions")
    pairs = compressions if isinstance(compressions, (list, tuple)) else ()
    return LoopFacts(tuple(_pair(pair) for pair in pairs), cleanups, len(agents))


def _pair(value: Any) -> tuple[int, int]:
    """Two numbers that a snapshot has; what makes no sense is nothing."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        first, second = value
        if isinstance(first, int) and isinstance(second, int):
            return first, second
    return 0, 0


def _reports(runs: Sequence[LoggedRun]) -> Iterator[tuple[LoggedRun, ActionReport]]:
    shown = 0
    for run in reversed(runs):
        for report in reversed(run.reports):
            if report.outcome == "declined":
                continue
            yield run, report
            shown += 1
            if shown == _REPORTS:
                return


def snapshots(store: Store, session_id: str) -> list[tuple[int, Head]]:
    """All snapshots that can be read, oldest first, with their numbers."""
    return list(store.heads(session_id, _ALL))


def chosen(store: Store, session_id: str, which: str) -> Snapshot:
    """The snapshot of that number, or the last of that name.

    Raises:
        ConfigurationError: There is none.
    """
    there = snapshots(store, session_id)
    for revision, head in reversed(there):
        if which in (str(revision), str(head.name)):
            return Snapshot(
                head.id, str(head.name), head.created_at, head.tokens, head.items, revision
            )
    names = ", ".join(f"{revision} ({head.name})" for revision, head in there[-5:]) or "none"
    raise ConfigurationError(
        f"session {session_id!r} has no snapshot {which!r}; the last ones are {names}"
    )
