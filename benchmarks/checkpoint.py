"""What a durable checkpoint costs: `python -m benchmarks.checkpoint [--json PATH] [--quick]`.

Messages are users', of 2,000 characters of prose each, no two alike. No span or metric provider
is set up, except where a row says so. Sessions have a budget that they stay far below, so that
the loop has nothing to do. All in one run, on one disk (that of ``--folder``).

*Engines*, each in a folder of its own, each asked to keep one new message durably:

- *bare commit*: one INSERT of the message's bytes, in one transaction; WAL, ``synchronous=FULL``.
- *memtrace*: from entering ``with checkpoint(session, "one")`` until it is left, with nothing in
  it; the message was appended before, untimed. ``synchronous=FULL``. What the session writes
  after the block (rows of its run log, at most once a second) is waited for, untimed.
- *langgraph*: ``SqliteSaver.put`` of a checkpoint whose channel ``messages`` is the whole list, as
  a graph calls it; the writes that a graph stores besides are left out.
- *openai-agents*: ``SQLiteSession.add_items`` of the one message: a log, without snapshots.
- *full JSON*: ``json.dumps`` of all messages into a new file, fsync, rename.

The peers run in processes of their own, with their own settings (printed: WAL and
``synchronous=FULL``), and are timed there.

*Checkpoint*, p50 and p99: of rounds in which each engine is asked once, in random order. Those
that write whole lists of 1,000 messages or more are asked in every fifth round (``--quick``: in
every sixth), so their p99 is the longest of 60 (10). Conversations of 100 and 1,000 grow by a
fifth at most, then the next of their kind takes over.

*Durable checkpoint at 10,000 / bare commit*, and *at 100*: medians of rounds of their own, before
those, in which only these three are asked, in random order: what other engines leave in the
processor's and the disk's caches is none of ours. *Among all engines*: of the rounds with all.
*Processor time*: of the whole process, the writer's thread too.

*Disk*: bytes of all files, after closing, of a conversation grown from nothing with a snapshot
after each message, for each conversation where a file has several. langgraph's is computed from
what its checkpoints of that length took: at 10,000 it is more than most disks have. Full JSON
keeps the newest snapshot alone. *Raw text*: UTF-8 bytes of the messages' contents.

*Restore*: reading the newest snapshot, from opening the file on. *By hand*: opening the same file,
selecting payload and hash of the same rows in order, the chain of SHA-256 over them, compared,
msgspec decoding each as a ``Row``, collected in a list. Same process, in turn, what either gives
is held until the round is over; the garbage collector is off for both, and on for both.

*1,000 sessions* in one event loop and one store: each appends a message, enters and leaves
``async with checkpoint``, and begins again, ten times in a round. *Commits*: ``COMMIT`` statements
that SQLite's trace callback sees on the store's connection / checkpoints. *Processor time*: of the
whole process over a round / its checkpoints, less that of a round in which as many sessions
append as many messages, and yield to the loop where the others checkpoint: so counting the
message's tokens and taking it in, which is the session's work, is left out (*with the append*:
nothing is subtracted). Measured without a ticking task; *ticking*: with it and the trace. *Lag*:
how much later than asked a task woke that sleeps 1 ms at a time, in rounds of their own; 99th
percentile of all of them. There the sessions begin within two seconds, not in one turn of the
loop, which would be late by what they all do in it, whoever keeps them. From then on nobody
pauses: the loop is never idle, so the lag is what one turn of it holds. *Garbage collection*: the
longest pause of the collector meanwhile, which is in the lag.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

import memtrace
from benchmarks._agents import tracing
from benchmarks._rounds import Row, ratio, report, rounds
from benchmarks._stores import (
    BareCommit,
    Engine,
    FullJson,
    Remote,
    Worker,
    message,
    peers_python,
    size,
    timed,
)
from benchmarks.loop import Pauses
from benchmarks.tokens import prose
from memtrace import Session, checkpoint
from memtrace.stores import Row as StoredRow
from memtrace.stores import Store, open_store, writer
from memtrace.stores.log import key_of

RESULTS = Path(__file__).parent / "results" / "checkpoint.json"
SIZES = (100, 1_000, 10_000)
LARGE, SMALL = SIZES[-1], SIZES[0]
CHARS = 2_000
BUDGET = 10**9
SESSIONS, REPEATS = 1_000, 10
TICK_S = 0.001
START_S = 2.0
LOOP_ROUNDS = ("append", "checkpoint", "ticking", "recording")


def texts(count: int) -> list[str]:
    """So many texts of 2,000 characters, no two alike."""
    text = prose(1_000_000)
    made: list[str] = []
    for number in range(count):
        start = number * 1_999 % (len(text) - CHARS)
        made.append(f"{number}: {text[start : start + CHARS]}"[:CHARS])
    return made


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


# --- memtrace as an engine ------------------------------------------------------------------------


class Memtrace:
    """Sessions in one store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "memory.db"
        self._copies = 0
        self._disk = 0.0
        self._sessions: list[Session] = []
        self.processor_s: list[float] = []

    def grow(self, texts: Sequence[str], copies: int) -> None:
        """A checkpoint after each message; the file is the same without waiting for the disk."""
        address = f"sqlite:///{self.path}?synchronous=NORMAL"
        store = open_store(address)
        self._copies = copies
        for copy in range(copies):
            session = Session.open(f"s{copy}", store=store, token_budget=BUDGET)
            for text in texts:
                session.history.append(message(text))
                with checkpoint(session, "grow"):
                    pass
            session.close()
            del session
            gc.collect()
        store.close()
        del store
        gc.collect()  # the store goes with its last session: it is opened anew as FULL
        self._disk = size(self._folder) / copies

    def step(self, text: str, copy: int) -> float:
        """A block entered and left."""
        if not self._sessions:
            self._sessions = [Session.open(f"s{n}", store=self.path) for n in range(self._copies)]
        session = self._sessions[copy]
        session.history.append(message(text))
        processor = time.process_time()
        start = time.perf_counter()
        with checkpoint(session, "one"):
            pass
        took = time.perf_counter() - start
        writer.drain()
        self.processor_s.append(time.process_time() - processor)
        return took

    def restore(self) -> float:
        """A session opened."""
        self.close()
        held: list[Session] = []
        took = timed(lambda: held.append(Session.open("s0", store=self.path)))
        self._sessions = held
        return took

    def disk(self) -> float:
        """Of the store once it had grown, for each session in it."""
        return self._disk

    def close(self) -> None:
        """Let go of the file, without another snapshot."""
        if self._sessions:
            store = self._sessions[0].journal.store
            self._sessions.clear()
            gc.collect()
            store.close()


