"""Whose turn it is: a table that says which session has work, and which worker is at it.

A worker takes a session for some seconds, and nobody else takes it meanwhile. That is politeness,
not safety: one who takes longer, or who was thought dead, is stopped by the store, which refuses
what does not follow the session's latest revision. So nothing here has to be durable, and no
transaction is open while a worker works.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg


class Turn(NamedTuple):
    """What a worker is to do.

    Args:
        session: Id of the session.
        number: Number of the question that it is to answer, from 1.
    """

    session: str
    number: int


class Turns:
    """The table, in the schema of the store, for as long as a ``with`` block.

    Args:
        url: The store's address, which ends in ``schema=name``.
        worker: Who asks.
        lease_s: Seconds for which a worker has a session to itself.
    """

    def __init__(self, url: str, worker: str = "", lease_s: float = 60.0) -> None:
        address, _, schema = url.rpartition("schema=")
        self._worker = worker
        self._lease_s = lease_s
        self._connection: psycopg.Connection[Any] = psycopg.connect(
            address.rstrip("?&"), autocommit=True, prepare_threshold=0
        )
        self._run(f'SET search_path = "{schema}"')
        self._run("SET synchronous_commit = off")  # a turn that is forgotten is given again

    def _run(self, statement: str, *values: object) -> psycopg.Cursor[Any]:
        return self._connection.execute(statement.encode(), values)

    def make(self, sessions: int, questions: int) -> None:
        """So many sessions, each with so many questions to be answered one after another."""
        self._run("DROP TABLE IF EXISTS turns")
        self._run(
            "CREATE TABLE turns (session text PRIMARY KEY, asked int NOT NULL, answered int"
            " NOT NULL, worker text, free_at timestamptz NOT NULL) WITH (fillfactor = 50)"
        )
        self._run("CREATE INDEX turns_free ON turns (free_at) WHERE answered < asked")
        self._run(
            "INSERT INTO turns SELECT 'session ' || n, %s, 0, NULL, '-infinity'"
            " FROM generate_series(1, %s) AS n",
            questions,
            sessions,
        )
        self._run("ANALYZE turns")

    def take(self) -> Turn | None:
        """The session that waits longest among those that nobody has; None: there is none."""
        found = self._run(_TAKE, self._worker, self._lease_s).fetchone()
        return Turn(*found) if found else None

    def snatch(self) -> Turn | None:
        """A session that somebody else is at, as one has it whose time is over."""
        found = self._run(_SNATCH, self._worker).fetchone()
        return Turn(*found) if found else None

    def answered(self, turn: Turn) -> None:
        """It is done: the session's next question can be taken."""
        self._run(_ANSWERED, turn.number, turn.session, turn.number)

    def give_back(self) -> None:
        """Whatever this worker has is free."""
        self._run(_GIVE_BACK, self._worker)

    def left(self) -> int:
        """How many questions are not answered yet."""
        return int((self._run("SELECT sum(asked - answered) FROM turns").fetchone() or (0,))[0])

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()


_TAKE = """
    UPDATE turns SET worker = %s, free_at = now() + %s * interval '1 s'
    WHERE session = (
        SELECT session FROM turns WHERE answered < asked AND free_at <= now()
        ORDER BY free_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING session, answered + 1
"""

_SNATCH = """
    SELECT session, answered + 1 FROM turns
    WHERE answered < asked AND free_at > now() AND worker <> %s LIMIT 1
"""

_ANSWERED = """
    UPDATE turns SET answered = %s, worker = NULL, free_at = now()
    WHERE session = %s AND answered < %s
"""

_GIVE_BACK = "UPDATE turns SET worker = NULL, free_at = now() WHERE worker = %s"
