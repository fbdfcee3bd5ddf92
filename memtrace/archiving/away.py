"""Taking a session out of memory while its object stays: whoever uses that next brings it back.

Each part of it that holds something (layers, agents' states, the journal) is emptied, and given a
class whose attributes cannot be read before the session is back. So a session that is awake pays
nothing, and it does not matter through which part it is used again.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ..errors import StoreError
from ..memory import Memory
from ..memory import _alive as alive
from ..reviving import revive


@dataclass(slots=True)
class _Away:
    """What is known of a session that is out of memory.

    Attributes:
        kinds: Its parts, with the classes that are theirs.
        agents: Agents' states, by name: whoever holds one sees it come back.
        added: Tokens that ever entered, by layer: those that come back do not enter again.
        waking: Which thread brings it back.
    """

    kinds: list[tuple[Any, type]]
    agents: dict[str, Any]
    added: list[int]
    waking: int = 0


_NOTHING: tuple[Any, ...] = (((), {}), ((), {}), (), (), ())
"""What each layer dumps when it holds nothing."""

_asleep: dict[int, weakref.ref[Memory]] = {}
"""Whose a part is, by its `id`: parts hold their session, so it is there as long as they are."""


def is_away(memory: Memory) -> bool:
    """Whether a session is out of memory now."""
    return _away(memory) is not None


def _away(memory: Memory) -> _Away | None:
    found: _Away | None = memory.__dict__.get("_away")
    return found


def put_away(memory: Memory) -> str:
    """Take a session out of memory whose last snapshot has all of it.

    Returns:
        Why it stays; empty: it is out.
    """
    with memory.lock:
        seen = memory.history._writes, memory.active_contexts._writes, memory.journal.revision
    if not _comes_back(memory):
        return "it holds objects that its store gives back as plain data"
    with memory.lock:
        if memory._open_runs or memory.record.acting_thread is not None:
            return "it is in use"
        last = memory.journal._last
        kept = (last is None or last.settled) and not memory.journal.waiting
        now = memory.history._writes, memory.active_contexts._writes, memory.journal.revision
        if not kept or now != seen or memory.run_rows or _changed_states(memory):
            return "it was used meanwhile"
        _empty(memory)
    return ""


def _comes_back(memory: Memory) -> bool:
    """Whether the store gives everything back as it is here. Linear in what is held."""
    from ..stores import encode
    from ..stores.rows import decode

    def same(content: Any) -> bool:
        try:
            return bool(decode(encode(content)[0]) == content)
        except Exception:  # a comparison is somebody else's code
            return False

    with memory.lock:
        items = [*memory.history._received]
        for layer in (memory.active_contexts, memory.archived_contexts, memory.cache):
            items += layer.items
        states = [agent.state for agent in memory.agents]
        if memory.record.originals:  # the store would not give these back as they are
            return False
    return all(same(item.content) for item in items) and all(map(same, states))


def _changed_states(memory: Memory) -> bool:
    """Whether an agent's state is not what was stored last, or nobody can tell."""
    memory.agents._measure()
    return any(a._mark is None or a._mark != a._noted for a in memory.agents)


def _empty(memory: Memory) -> None:
    """Let go of what it holds. Called under the lock."""
    tallies = [layer._tally for layer in memory.layers]
    agents = {agent.name: agent for agent in memory.agents}
    away = _Away([], agents, [tally.added for tally in tallies])
    memory.journal.rest()
    for layer, nothing in zip(memory.layers, _NOTHING, strict=True):
        layer._load(nothing, lambda state: state)
    memory.history.user_turns = 0
    for tally, added in zip(tallies, away.added, strict=True):
        tally.added = added
    for agent in agents.values():
        agent.state = agent._mark = agent._noted = None
        agent._tokens = 0
    _let_go_of_snapshots(memory)
    memory._recaller = None  # type: ignore[attr-defined]  # a session's
    parts = (*memory.layers, memory.journal)
    away.kinds = [(part, type(part)) for part in (*parts, *agents.values())]
    memory.__dict__["_away"] = away
    _asleep.update((id(part), weakref.ref(memory)) for part in parts)
    weakref.finalize(memory, _forget, [id(part) for part in parts]).atexit = False
    for agent in agents.values():
        # Its class holds the session: an agent's state has nothing else to find it by.
        object.__setattr__(agent, "__class__", _sleeping_agent(type(agent), memory))
    for part in parts:
        kind: Any = type(part)
        object.__setattr__(part, "__class__", _sleeping(kind))


