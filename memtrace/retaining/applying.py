"""Letting go: by the rules after a dry run, or of chosen sessions at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, StaleSessionError, StoreError
from .planning import going, slimmed_log
from .rules import Going, Kind, RetentionRules, Stayed, sums, told

if TYPE_CHECKING:
    from ..stores import Store
    from ..stores.keeping import Kept


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What went.

    Args:
        gone: What was let go of.
        stayed: What was planned and stayed, each with the reason.
        vacuumed: Whether the store's files were written anew, so that nothing of it is in them.
    """

    gone: tuple[Going, ...]
    stayed: tuple[Stayed, ...] = ()
    vacuumed: bool = False

    def by_kind(self) -> dict[Kind, tuple[int, int]]:
        """Count and bytes of what went, by kind."""
        return sums(self.gone)

    def __str__(self) -> str:
        lines = [f"gone:\n{told(self.gone)}"]
        lines += [f"stayed: {one.session} ({one.kind}): {one.reason}" for one in self.stayed]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What would go: a dry run, which changed nothing. Made by :func:`memtrace.retention`.

    Args:
        store: Name of the store.
        rules: That it was made by.
        made_at: Seconds since the epoch.
        going: Everything that would go, by session and kind.
    """

    store: str
    rules: RetentionRules
    made_at: float
    going: tuple[Going, ...]
    _store: Any = field(repr=False, compare=False, default=None)

    def by_kind(self) -> dict[Kind, tuple[int, int]]:
        """Count and bytes of what would go, by kind."""
        return sums(self.going)

    def apply(self, *, vacuum: bool = True) -> RetentionReport:
        """Let go of what this plan lists, and of nothing else.

        A session that was written, brought back, pinned or deleted since stays as it is, and the
        report says so. Whoever has a session open that was deleted, or of which something went,
        gets a :class:`StaleSessionError` with the next write.

        Args:
            vacuum: Write the store's files anew afterwards, so that nothing of it is left in
                them. It takes as long as copying them, and as much room.

        Raises:
            StoreError: The store cannot be written. What went until then is gone.
        """
        gone: list[Going] = []
        stayed: list[Stayed] = []
        for _, listed in groupby(self.going, key=lambda one: one.key):
            for one, reason in _let_go(self._store, self.rules, self.made_at, list(listed)):
                if reason:
                    stayed.append(Stayed(one.session, one.kind, reason))
                else:
                    gone.append(one)
        if vacuum and gone:
            self._store.upkeep.vacuum()
        return RetentionReport(tuple(gone), tuple(stayed), vacuum and bool(gone))

    def __str__(self) -> str:
        return told(self.going)


def retention(
    store: Any, rules: RetentionRules, *, tag: str | None = None, now: float | None = None
) -> RetentionPlan:
    """What would go from a store by the rules: a dry run. ``plan.apply()`` lets it go.

    Args:
        store: A path, an address or a store, as :meth:`Session.open` takes.
        rules: For how long each kind is kept.
        tag: Only of sessions with this tag; None: of all.
        now: Seconds since the epoch; None: the clock's.

    Raises:
        StoreError: The store is not there, or cannot be read.
        StoreDamagedError: A session is damaged whose snapshots or originals would be looked at.

    >>> import tempfile
    >>> from memtrace import Session
    >>> path = f"{tempfile.mkdtemp()}/memory.db"
    >>> with Session.open("support-42", store=path) as session:
    ...     session.history.append({"role": "user", "content": "hello"})
    >>> plan = retention(path, RetentionRules(session_days=365), now=time.time() + 400 * 86_400)
    >>> [(one.session, one.kind) for one in plan.going]
    [('support-42', 'session')]
    >>> plan.apply().by_kind()["session"][0]
    1
    """
    opened = opened_store(store)
    if not isinstance(rules, RetentionRules):
        raise ConfigurationError(f"retention takes RetentionRules, got {rules!r}")
    at = time.time() if now is None else now
    listed = tuple(going(opened.upkeep, rules, tag, at))
    return RetentionPlan(opened.name, rules, at, listed, opened)


def _let_go(
    store: Store, rules: RetentionRules, now: float, listed: list[Going]
) -> Iterator[tuple[Going, str]]:
    """Let go of what is listed of one session; for each, why it stayed, or nothing."""
    inside: list[Going] = []
    for one in listed:
        if one.kind in ("snapshots", "originals"):
            inside.append(one)
            continue
        yield one, _try(store, one)
    if inside:
        reason = _slim(store, rules, now, inside[0])
        yield from ((one, reason) for one in inside)


def _try(store: Store, one: Going) -> str:
    upkeep = store.upkeep
    found = upkeep.find(one.session) if one.session else None
    if one.session and (reason := _changed(found, one, used=one.kind != "run_log")):
        return reason
    if one.kind == "run_log":
        upkeep.drop_runs(one.key, one.before)
    elif one.kind == "recall":
        upkeep.drop_index(one.session)
    else:
        try:
            upkeep.delete(one.session, one.revision)
        except StaleSessionError as error:
            return str(error)
    return ""


def _changed(found: Kept | None, one: Going, *, used: bool) -> str:
    """Why a session is not to be touched any more."""
    if found is None or not found.revision:
        return "it is not there any more"
    if found.pinned:
        return "it was pinned since"
    if used and (found.revision != one.revision or found.used_at >= one.before):
        return "it was used since"
    return ""


def _slim(store: Store, rules: RetentionRules, now: float, one: Going) -> str:
    """Write a session's log anew without what is too old in it."""
    upkeep = store.upkeep
    found = upkeep.find(one.session)
    if found is None or found.pinned or found.revision != one.revision:
        return _changed(found, one, used=False) or "it was used since"
    cut = rules.before("snapshots", now), rules.before("originals", now)
    slimmed = slimmed_log(upkeep, one.session, one.revision, *cut)
    if slimmed is None:
        return "it was used since"
    try:
        upkeep.rewrite(one.session, one.revision, slimmed.rows, slimmed.root, found.used_at)
    except StaleSessionError as error:
        return str(error)
    if slimmed.items:  # the next search finds what is left
        upkeep.drop_index(one.session)
    store.archives.purge(one.session)  # its archive, if it had one, held what went
    return ""


