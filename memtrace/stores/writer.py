"""The one thread that writes: whatever waits together is committed together.

A commit waits for the disk, and a disk takes as long for a hundred sessions as for one. While
many write at once, the thread lingers some milliseconds so that more of them share a commit;
one alone is never kept waiting.
"""

from __future__ import annotations

import os
import threading
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol
from weakref import WeakKeyDictionary

from ..errors import StoreError
from .base import Write

_SIBLINGS = 4
"""Writes that shared the last commit, from which on it is worth waiting for more."""

_LINGER_S = 0.010
_SLICE_S = 0.002
"""It lingers as long as writes keep coming in every slice, at most so long in all."""

_WAKE = 4
"""Futures woken in one turn of an event loop: a thousand at once would stall it for 300 ms."""


class Writable(Protocol):
    """What the thread writes into."""

    def commit(self, writes: Sequence[Write]) -> list[BaseException | None]:
        """Write all in one transaction; for each, why it was not written."""


class Writer:
    """A queue, and the thread that empties it; the thread starts with the first write."""

    def __init__(self) -> None:
        self._waiting = threading.Condition()
        self._queue: deque[tuple[Writable, Write]] = deque()
        self._thread: threading.Thread | None = None
        self._taken: list[tuple[Writable, Write]] = []
        self._last = 0
        self._under_way = 0
        self._writing = False

    def submit(self, store: Writable, write: Write) -> None:
        """Put a write in line."""
        with self._waiting:
            self._queue.append((store, write))
            self._under_way += 1
            if len(self._queue) == 1:
                self._call()

    def put(self, store: Writable, write: Write) -> None:
        """Put a write in line, for which its caller is going to :meth:`help`."""
        with self._waiting:
            self._queue.append((store, write))
            self._under_way += 1

    def help(self) -> None:
        """Write what waits in the caller's own thread, if nobody else is writing.

        Waking a thread takes as long as a fast disk.
        """
        with self._waiting:
            if self._writing or self._last >= _SIBLINGS:
                self._call()
                return
            self._writing = True
            taken = self._take()
        self._done(taken, self._write(taken))

    def _call(self) -> None:
        """Have the thread see to what waits. Called under the condition."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="memtrace-writer", daemon=True)
            self._thread.start()
        self._waiting.notify_all()

    def _take(self) -> list[tuple[Writable, Write]]:
        taken = self._taken = list(self._queue)
        self._queue.clear()
        return taken

    def _done(
        self, taken: list[tuple[Writable, Write]], later: list[tuple[Writable, Write]]
    ) -> None:
        with self._waiting:
            self._taken = []
            self._writing = False
            self._under_way -= len(taken) - len(later)
            self._queue.extendleft(reversed(later))
            if self._queue:
                self._call()
            elif not self._under_way:
                self._waiting.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is under way; whether that came true in time."""
        with self._waiting:
            if self._queue:
                self._call()
            return self._waiting.wait_for(lambda: not self._under_way, timeout_s)

    def abandon(self) -> None:
        """This is a child process: what its parent was writing is the parent's."""
        error = StoreError("the process was forked while this was written; its parent writes it")
        for _, write in (*self._taken, *self._queue):
            write.ticket.settle(error)

    def _run(self) -> None:
        while True:
            with self._waiting:
                while self._writing or not self._queue:
                    self._waiting.wait()
                self._linger()
                self._writing = True
                taken = self._take()
            later = self._write(taken)
            self._done(taken, later)
            # Nothing may be held while waiting: a store that nobody else holds must go.
            del taken, later

    def _linger(self) -> None:
        end = monotonic() + _LINGER_S
        seen = 0
        while self._last >= _SIBLINGS and len(self._queue) > seen and monotonic() < end:
            seen = len(self._queue)
            # Woken by nobody: `submit` tells only of the first write in line.
            self._waiting.wait(_SLICE_S)

    def _write(self, taken: list[tuple[Writable, Write]]) -> list[tuple[Writable, Write]]:
        """Commit what was taken; gives what must wait for an earlier write of the same source."""
        groups: dict[int, tuple[Writable, list[Write]]] = {}
        sources: set[int] = set()
        later: list[tuple[Writable, Write]] = []
        for store, write in taken:
            if id(write.source) in sources:
                later.append((store, write))
                continue
            sources.add(id(write.source))
            groups.setdefault(id(store), (store, []))[1].append(write)
        self._last = 0
        for store, writes in groups.values():
            self._last += len(writes)
            settle(writes, committed(store, writes))
        return later


def committed(store: Writable, writes: Sequence[Write]) -> list[BaseException | None]:
    """Commit, whatever happens."""
    try:
        return store.commit(writes)
    except BaseException as error:  # the thread must go on, and the callers must be told
        return [error] * len(writes)


def settle(writes: Sequence[Write], errors: Sequence[BaseException | None]) -> None:
    """Tell the callers; those on an event loop a few in a turn."""
    for write, error in zip(writes, errors, strict=True):
        for loop, future in write.ticket.settle(error):
            bell = _bells.get(loop)
            if bell is None:
                bell = _bells.setdefault(loop, _Bell())
            bell.wake(future)


class _Bell:
    """Wakes the futures of one event loop, a few in a turn, those of all commits together.

    A loop that is late would else find several commits' worth of them in one turn.
    """

    __slots__ = ("_ringing", "_turn", "_waiting")

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._waiting: deque[Future[None]] = deque()
        self._ringing = False

    def wake(self, future: Future[None]) -> None:
        """Put a future in line."""
        with self._turn:
            self._waiting.append(future)
            if self._ringing:
                return
            self._ringing = True
        with suppress(RuntimeError):  # the loop is closed: nobody waits there
            future.get_loop().call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        with self._turn:
            woken = [self._waiting.popleft() for _ in range(min(_WAKE, len(self._waiting)))]
            self._ringing = bool(self._waiting)
            again = self._ringing
        if again:
            woken[0].get_loop().call_soon(self._ring)
        for future in woken:
            if not future.done():
                future.set_result(None)


_bells: WeakKeyDictionary[AbstractEventLoop, _Bell] = WeakKeyDictionary()


writer = Writer()
_after_fork: list[Callable[[], None]] = []


def after_fork(call: Callable[[], None]) -> None:
    """Have something called in a child process, which has none of its parent's threads."""
    _after_fork.append(call)


def _renew() -> None:
    global writer
    left, writer = writer, Writer()
    _bells.clear()
    left.abandon()
    for call in _after_fork:
        call()


def submit(store: Writable, write: Write) -> None:
    """Put a write in line for this process's thread."""
    writer.submit(store, write)


def put(store: Writable, write: Write) -> None:
    """The same, for a caller that is going to :func:`help_out`."""
    writer.put(store, write)


def help_out() -> None:
    """Write what waits in this thread, if nobody else is writing."""
    writer.help()


def drain(timeout_s: float = 10.0) -> bool:
    """Wait until all that was submitted is written or refused; whether that came true in time."""
    return writer.drain(timeout_s)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
