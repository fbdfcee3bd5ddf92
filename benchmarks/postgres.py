"""What a durable checkpoint in PostgreSQL costs: `python -m benchmarks.postgres [--json PATH]`.

On a server made for it (the tests', with ``fsync`` and ``synchronous_commit`` on, reached by its
socket), or ``--url``. Messages are users', of 2,000 characters of prose each, no two alike. All are
asked once a round, in random order: what a busy machine takes of one it takes of the others.

- *checkpoint*: from entering ``with checkpoint(session, "one")`` until it is left, with nothing in
  it; the message was appended before, untimed. The session of 100 messages begins anew every 20
  rounds. What is written after the block (rows of the run log) is waited for, untimed.
- *bare transaction*: BEGIN, an INSERT of the message's bytes, an UPDATE of one row, COMMIT, by
  psycopg; both statements prepared; in tables of its own with a primary key each. As they are
  written one after another, which is four round trips; and *in a pipeline*, which is one.
- *commits shared*: transactions that PostgreSQL counts / checkpoints, of 200 sessions of one loop.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from benchmarks._rounds import Row, ratio, report
from benchmarks._stores import message
from benchmarks.checkpoint import BUDGET, texts
from memtrace import Session, checkpoint
from memtrace.stores import Store, open_store, writer
from tests.postgres import Server

RESULTS = Path(__file__).parent / "results" / "postgres.json"
LARGE, SMALL = 10_000, 100
ROUNDS, FRESH = 300, 20
SESSIONS = 200


class Bare:
    """The least that keeps a message durably beside a row that says so."""

    def __init__(self, url: str, *, pipelined: bool) -> None:
        address, _, schema = url.partition("&schema=")
        self._pipelined = pipelined
        self._number = 0
        self._connection: psycopg.Connection[Any] = psycopg.connect(
            address, autocommit=True, prepare_threshold=0
        )
        name = self._name = f"bare_{schema}_{pipelined}".lower()
        self._connection.execute(f"CREATE TABLE {name} (n bigint PRIMARY KEY, body bytea)".encode())
        self._connection.execute(
            f"CREATE TABLE {name}_head (k bigint PRIMARY KEY, n bigint)".encode()
        )
        self._connection.execute(f"INSERT INTO {name}_head VALUES (1, 0)".encode())
        self._put = f"INSERT INTO {name} VALUES (%s, %b)".encode()
        self._head = f"UPDATE {name}_head SET n = %s WHERE k = 1".encode()

    def step(self, text: str) -> float:
        """One transaction."""
        body = text.encode()
        self._number += 1
        start = time.perf_counter()
        if self._pipelined:
            with self._connection.pipeline():
                self._write(body)
        else:
            self._write(body)
        return time.perf_counter() - start

    def _write(self, body: bytes) -> None:
        with self._connection.transaction():
            self._connection.execute(self._put, (psycopg.types.numeric.Int8(self._number), body))
            self._connection.execute(self._head, (psycopg.types.numeric.Int8(self._number),))

    def close(self) -> None:
        """Leave nothing."""
        self._connection.execute(f"DROP TABLE {self._name}, {self._name}_head".encode())
        self._connection.close()


def grown(store: Store, name: str, count: int, bodies: list[str]) -> Session:
    """A session of so many messages, with a snapshot after every tenth."""
    session = Session(name, store=store, token_budget=BUDGET)
    for start in range(0, count, 10):
        session.history.extend([message(text) for text in bodies[start : start + 10]])
        with checkpoint(session, "grow"):
            pass
    return session


def kept(session: Session, text: str) -> float:
    """One checkpoint after one message."""
    session.history.append(message(text))
    start = time.perf_counter()
    with checkpoint(session, "one"):
        pass
    took = time.perf_counter() - start
    writer.drain()
    return took


def rows(url: str, rounds: int) -> list[Row]:
    """The figures of one checkpoint after another."""
    store = open_store(url)
    bodies = texts(LARGE + rounds)
    large = grown(store, "large", LARGE, bodies)
    small = grown(store, "small", SMALL, bodies)
    bare = {True: Bare(url, pipelined=True), False: Bare(url, pipelined=False)}
    engines: dict[str, Callable[[str], float]] = {
        "large": lambda text: kept(large, text),
        "small": lambda text: kept(small, text),
        "pipelined": bare[True].step,
        "plain": bare[False].step,
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    chance = random.Random(9)
    names = list(engines)
    for turn, text in enumerate(bodies[LARGE:], -10):
        if turn > 0 and turn % FRESH == 0:
            small = grown(store, f"small {turn}", SMALL, bodies)
        chance.shuffle(names)
        for name in names:
            took = engines[name](text)
            if turn >= 0:
                seconds[name].append(took)
    for each in bare.values():
        each.close()
    store.close()
    medians = {name: statistics.median(took) for name, took in seconds.items()}
    label = f"durable checkpoint at {LARGE:,}"
    return [
        Row(f"{label} / bare transaction", ratio(medians, "large", "plain"), 1.6),
        Row(f"{label} / bare transaction in a pipeline", ratio(medians, "large", "pipelined")),
        Row(f"{label} / at {SMALL}", ratio(medians, "large", "small"), 1.3),
        Row(label, medians["large"] * 1e3, unit="ms"),
        Row("bare transaction", medians["plain"] * 1e3, unit="ms"),
        Row("bare transaction in a pipeline", medians["pipelined"] * 1e3, unit="ms"),
    ]


def shared(url: str) -> Row:
    """How many checkpoints share a commit."""
    store = open_store(url)
    sessions = [Session(f"loop {n}", store=store, token_budget=BUDGET) for n in range(SESSIONS)]
    body = texts(1)[0]

    async def work(session: Session) -> None:
        for _ in range(5):
            session.history.append(message(body))
            async with checkpoint(session, "one"):
                pass

    async def all_work() -> None:
        await asyncio.gather(*map(work, sessions))

    with psycopg.connect(url.partition("&schema=")[0], autocommit=True) as connection:
        count = b"SELECT pg_current_xact_id()::text::bigint"
        before = (connection.execute(count).fetchone() or (0,))[0]
        asyncio.run(all_work())
        after = (connection.execute(count).fetchone() or (0,))[0]
    store.close()
    return Row(f"{SESSIONS} sessions in one loop: commits / checkpoints", (after - before) / 1_000)


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a server that is there, ending in &schema=name")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    server = None if options.url else Server()
    url = options.url or (server.url() if server else "")
    try:
        found = [*rows(url, options.rounds), shared(url)]
    finally:
        if server is not None:
            server.remove()
    return 0 if report("Durable checkpoints in PostgreSQL", found, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
