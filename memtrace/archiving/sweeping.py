"""What puts idle sessions away by itself: one daemon thread a process, which looks once in a while.

It holds neither sessions nor stores nor the process, and is not there while the process forks: a
child would inherit a lock that it held. It never opens a store that somebody closed.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from time import monotonic
from typing import Any

from ..errors import MemtraceError
from ..memory import Memory
from ..telemetry import spans
from .away import is_away
from .by_hand import archive_session, each
from .fitness import face

EVERY_S = 3600.0
"""Seconds between looks, at most; a twenty-fourth of the shortest idle time, where that is less."""

_LEAST_S = 1.0

_JOIN_S = 10.0
"""Seconds that a fork waits for a session that is just being put away."""


class Sweeper:
    """Knows which sessions are in use here, and since when they are not.

    Args:
        clock: Seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._turn = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._called = False
        # What a session was when it was last looked at, and since when it has been that.
        self._seen: weakref.WeakKeyDictionary[Memory, tuple[Any, float]]
        self._seen = weakref.WeakKeyDictionary()
        # Of each store the longest idle time that a session of it was opened with here.
        self._stores: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self._looked: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self._failed: set[str] = set()
        # Sessions in use whose rows are still packed: store, id, and when they were put away.
        self._waking: list[tuple[weakref.ref[Any], str, float]] = []
        self._unpacking = threading.Lock()

    # --- what is watched ----------------------------------------------------------------------

    def watch(self, memory: Memory) -> None:
        """Put a session, and the idle ones of its store, away in time."""
        store, after_s = memory.journal.store, memory.policy.archive_after_s
        if getattr(store, "archives", None) is None:
            return
        with self._turn:
            try:
                self._stores[store] = max(self._stores.get(store, 0.0), after_s)
            except TypeError:  # somebody's own store, of which no weak reference can be made
                return
            self._seen[memory] = None, self._clock()
            if self._thread is None:
                self._start()

    def after_open(self, memory: Memory) -> None:
        """A session was opened: have its store's idle ones put away, if there are any.

        One query, once in a while for each store; the work is the thread's.
        """
        store = memory.journal.store
        after_s = self._stores.get(store)
        if after_s is None:
            return
        self.rouse(memory)
        now = self._clock()
        with self._turn:
            last = self._looked.get(store)
            if last is not None and now - last < self._every_s():
                return
            self._looked[store] = now
        try:
            idle = bool(store.archives.idle(after_s))
        except MemtraceError:
            return  # whoever opens a session of it is told
        if idle:
            with self._turn:
                self._called = True
                self._turn.notify_all()

    def rouse(self, memory: Memory) -> None:
        """A session was read from its archive: have its rows unpacked in the store too.

        Nobody waits for that: a write which comes first does it itself.
        """
        since, memory._packed_since = memory._packed_since, None
        store = memory.journal.store
        if since is not None and store in self._stores:
            with self._turn:
                self._waking.append((weakref.ref(store), memory.id, since))
                self._turn.notify_all()

    def unpack(self) -> None:
        """Unpack the rows of sessions that are in use; they are unpacked when this returns."""
        while self._waking and not self._stopping:
            with self._unpacking:
                if self._waking:  # else another thread was quicker
                    self._unpack(*self._waking.pop(0))
        with self._unpacking:
            pass

    def _unpack(self, ref: weakref.ref[Any], session: str, since: float) -> None:
        store = ref()
        try:
            if store is not None and store.archives.ready:
                store.archives.wake(session, since)
        except MemtraceError as error:
            self._report(session, error)

    def _every_s(self) -> float:
        shortest = min(self._stores.values(), default=EVERY_S * 24)
        return max(_LEAST_S, min(EVERY_S, shortest / 24))

    # --- sweeping -----------------------------------------------------------------------------

    def sweep(self) -> None:
        """Look once: at the sessions of this process, then at those of their stores."""
        with self._turn:
            memories, stores = list(self._seen), dict(self._stores)
        for memory in memories:
            if self._stopping:
                return
            try:
                if self._idle_s(memory) >= memory.policy.archive_after_s:
                    _, error = archive_session(memory, "idle")
                    self._report(memory.id, error)
            except Exception as error:  # one that fails does not keep the others
                self._report(memory.id, error)
        del memories
        for store, after_s in stores.items():
            self._sweep_store(store, after_s)

    def _idle_s(self, memory: Memory) -> float:
        """Seconds since a session was last seen to change; 0: it is in use, or away."""
        if memory._closed or is_away(memory):
            return 0.0
        now, seen = self._clock(), face(memory)
        with self._turn:
            before, since = self._seen.get(memory, (None, now))
            if before is None:
                self._seen[memory] = seen, since
                return now - since
            if before != seen:
                self._seen[memory] = seen, now
                return 0.0
        return now - since

    def _sweep_store(self, store: Any, after_s: float) -> None:
        archives = store.archives
        try:
            if self._stopping or not archives.ready:
                return
            failed: dict[str, str] = {}
            waiting = [name for name in archives.idle(after_s) if name not in self._failed]
            each(
                store,
                waiting,
                lambda name: archives.archive(name, after_s),
                failed,
                goes_on=lambda: not self._stopping,
            )
            self._failed.update(failed)
            for name in archives.leftovers():
                if not self._stopping:
                    archives.purge(name)
        except MemtraceError as error:
            self._report(store.name, error)

    def _report(self, name: str, error: Exception | None) -> None:
        """Tell of a failure the first time it happens to somebody."""
        if error is not None and name not in self._failed:
            self._failed.add(name)
            spans.failure("archive", error)

    # --- the thread ---------------------------------------------------------------------------

    def _start(self) -> None:
        """Called under the condition."""
        _attend()
        self._stopping = False
        thread = threading.Thread(target=self._run, name="memtrace-archive", daemon=True)
        with suppress(RuntimeError):  # the process ends, or may have no more threads
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._turn:
                called = self._turn.wait_for(self._wanted, self._every_s())
                if self._stopping or self._thread is not threading.current_thread():
                    return
                sweeps, self._called = self._called or not called, False
            try:
                self.unpack()
                if sweeps:
                    self.sweep()
            except Exception as error:  # the thread must go on
                self._report("", error)

    def _wanted(self) -> bool:
        replaced = self._thread is not threading.current_thread()
        return self._stopping or replaced or self._called or bool(self._waking)

    def stop(self) -> bool:
        """Have the thread end, and wait for it; whether there was one."""
        with self._turn:
            thread, self._thread = self._thread, None
            self._stopping = True
            self._turn.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_S)
        return thread is not None

    def resume(self) -> None:
        """Start it again."""
        with self._turn:
            if self._thread is None:
                self._start()


# --- one a process --------------------------------------------------------------------------------

_sweeper = Sweeper()
_ran = False


def watch(memory: Memory) -> None:
    """Put a session, and the idle ones of its store, away in time."""
    _sweeper.watch(memory)


def after_open(memory: Memory) -> None:
    """A session was opened: have its store's idle ones put away, if there are any."""
    _sweeper.after_open(memory)


def rouse(memory: Memory) -> None:
    """A session was read from its archive: have its rows unpacked in the store too."""
    _sweeper.rouse(memory)


def unpack() -> None:
    """Return when the rows of all sessions that are in use here are unpacked in their stores."""
    _sweeper.unpack()


def _before_fork() -> None:
    global _ran
    _ran = _sweeper.stop()


def _after_in_parent() -> None:
    if _ran:
        _sweeper.resume()


def _after_in_child() -> None:
    global _sweeper
    _sweeper = Sweeper()


def _end() -> None:
    _sweeper.stop()


@cache
def _attend() -> None:
    """Have the thread end before a fork and the process's end, once it is first there.

    What is registered last comes first: stores let go of their files when the thread is gone.
    """
    atexit.register(_end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )
