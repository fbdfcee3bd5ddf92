"""What runs after a run and at a checkpoint: consolidation, the cache, snapshots."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from ..decide.cache_advice import CacheBounds
from ..errors import StaleSessionError, StoreError
from ..hooks import schedule
from ..journal import Taken, copied
from ..layers import Change
from ..memory import Memory
from ..record import Snapshot
from ..redaction import redacted
from ..telemetry import names
from ..values import ActionReport
from .draft import Draft
from .perform import Result, Tell, perform
from .stored import short_form
from .summaries import summarized


def consolidate_memory(memory: Memory, *, tell: Tell = schedule) -> ActionReport:
    """Move what no recent run used from working memory to long-term memory, in short form.

    An item that was touched often is kept whole, and a pinned one stays where it is. The
    original stays reachable by its id.

    Returns:
        A report: ``no_op`` where nothing is inactive.

    >>> from memtrace import Session, consolidate_memory
    >>> session = Session()
    >>> item = session.active_contexts.add("On 3 May we chose PostgreSQL 16.", key="decision")
    >>> consolidate_memory(session).outcome, len(session.archived_contexts)
    ('effective', 1)
    """

    def work() -> Result:
        draft = Draft(memory, 0)
        moved_tokens = 0
        for item in list(draft.contexts.values()):
            if not item.pinned and item.run_id not in draft.active_runs:
                moved_tokens += item.tokens
                draft.store(item, short_form(draft, item))
        told = summarized(draft)
        return Result(
            items=draft.commit(),
            reason="no recent run used them",
            attributes={names.MOVED_TOKENS: moved_tokens, **told},
        )

    return perform(memory, "consolidate", "consolidate", work, tell=tell)


def update_cache(memory: Memory, *, tell: Tell = schedule) -> ActionReport:
    """Drop expired values, give frequent ones longer to live, run the loaders that are due.

    With ``Policy(adapt_cache=True)`` the cache's size and times to live follow its advice, within
    the policy's bounds; the report's reason tells of a change, and why.

    Returns:
        A report: ``no_op`` where there was nothing to do.
    """

    def work() -> Result:
        with memory.lock:
            gone = memory.cache._sweep()
            stretched = memory.cache._stretch(memory.policy.much_used)
        adapted = memory.cache._adapt(_bounds(memory))
        loaded = memory.cache._load_due()
        reason = f"{gone} expired, {stretched} given longer to live, {loaded} loaded"
        return Result(
            items=gone + stretched + loaded + bool(adapted),
            reason=f"{reason}; {adapted}" if adapted else reason,
        )

    return perform(memory, "update_cache", "update_cache", work, tell=tell, sweeps=True)


def _bounds(memory: Memory) -> CacheBounds | None:
    """Between what settings the cache may adapt itself; None: it may not."""
    policy, whole, cache = memory.policy, memory.budget.total, memory.cache
    if not policy.adapt_cache:
        return None
    return CacheBounds(
        max(1, int(policy.cache_least * whole)),
        max(1, int(policy.cache_most * whole)),
        1 / policy.cache_ttl_times,
        policy.cache_ttl_times,
        (cache._setting.eviction,),
    )


def create_memory_snapshot(
    memory: Memory,
    name: str | None = None,
    *,
    tell: Tell = schedule,
    taken: list[Kept] | None = None,
    waits: bool = True,
) -> ActionReport:
    """Keep memory as it is now, for :meth:`Session.restore`; the newest is the last listed.

    Where the session has a durable store, it returns when the snapshot is durable.

    Args:
        memory: The session.
        name: For finding it again; None: its id.
        tell: Takes what async hooks still have to do.
        taken: Where the snapshot itself is put, and its ticket.
        waits: False: it does not wait until the snapshot is durable; the ticket tells.

    Returns:
        A report, ``effective``.

    Raises:
        StaleSessionError: The session was written elsewhere since it was opened here.
        StoreError: The store cannot take it. Memory goes on, and the next one takes all.
    """
    refused: list[Exception] = []

    def work() -> Result:
        try:
            snapshot, ticket = kept = take(memory, name, waits)
            if taken is not None:
                taken.append(kept)
            if waits and memory.durable:
                ticket.result()
        except (StaleSessionError, StoreError) as error:
            refused.append(error)
            raise
        return Result(
            items=snapshot.items,
            reason=snapshot.name,
            attributes={
                names.SNAPSHOT_ID: snapshot.id,
                names.SNAPSHOT_ITEMS: snapshot.items,
                names.SNAPSHOT_TOKENS: snapshot.tokens,
            },
        )

    report = perform(memory, "snapshot", "checkpoint", work, tell=tell, hooked=False)
    if refused:
        raise refused[0]
    return report


Kept = tuple[Snapshot, Any]
"""A snapshot, and the ticket that tells when it is durable."""


def take(memory: Memory, name: str | None, waits: bool = False) -> Kept:
    """A snapshot of memory, on its way to the store. Items are frozen and shared; agents' states
    are copied. One who ``waits`` for its ticket at once is told sooner.

    Raises:
        StoreError: An agent's state is no data, so the session's store cannot take it.
    """
    with memory.lock:
        tokens = sum(memory.measure())
        state = tuple(layer._dump(_copied) for layer in memory.layers)
        identity = memory._new_id("s")
        snapshot = Snapshot(
            id=identity,
            name=name if name is not None else identity,
            created_at=memory.now(),
            tokens=tokens,
            items=memory.count(),
            state=state,
        )
        note_changes(memory)
        _note_states(memory)
        ticket = memory.journal.write(
            Taken(
                snapshot.id,
                snapshot.name,
                snapshot.created_at,
                snapshot.tokens,
                snapshot.items,
                _facts(memory),
            ),
            waits=waits,
        )
        kept = memory.record.snapshots
        if len(kept) == kept.maxlen:
            memory.journal.forget(kept[0].id)
        kept.append(snapshot)
    return snapshot, ticket


def note_changes(memory: Memory) -> None:
    """Note what changes from now on, for a session that has kept nothing yet."""
    with memory.lock:
        if not memory.journal.active:
            memory.journal.begin(_present(memory))


def _present(memory: Memory) -> Iterator[Change]:
    """The changes that lead from nothing to what memory holds."""
    return (change for layer in memory.layers for change in layer._changes())


def _note_states(memory: Memory) -> None:
    """Note agents' states that changed since the last snapshot: nobody told of it.

    Raises:
        StoreError: One is no data, and the store is a durable one.
    """
    agents, redactor = memory.agents, memory.policy.redactor
    for agent in agents._changed():
        state = agent.state
        try:
            if memory.durable and redactor is not None:
                state = redacted(state, redactor)
            memory.journal.note("state", agents._index, 0, agent.name, None, copied(state))
        except StoreError as error:
            agent._noted = None
            if memory.durable:
                raise StoreError(f"the state of agent {agent.name!r} {error}") from error


def _facts(memory: Memory) -> dict[str, Any]:
    """Counters that a store gives back with the items."""
    budget, tally = memory.budget, memory.cache._tally
    lookups = {"lookups": [tally.hits, tally.misses]} if tally.hits or tally.misses else {}
    return {
        **lookups,  # for whoever looks at the store; they begin anew where a session is opened
        "ids": next(memory._ids),
        "runs": next(memory._run_ids),
        "cleanups": memory.record.cleanups,
        "budget": [budget.total, *budget.shares.values()],
        **memory.record.kept(),
    }


def keeps_briefly(memory: Memory) -> bool:
    """Whether a snapshot would be taken in no time: the rest is left to the writer."""
    journal = memory.journal
    return memory.durable or (journal.active and journal.waiting < _FEW)


_FEW = 64
"""Changes that are written to memory within a millisecond."""


def put_back(memory: Memory, snapshot: Snapshot) -> None:
    """Make memory what it was at a snapshot of this process."""
    memory.journal.settle()
    with memory.lock:
        for layer, state in zip(memory.layers, snapshot.state, strict=True):
            layer._load(state, _copied)
        memory.journal.went_back(snapshot.id, _present(memory))
        memory.agents._forget_noted()


def _copied(state: Any) -> Any:
    """An agent's state that later changes do not reach."""
    try:
        return copy.deepcopy(state)
    except Exception:
        return state  # not to be copied (a socket, a lock): shared, as the caller made it
