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
from .fitness import comes_back, is_stored, shared


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
    if not comes_back(memory):
        return "it holds objects that its store gives back as plain data"
    with memory.lock:
        if memory._open_runs or memory.record.acting_thread is not None:
            return "it is in use"
        # First of all nobody else can reach anything of it: who tries to waits for the lock.
        away = _asleep_from_now(memory)
        try:
            now = memory.history._writes, memory.active_contexts._writes, memory.journal.revision
            if now != seen or not is_stored(memory) or memory.run_rows:
                why = "it was used meanwhile"
            elif shared([agent.state for agent in away.agents.values()]):
                why = "somebody holds an agent's state, and may change it"
            else:
                _empty(memory, away)
                return ""
            _settle(memory, away)
            return why
        finally:
            away.waking = 0


def _asleep_from_now(memory: Memory) -> _Away:
    """Have whoever uses a part of it bring it back first; it holds what it held."""
    agents = {agent.name: agent for agent in memory.agents}
    parts: tuple[Any, ...] = (*memory.layers, memory.journal)
    away = _Away(
        [(part, type(part)) for part in (*parts, *agents.values())],
        agents,
        [layer._tally.added for layer in memory.layers],
        threading.get_ident(),
    )
    memory.__dict__["_away"] = away
    _close(memory, away)
    weakref.finalize(memory, _forget, [id(part) for part in parts]).atexit = False
    return away


def _close(memory: Memory, away: _Away) -> None:
    """Give its parts the classes that they have while it is away."""
    parts = len(memory.layers) + 1
    _asleep.update((id(part), weakref.ref(memory)) for part, _ in away.kinds[:parts])
    for place, (part, kind) in enumerate(away.kinds):
        # An agent's class holds the session: an agent's state has nothing else to find it by.
        made = _sleeping(kind) if place < parts else _sleeping_agent(kind, memory)
        object.__setattr__(part, "__class__", made)


def _empty(memory: Memory, away: _Away) -> None:
    """Let go of what it holds. Called under the lock, by whom it counts as awake."""
    _hold_nothing(memory, away)
    for agent in away.agents.values():
        agent.state = agent._mark = agent._noted = None
        agent._tokens = 0
    _let_go_of_snapshots(memory)
    memory._recaller = None  # type: ignore[attr-defined]  # a session's


def _hold_nothing(memory: Memory, away: _Away) -> None:
    memory.journal.rest()
    for layer, nothing in zip(memory.layers, _NOTHING, strict=True):
        layer._load(nothing, lambda state: state)
    memory.history.user_turns = 0
    for layer, added in zip(memory.layers, away.added, strict=True):
        layer._tally.added = added


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
            _come_back(memory, away)
        except BaseException:
            memory.__dict__["_away"] = away
            _close(memory, away)  # an interrupt may have come when some of it was back
            _hold_nothing(memory, away)
            raise
        finally:
            away.waking = 0
        _roused(memory)


def _roused(memory: Memory) -> None:
    from .sweeping import rouse

    rouse(memory)


def _come_back(memory: Memory, away: _Away) -> None:
    """It is back: give its agents' states to whoever holds them."""
    back = memory.agents._agents
    for name, agent in away.agents.items():
        if name in back:
            for slot in ("state", "_mark", "_noted", "_tokens"):
                object.__setattr__(agent, slot, getattr(back[name], slot))
            back[name] = agent
    for layer, added in zip(memory.layers, away.added, strict=True):
        layer._tally.added = added
    _settle(memory, away)


def _settle(memory: Memory, away: _Away) -> None:
    """Have its parts be used as they are."""
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