def _let_go_of_snapshots(memory: Memory) -> None:
    """Keep of snapshots where the store has them."""
    revision_of = memory.journal.revision_of
    stored = [
        replace(snapshot, state=None, revision=snapshot.revision or revision_of(snapshot.id))
        for snapshot in memory.record.snapshots
    ]
    memory.record.snapshots.clear()
    memory.record.snapshots.extend(snapshot for snapshot in stored if snapshot.revision)


def _forget(keys: list[int]) -> None:
    for key in keys:
        _asleep.pop(key, None)


# --- coming back ----------------------------------------------------------------------------------


def wake(memory: Memory) -> None:
    """Bring a session back that is out of memory; others who use it wait.

    Raises:
        StoreError: Its store, or where it is in cold storage, cannot give it back. It stays out.
    """
    with memory.lock:
        away = _away(memory)
        if away is None or away.waking == threading.get_ident():
            return
        away.waking = threading.get_ident()
        try:
            if not revive(memory):
                raise StoreError(
                    f"session {memory.id!r} was put away, and is not in its store any more: "
                    f"{memory.journal.store.name}"
                )
            _settle(memory, away)
            _roused(memory)
        except BaseException:
            memory.journal.rest()
            for layer, nothing in zip(memory.layers, _NOTHING, strict=True):
                layer._load(nothing, lambda state: state)
            memory.history.user_turns = 0
            raise
        finally:
            away.waking = 0


def _roused(memory: Memory) -> None:
    from .sweeping import rouse

    rouse(memory)


def _settle(memory: Memory, away: _Away) -> None:
    """It is back: give its parts what is theirs."""
    back = memory.agents._agents
    for name, agent in away.agents.items():
        if name in back:
            for slot in ("state", "_mark", "_noted", "_tokens"):
                object.__setattr__(agent, slot, getattr(back[name], slot))
            back[name] = agent
    for layer, added in zip(memory.layers, away.added, strict=True):
        layer._tally.added = added
    for part, kind in away.kinds:
        object.__setattr__(part, "__class__", kind)
    del memory.__dict__["_away"]
    _forget([id(part) for part, _ in away.kinds])


def _used(memory: Memory | None) -> None:
    """Return when a session's parts may be used: at once to who is bringing it back."""
    if memory is not None:
        wake(memory)


def _owner(part: Any) -> Memory | None:
    found = _asleep.get(id(part))
    return None if found is None else found()


@cache
def _sleeping(kind: type) -> type:
    """The class of a part of that class while its session is out of memory."""

    def read(self: Any, name: str) -> Any:
        if name != "__class__":
            _used(_owner(self))
        return object.__getattribute__(self, name)

    def write(self: Any, name: str, value: Any) -> None:
        _used(_owner(self))
        object.__setattr__(self, name, value)

    return _made(kind, read, write)


def _sleeping_agent(kind: type, memory: Memory) -> type:
    """The same of one session's agents' states."""

    def read(self: Any, name: str) -> Any:
        if name not in ("__class__", "name"):
            wake(memory)
        return object.__getattribute__(self, name)

    def write(self: Any, name: str, value: Any) -> None:
        wake(memory)
        object.__setattr__(self, name, value)

    return _made(kind, read, write)


def _made(kind: type, read: Any, write: Any) -> type:
    return type(kind)(
        kind.__name__,
        (kind,),
        {
            "__slots__": (),
            "__module__": kind.__module__,
            "__getattribute__": read,
            "__setattr__": write,
        },
    )


def _after_fork() -> None:
    for memory in list(alive):
        away = _away(memory)
        if away is not None:
            away.waking = 0  # that thread is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
