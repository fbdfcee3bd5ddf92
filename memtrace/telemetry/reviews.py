"""How many sessions are past their retention review: counted by a thread, told from memory.

A collection must not wait for a store. It gives what was counted last, and has it counted again
where that was an hour ago; so a change shows with the collection after the next.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

logger = logging.getLogger("memtrace")

_EVERY_S = 3600.0
"""A review is a matter of days."""

Count = Callable[[], "int | None"]
"""How many sessions of a store are past their review; None: it is not there any more."""


class _Source:
    """One store: who counts, what was counted last, and when that is due again."""

    __slots__ = ("again_at", "count", "last")

    def __init__(self, count: Count) -> None:
        self.count = count
        self.last: int | None = None
        self.again_at = 0.0


_sources: dict[str, _Source] = {}
_lock = threading.Lock()
_counting: threading.Thread | None = None


def follow(name: str, count: Count) -> None:
    """Tell of a store from now on. What was counted of it lately stays."""
    with _lock:
        known = _sources.get(name)
        if known is None:
            _sources[name] = _Source(count)
        else:
            known.count = count


def forget(name: str) -> None:
    """Tell of a store no more."""
    with _lock:
        _sources.pop(name, None)


def followed() -> list[str]:
    """Names of the stores that are told of."""
    with _lock:
        return list(_sources)


def stale(name: str) -> None:
    """What was counted of a store is not true any more."""
    with _lock:
        if name in _sources:
            _sources[name].again_at = 0.0


def due() -> int | None:
    """How many sessions are past their review, as it was last counted; None: nobody counted.

    Never waits.
    """
    global _counting
    with _lock:
        now = time.monotonic()
        if _counting is None and any(s.again_at <= now for s in _sources.values()):
            thread = threading.Thread(target=_count, name="memtrace-reviews", daemon=True)
            with suppress(RuntimeError):  # the process ends, or may have no more threads
                thread.start()
                _counting = thread
        known = [s.last for s in _sources.values() if s.last is not None]
    return sum(known) if known else None


def settle() -> None:
    """Wait until what is being counted is counted."""
    thread = _counting
    if thread is not None:
        thread.join()


def _count() -> None:
    global _counting
    try:
        with _lock:
            now = time.monotonic()
            waiting = {n: s for n, s in _sources.items() if s.again_at <= now}
            for source in waiting.values():
                source.again_at = now + _EVERY_S
        for name, source in waiting.items():
            try:
                found = source.count()
            except Exception as error:
                # A store that cannot be read now is read the next time.
                logger.debug("sessions past their review are not counted: %s", error)
                continue
            with _lock:
                source.last = found
                if found is None and _sources.get(name) is source:
                    del _sources[name]
    finally:
        with _lock:
            _counting = None


def _after_fork() -> None:
    global _lock, _counting
    _lock, _counting = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
