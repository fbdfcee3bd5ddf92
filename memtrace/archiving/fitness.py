"""Whether a session is in use, and whether all of it is stored and comes back as it is."""

from __future__ import annotations

import sys
from typing import Any

from ..memory import Memory


def is_stored(memory: Memory) -> bool:
    """Whether its store's last snapshot has all of it. Called under the lock."""
    journal = memory.journal
    last = journal._last
    memory.agents._measure()
    return bool(
        journal.revision
        and journal._rests_on == journal.revision
        and journal.active
        and not journal.waiting
        and journal.tags is None
        and (last is None or last.settled)
        and all(a._mark is not None and a._mark == a._noted for a in memory.agents)
    )


def comes_back(memory: Memory) -> bool:
    """Whether the store gives everything back as it is here. Linear in what is held."""
    from ..stores import encode
    from ..stores.rows import decode

    def same(content: Any) -> bool:
        try:
            return _same(decode(encode(content)[0]), content)
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


def _same(back: Any, value: Any) -> bool:
    """Whether two are equal, and of the same types all through."""
    if type(back) is not type(value):
        return False
    if isinstance(value, dict):
        return list(back) == list(value) and all(_same(back[key], value[key]) for key in value)
    if isinstance(value, list):
        return len(back) == len(value) and all(map(_same, back, value))
    return bool(back == value)


_ALONE = 3
"""References to a part of a state that nobody else holds: what it is in, a variable, an argument.
Interpreters that count fewer of them tell of fewer holders."""


def shared(waiting: list[Any]) -> bool:
    """Whether somebody holds a part of these values who could change it: that would be lost."""
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            if sys.getrefcount(value) > _ALONE:
                return True
            waiting += value.values() if isinstance(value, dict) else value
    return False


def face(memory: Memory) -> tuple[Any, ...]:
    """What changes of a session when it is used, and takes no time to look at."""
    with memory.lock:
        memory.agents._measure()
        contexts = memory.active_contexts, memory.archived_contexts
        tallies = [layer._tally for layer in memory.layers]
        return (
            memory.history._writes,
            *(layer._writes for layer in contexts),
            *((tally.added, tally.tokens, tally.hits, tally.misses) for tally in tallies),
            memory.agents._mark,
            memory.record.runs,
            memory.journal.revision,
            tuple(memory._open_runs),
        )
