"""Connections that threads take turns at.

A pool of its own, and a small one: it tells at once, and why, that a server is not there, where
``psycopg_pool`` waits for its threads to reach it, and it has no threads that a fork would lose.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from ..errors import StoreError
from .postgres_address import Address

Connection = psycopg.Connection[Any]
T = TypeVar("T")

_MOST = 8
"""Connections of a process, at most: writing takes one, and PostgreSQL has 100 by default."""

_WAIT_S = 30.0
"""Seconds to wait for one."""


class Pool:
    """Connections to one server.

    Args:
        address: Where it is.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._turn = threading.Condition()
        self._idle: list[Connection] = []
        self._lent = 0
        self._generation = 0  # of what is lent: nothing is given back to a pool that was closed
        self._finalizer = weakref.finalize(self, _let_go, self._idle, os.getpid())
        self._finalizer.atexit = False  # what waits is written first

    def run(self, work: Callable[[Connection], T]) -> T:
        """What work on a connection gives; PostgreSQL's errors leave it as memtrace's.

        Where a connection was lost that had been idle, work is done again on a new one: the
        server may have been started anew meanwhile. So it must be work that can be done twice.

        Raises:
            StoreError: No server is reached, or it refuses.
        """
        while True:
            with self._lent_one() as (connection, fresh):
                try:
                    return work(connection)
                except psycopg.Error as error:
                    lost = _lost(connection, error)
                    if not lost or fresh:
                        raise self.address.typed(error) from error
                    connection.close()
            self._drop_idle()  # they were lost with it

    @contextmanager
    def _lent_one(self) -> Iterator[tuple[Connection, bool]]:
        """A connection for as long as the block, and whether it is new."""
        with self._turn:
            if not self._turn.wait_for(lambda: self._idle or self._lent < _MOST, _WAIT_S):
                raise StoreError(
                    f"all {_MOST} connections to {self.address.name} were in use for "
                    f"{_WAIT_S:.0f} s; work in fewer threads at a time"
                )
            connection = self._idle.pop() if self._idle else None
            self._lent += 1
            generation = self._generation
        fresh = connection is None
        try:
            if connection is None:
                connection = self.address.connect()
            yield connection, fresh
        finally:
            self._take_back(connection, generation)

    def _take_back(self, connection: Connection | None, generation: int) -> None:
        with self._turn:
            self._lent -= 1
            if connection is not None:
                usable = (
                    generation == self._generation
                    and connection.info.transaction_status == TransactionStatus.IDLE
                )
                if usable:
                    self._idle.append(connection)
                else:
                    connection.close()
            self._turn.notify()

    def _drop_idle(self) -> None:
        with self._turn:
            _let_go(self._idle, os.getpid())

    @property
    def connected(self) -> bool:
        """Whether a connection waits to be used."""
        return bool(self._idle)

    def close(self) -> None:
        """Close all that is idle, and what is lent once it comes back."""
        with self._turn:
            self._generation += 1
            _let_go(self._idle, os.getpid())

    def leave(self) -> None:
        """This is a child process: the connections are its parent's, not to be used or closed."""
        self._finalizer.detach()
        _leaked.extend(self._idle)
        self._turn = threading.Condition()
        self._idle, self._lent = [], 0
        self._generation += 1
        self._finalizer = weakref.finalize(self, _let_go, self._idle, os.getpid())
        self._finalizer.atexit = False


_leaked: list[Connection] = []


def _let_go(idle: list[Connection], process: int) -> None:
    if os.getpid() != process:
        _leaked.extend(idle)
        idle.clear()
    while idle:
        with suppress(psycopg.Error):
            idle.pop().close()


def _lost(connection: Connection, error: psycopg.Error) -> bool:
    """Whether an error means that the connection is of no more use."""
    return connection.closed or isinstance(
        error,
        (
            psycopg.errors.AdminShutdown,
            psycopg.errors.CrashShutdown,
            psycopg.errors.CannotConnectNow,
        ),
    )