# --- one checkpoint after another -----------------------------------------------------------------


def made(folder: Path, workers: dict[str, Worker], length: int) -> dict[str, Engine]:
    """One of each engine."""

    def place(name: str) -> Path:
        path = folder / f"{name} {length}"
        path.mkdir()
        return path

    engines: dict[str, Engine] = {
        "memtrace": Memtrace(place("memtrace")),
        "full JSON": FullJson(place("json")),
    }
    for name, worker in workers.items():
        engines[name] = Remote(worker, place(name))
    return engines


def step_times(
    engines: dict[tuple[str, int], Engine],
    bare: BareCommit,
    new: Sequence[str],
    count: int,
    every: int,
    copies: dict[int, int],
) -> dict[tuple[str, int], list[float]]:
    """Seconds of every step of every engine."""
    chance = random.Random(7)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in [*engines, ("bare", 0)]}
    for turn in range(-2, count):
        text = new[turn]
        keys = list(seconds)
        chance.shuffle(keys)
        for name, length in keys:
            if name in ("langgraph", "full JSON") and length >= 1_000 and turn % every:
                continue
            if name == "bare":
                took = bare.step(text)
            else:
                copy = max(0, turn) * copies[length] // count
                took = engines[name, length].step(text, copy)
            if turn >= 0:
                seconds[name, length].append(took)
    return seconds