# --- chosen sessions ------------------------------------------------------------------------------


def delete_sessions(
    store: Any, *ids: str, tag: str | None = None, vacuum: bool = True
) -> RetentionReport:
    """Delete sessions whole, with all that is kept of them anywhere.

    Snapshots, originals, the words they are found by, the run log, archives and what was moved to
    an object store. Whoever has one open gets a :class:`StaleSessionError` with the next write.

    Args:
        store: A path, an address or a store.
        *ids: The sessions'.
        tag: And all that have this tag; None: no others.
        vacuum: As :meth:`RetentionPlan.apply` takes it.

    Raises:
        ConfigurationError: No session is named, or one is pinned; nothing is deleted then.
        StoreError: There is none of an id, or the store cannot be written.

    >>> import tempfile
    >>> from memtrace import Session
    >>> path = f"{tempfile.mkdtemp()}/memory.db"
    >>> Session.open("support-42", store=path, tags=["user:ann"]).close()
    >>> delete_sessions(path, tag="user:ann").gone[0].session
    'support-42'
    """
    opened = opened_store(store)
    chosen = choose(opened, ids, tag)
    pinned = [kept.session for kept in chosen if kept.pinned]
    if pinned:
        raise ConfigurationError(
            f"pinned sessions are not deleted: {', '.join(map(repr, pinned[:5]))}; to delete them, "
            "pin_session(store, id, pinned=False) first"
        )
    gone: list[Going] = []
    for kept in chosen:
        opened.upkeep.delete(kept.session)
        size = kept.bytes + kept.runs_bytes + kept.texts_bytes
        at = kept.used_at
        gone.append(Going(kept.session, "session", 1, size, at, kept.revision, at, kept.key))
    if vacuum and gone:
        opened.upkeep.vacuum()
    return RetentionReport(tuple(gone), (), vacuum and bool(gone))


def pin_session(store: Any, session: str, pinned: bool = True) -> None:
    """Keep a session and all of it whatever the rules say, or no longer.

    Raises:
        StoreError: There is no such session.

    >>> import tempfile
    >>> from memtrace import Session
    >>> path = f"{tempfile.mkdtemp()}/memory.db"
    >>> Session.open("support-42", store=path).close()
    >>> pin_session(path, "support-42")
    >>> retention(path, RetentionRules(session_days=0), now=time.time() + 9).going
    ()
    """
    opened = opened_store(store)
    if not opened.upkeep.note(session, pinned=pinned):
        raise StoreError(f"there is no session {session!r} in {opened.name}")


def opened_store(store: Any) -> Store:
    """A store that is there."""
    from ..stores import open_store

    return open_store(store, make=False)


def choose(store: Store, ids: tuple[str, ...], tag: str | None) -> list[Kept]:
    """The sessions of these ids, and those with a tag.

    Raises:
        ConfigurationError: Neither is given.
        StoreError: There is none of an id.
    """
    if not ids and tag is None:
        raise ConfigurationError("name sessions by their ids or by tag=")
    kept = {one.session: one for one in store.upkeep.kept() if one.revision}
    missing = [name for name in ids if name not in kept]
    if missing:
        raise StoreError(f"there is no session {missing[0]!r} in {store.name}")
    return [one for name, one in kept.items() if name in ids or tag in one.tags]
