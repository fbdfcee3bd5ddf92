"""Bringing a session back: from its store, at a snapshot, or where a loop over steps broke off."""

from __future__ import annotations

import itertools
import logging
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ConfigurationError, StoreDamagedError, StoreError
from .journal import replay
from .memory import Memory
from .record import Snapshot
from .values import TokenBudget

if TYPE_CHECKING:
    from .stores import Head, Loaded

M = TypeVar("M", bound=Memory)

logger = logging.getLogger("memtrace")


def revive(memory: Memory, upto: int | None = None, *, wakes: bool = True) -> bool:
    """Make memory what its store has of it; whether the store has anything.

    Args:
        memory: The session.
        upto: The revision to go to; None: the newest that is whole. Where that is not the
            latest, a warning says what is missing.
        wakes: Whether one that was put away is awake from then on; False: it is looked at only,
            and one in cold storage is refused.

    Raises:
        StoreDamagedError: Nothing of it is whole, or not the revision that was asked for.
        StoreError: It cannot be read.
    """
    from .stores import ColdError

    store = memory.journal.store
    try:
        loaded = store.load(memory.id, upto)
    except ColdError:
        if not wakes:
            raise
        store.archives.wake(memory.id)
        loaded = store.load(memory.id, upto)
    if loaded is None:
        return False
    if loaded.asleep and wakes:  # its rows are unpacked in the store later: nobody waits for that
        kept = store.archives.state(memory.id)
        memory._packed_since = None if kept is None else kept.archived_at
    if loaded.missing:
        logger.warning(
            "session %r in %s is damaged; it goes on from snapshot %d (%r). Missing: %s",
            memory.id,
            store.name,
            loaded.whole,
            loaded.head.name,
            "; ".join(loaded.missing[:_TOLD]),
        )
    if upto is not None and loaded.whole != upto:
        raise StoreError(f"snapshot {upto} of session {memory.id!r} is damaged")
    _hold(memory, loaded)
    return True


_TOLD = 5
"""Things that a warning lists as missing, at most."""


def _hold(memory: Memory, loaded: Loaded) -> None:
    """Make memory what a store gave back, and nothing else. Nothing is counted again.

    Raises:
        StoreDamagedError: It does not fit together.
    """
    head = loaded.head
    ids, runs, cleanups = (_whole(head, name) for name in ("ids", "runs", "cleanups"))
    with memory.lock:
        memory.journal.rest()
        for layer, nothing in zip(memory.layers, _NOTHING, strict=True):
            layer._load(nothing, _as_it_is)
        replay(memory.layers, memory.journal, loaded.rows, head)
        # Going back to an older snapshot must not give an id a second time.
        memory._ids = itertools.count(max(next(memory._ids), ids + 1))
        memory._run_ids = itertools.count(max(next(memory._run_ids), runs + 1))
        memory.record.cleanups = cleanups
        # The clock may have been set back meanwhile: a session's time never runs backwards.
        memory._shift += max(0.0, head.created_at - memory.now())
        memory.agents._measure()
        memory.agents._changed()
        memory.journal.opened(loaded)


def _whole(head: Head, name: str) -> int:
    """A counter of a snapshot's."""
    value = head.facts.get(name, 0)
    if not isinstance(value, int) or not 0 <= value < 2**62:
        raise StoreDamagedError(f"snapshot {head.id} has {value!r} as its {name}")
    return value


_NOTHING: tuple[Any, ...] = (((), {}), ((), {}), (), (), ())
"""What each layer dumps when it holds nothing."""


def _as_it_is(state: Any) -> Any:
    return state


def list_snapshots(memory: Memory) -> None:
    """Have the last stored snapshots at hand, to go back to, and what the newest says."""
    heads = memory.journal.store.heads(memory.id, memory.policy.keep_snapshots)
    with memory.lock:
        memory.record.snapshots.clear()
        memory.record.snapshots.extend(
            Snapshot(head.id, str(head.name), head.created_at, head.tokens, head.items, revision)
            for revision, head in heads
        )
    for _, head in heads[-1:]:
        memory.record.take_back(head.facts)


def go_back(memory: Memory, snapshot: Snapshot) -> None:
    """Make memory what it was at a snapshot of this process, or of the store.

    Raises:
        StoreError: The store cannot give it back.
    """
    from .actions import put_back

    if snapshot.state is not None:
        put_back(memory, snapshot)
    else:
        memory.journal.settle()
        revive(memory, snapshot.revision)


def begin_steps(memory: Memory, name: str, number: int, resume: bool) -> None:
    """A loop over steps begins, or carries on with memory as it was when it broke off."""
    from .actions.keep import note_changes

    note_changes(memory)
    loop = memory.journal.loops.get(name)
    if resume and loop is not None and loop.open and loop.revision and number == len(loop.done):
        _carry_on(memory, name, loop.revision)
    memory.journal.step("begin", name, number)


def _carry_on(memory: Memory, name: str, revision: int) -> None:
    from .actions import put_back

    journal = memory.journal
    journal.settle()
    if journal.revision == revision and not journal.waiting:
        return
    logger.info(
        "session %r goes back to snapshot %d, taken as the step of %r that is next began",
        memory.id,
        revision,
        name,
    )
    with memory.lock:
        kept = [s for s in memory.record.snapshots if s.state is not None]
        found = next((s for s in kept if journal.revision_of(s.id) == revision), None)
    if found is not None:
        put_back(memory, found)
    else:
        revive(memory, revision)


def step_digest(value: Any, *, strict: bool) -> bytes:
    """What a step is known by: a hash of its value.

    Raises:
        ConfigurationError: ``strict``, and the value is no data.
    """
    from .stores import encode

    try:
        return sha256(encode(value)[0]).digest()[:16]
    except StoreError as error:
        if not strict:
            return b""
        raise ConfigurationError(
            f"resume=True knows a step by its value, and {value!r} {error}; give paths, ids or "
            "other plain values"
        ) from error


def stored_budget(store: Any, session: str) -> TokenBudget | None:
    """The budget that a session was stored with; None: it is not there, or says none."""
    for _, head in reversed(store.heads(session, 1)):
        try:
            return TokenBudget(*head.facts["budget"])
        except (KeyError, TypeError, ValueError):
            return None
    return None


def branched(memory: M, name: str | None) -> M:
    """A session of its own that begins as memory is now."""
    from .actions import create_memory_snapshot, put_back
    from .actions.keep import take

    store = memory.journal.store if memory.durable else None
    made = type(memory)(
        name,
        token_budget=memory.budget,
        policy=memory.policy,
        counter=memory.counter,
        store=store,
    )
    if store is None:
        snapshot, _ = take(memory, "branch")
        with made.lock:
            made.record.originals.update(memory.record.originals)
            made._ids = itertools.count(next(memory._ids) + 1)
            made._run_ids = itertools.count(next(memory._run_ids) + 1)
        put_back(made, snapshot)
        return made
    create_memory_snapshot(memory, "branch")
    store.copy(memory.id, made.id, memory.journal.revision)
    revive(made)
    return made