def floor_rows(
    engines: dict[tuple[str, int], Engine], bare: BareCommit, new: Sequence[str]
) -> list[Row]:
    """A checkpoint of much against one of little, and against the least that a disk takes."""
    seconds: dict[str, list[float]] = {"bare": [], "large": [], "small": []}
    names = list(seconds)
    chance = random.Random(8)
    large, small = engines["memtrace", LARGE], engines["memtrace", SMALL]
    copies = len(new) * 10 // SMALL
    for turn, text in enumerate(new):
        chance.shuffle(names)
        for name in names:
            if name == "bare":
                seconds[name].append(bare.step(text))
            elif name == "large":
                seconds[name].append(large.step(text, 0))
            else:
                seconds[name].append(small.step(text, turn * copies // len(new)))
    medians = {name: statistics.median(took) for name, took in seconds.items()}
    processor = {
        name: statistics.median(engine.processor_s[-len(new) :])  # type: ignore[attr-defined]
        for name, engine in (("large", large), ("small", small))
    }
    label = f"durable checkpoint at {LARGE:,}"
    return [
        Row(f"{label} / bare commit", ratio(medians, "large", "bare"), 1.5),
        Row(f"{label} / at {SMALL}", ratio(medians, "large", "small"), 1.3),
        Row(f"{label}", medians["large"] * 1e3, unit="ms"),
        Row("the bare commit in the same rounds", medians["bare"] * 1e3, unit="ms"),
        Row(f"{label}: processor time", processor["large"] * 1e6, unit="µs"),
        Row(f"{label}: processor time / at {SMALL}", ratio(processor, "large", "small")),
    ]


def engine_rows(
    engines: dict[tuple[str, int], Engine],
    seconds: dict[tuple[str, int], list[float]],
    raw_bytes: int,
    restores: int,
) -> list[Row]:
    """Every engine's figures, told; then those with a bar."""
    medians = {f"{name} {n}": statistics.median(took) for (name, n), took in seconds.items()}
    restored: dict[tuple[str, int], list[float]] = {key: [] for key in engines}
    disk = {key: engine.disk() for key, engine in engines.items()}
    for _ in range(restores):
        for key, engine in engines.items():
            restored[key].append(engine.restore())
    rows = [
        Row("bare commit: p50", medians["bare 0"] * 1e3, unit="ms"),
        Row("bare commit: p99", percentile(seconds["bare", 0], 0.99) * 1e3, unit="ms"),
    ]
    for key in engines:
        label = f"{key[0]} at {key[1]:,}"
        rows += [
            Row(f"{label}: checkpoint, p50", medians[f"{key[0]} {key[1]}"] * 1e3, unit="ms"),
            Row(f"{label}: checkpoint, p99", percentile(seconds[key], 0.99) * 1e3, unit="ms"),
            Row(f"{label}: disk", disk[key] / 1e6, unit="MB"),
            Row(f"{label}: restore", statistics.median(restored[key]) * 1e3, unit="ms"),
        ]
    rows += [
        Row(
            f"memtrace at {LARGE:,} / bare commit, among all engines",
            ratio(medians, f"memtrace {LARGE}", "bare 0"),
        ),
        Row(f"disk of {LARGE:,} snapshots / raw text", disk["memtrace", LARGE] / raw_bytes, 1.5),
    ]
    if ("langgraph", LARGE) in engines:
        share = ratio(medians, f"langgraph {LARGE}", f"memtrace {LARGE}")
        rows.append(Row(f"langgraph at {LARGE:,} / memtrace", share, least=30))
    return rows


# --- reading back ---------------------------------------------------------------------------------


def read_by_hand(path: Path, session: str) -> list[StoredRow]:
    """What nobody can leave out who reads a log and trusts nothing."""
    connection = sqlite3.connect(path)
    decode = msgspec.msgpack.Decoder(StoredRow).decode
    rows: list[StoredRow] = []
    before = bytes(16)
    for payload, digest in connection.execute(
        "SELECT payload, hash FROM log WHERE session = ? AND place > 0 ORDER BY revision, place",
        (key_of(session),),
    ):
        before = sha256(before + payload).digest()[:16]
        if before != digest:
            raise ValueError("not what was written")
        rows.append(decode(payload))
    connection.close()
    return rows


def restore_rows(path: Path, count: int) -> list[Row]:
    """Opening a session against reading its rows by hand."""
    store = open_store(path)
    held: list[Any] = []

    def release() -> None:
        held.clear()
        gc.collect()
        store.close()  # it opens again when it is used

    calls: dict[str, Callable[[], Any]] = {
        "open": lambda: held.append(Session.open("s0", store=store)),
        "hand": lambda: held.append(read_by_hand(path, "s0")),
    }
    release()
    off = rounds(calls, count, between=release)
    assert len(Session.open("s0", store=store).history) == LARGE
    release()
    on = rounds(calls, count, between=release, collecting=True)
    label = f"restore of {LARGE:,} messages / by hand"
    return [
        Row(f"{label}, garbage collector off", ratio(off, "open", "hand"), 1.5),
        Row(f"{label}, garbage collector on", ratio(on, "open", "hand"), 1.5),
        Row(f"restore of {LARGE:,} messages by hand, collector off", off["hand"] * 1e3, unit="ms"),
    ]


# --- many sessions --------------------------------------------------------------------------------


class Crowd:
    """Sessions of one store in one event loop.

    Attributes:
        lags: Seconds by which the ticking task woke late, of all rounds.
        pauses: The garbage collector's, in those rounds.
        commits: COMMIT statements that were seen in rounds with the trace.
    """

    def __init__(self, folder: Path, new: Sequence[str]) -> None:
        self._new = new
        self.store: Any = open_store(folder / "crowd.db")
        self._appending = self._sessions("a", self.store)
        self._keeping = self._sessions("c", self.store)
        self.lags: list[float] = []
        self.commits = 0
        self.pauses = Pauses()

    @staticmethod
    def _sessions(prefix: str, store: Store) -> list[Session]:
        return [
            Session.open(f"{prefix}{n}", store=store, token_budget=BUDGET) for n in range(SESSIONS)
        ]

    async def _work(self, session: Session, number: int, keeps: bool, after_s: float) -> None:
        if after_s:
            await asyncio.sleep(after_s)
        for repeat in range(REPEATS):
            text = self._new[(number * REPEATS + repeat) % len(self._new)]
            session.history.append(message(text))
            if keeps:
                async with checkpoint(session, "step"):
                    pass
            else:
                await asyncio.sleep(0)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.lags.append(loop.time() - due)

    async def _round(self, keeps: bool, ticks: bool) -> None:
        ticking = asyncio.ensure_future(self._tick()) if ticks else None
        sessions = self._keeping if keeps else self._appending
        apart_s = START_S / SESSIONS if ticks else 0
        work = (self._work(s, n, keeps, n * apart_s) for n, s in enumerate(sessions))
        await asyncio.gather(*work)
        if ticking is not None:
            ticking.cancel()

    def _saw(self, statement: str) -> None:
        self.commits += statement == "COMMIT"

    def run(self, kind: str) -> float:
        """Processor seconds of a round for each checkpoint, or append."""
        ticks = kind == "ticking"
        provider = tracing() if kind == "recording" else None
        before = memtrace.configure(tracer_provider=provider)
        gc.collect()
        if ticks:
            self.store._connection.set_trace_callback(self._saw)
        start = time.process_time()
        try:
            with self.pauses if ticks else nullcontext():
                asyncio.run(self._round(kind != "append", ticks))
            writer.drain()  # rows of the run log, which are a checkpoint's too
            return (time.process_time() - start) / (SESSIONS * REPEATS)
        finally:
            memtrace.configure(tracer_provider=before.tracer_provider)
            if ticks:
                self.store._connection.set_trace_callback(None)

    def idle(self, seconds: float) -> list[float]:
        """How late the ticking task woke with nobody at work."""
        kept, self.lags = self.lags, []

        async def alone() -> None:
            ticking = asyncio.ensure_future(self._tick())
            await asyncio.sleep(seconds)
            ticking.cancel()

        asyncio.run(alone())
        idle, self.lags = self.lags, kept
        return idle


def crowd_rows(folder: Path, new: Sequence[str], count: int) -> list[Row]:
    """What checkpoints cost where many sessions make them at once."""
    crowd = Crowd(folder, new)
    for kind in ("append", "checkpoint"):
        crowd.run(kind)
    processor: dict[str, list[float]] = {kind: [] for kind in LOOP_ROUNDS}
    clock: list[float] = []
    idle: list[float] = []
    for turn in range(count):
        shift = turn % len(LOOP_ROUNDS)
        for kind in LOOP_ROUNDS[shift:] + LOOP_ROUNDS[:shift]:
            start = time.perf_counter()
            processor[kind].append(crowd.run(kind))
            if kind == "checkpoint":
                clock.append(SESSIONS * REPEATS / (time.perf_counter() - start))
        idle += crowd.idle(0.5)
    took = {kind: statistics.median(values) * 1e6 for kind, values in processor.items()}
    label = f"{SESSIONS:,} sessions"
    each = f"{label}: processor time for each checkpoint"
    return [
        Row(
            f"{label}: disk commits for each checkpoint",
            crowd.commits / (count * SESSIONS * REPEATS),
            0.05,
            unit="commits",
        ),
        Row(each, took["checkpoint"] - took["append"], 300, "µs"),
        Row(f"{each}, with the append", took["checkpoint"], unit="µs"),
        Row(f"{each}, ticking", took["ticking"] - took["append"], unit="µs"),
        Row(f"{each}, spans recorded", took["recording"] - took["append"], unit="µs"),
        Row(f"{label}: event-loop lag, p99", percentile(crowd.lags, 0.99) * 1e3, 20, "ms"),
        Row(f"{label}: event-loop lag, median", percentile(crowd.lags, 0.5) * 1e3, unit="ms"),
        Row(f"{label}: event-loop lag, longest", max(crowd.lags) * 1e3, unit="ms"),
        Row(f"{label}: longest garbage collection", crowd.pauses.longest * 1e3, unit="ms"),
        Row("event-loop lag, p99, idle", percentile(idle, 0.99) * 1e3, unit="ms"),
        Row(f"{label}: durable checkpoints a second", statistics.median(clock), unit="/s"),
    ]


# --- all of it ------------------------------------------------------------------------------------


def measured(folder: Path, workers: dict[str, Worker], quick: bool) -> list[Row]:
    """All rows."""
    count, every = (60, 6) if quick else (300, 5)
    copies = {length: max(1, count * 10 // length) for length in SIZES}
    held = texts(LARGE)
    new = texts(LARGE + 2 * count)[LARGE:]
    engines: dict[tuple[str, int], Engine] = {}
    for length in reversed(SIZES):
        for name, engine in made(folder, workers, length).items():
            engine.grow(held[:length], copies[length])
            engines[name, length] = engine
            if name == "memtrace" and length == LARGE:
                rows = restore_rows(engine.path, 5 if quick else 15)  # type: ignore[attr-defined]
    for name in workers:
        print(f"{name}: {engines[name, SMALL].pragmas()}")  # type: ignore[attr-defined]
    bare = BareCommit(folder)
    floor = floor_rows(engines, bare, new[count:])
    seconds = step_times(engines, bare, new[:count], count, every, copies)
    raw_bytes = sum(len(text.encode()) for text in held)
    rows = [*engine_rows(engines, seconds, raw_bytes, 3 if quick else 7), *floor, *rows]
    for closing in (bare, *engines.values()):
        closing.close()
    engines.clear()
    gc.collect()
    return [*rows, *crowd_rows(folder, held, 1 if quick else 5)]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    options = parser.parse_args(arguments)
    logging.getLogger("memtrace").setLevel(logging.CRITICAL)
    python = peers_python()
    if python is None:
        print("The peers cannot be installed here: only memtrace's own rows follow.")
    names = ("langgraph", "openai-agents") if python is not None else ()
    folder = Path(tempfile.mkdtemp(prefix="memtrace-checkpoint-", dir=options.folder))
    workers = {name: Worker(str(python), name) for name in names}
    try:
        rows = measured(folder, workers, options.quick)
    finally:
        for worker in workers.values():
            worker.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if report("Durable checkpoints", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
