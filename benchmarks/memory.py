"""What holding and measuring memory costs: `python -m benchmarks.memory [--json PATH]`.

Medians of interleaved rounds. Counting is tiktoken's (the extra ``fast`` counts quicker, and would
only flatter); *tiktoken alone* is the length of ``encode_ordinary`` of the same text.

- *Profile*: ``session.profile()``; the session holds no agent's state.
- *Measuring states again*: what a profile takes more with a state of 20 KB of JSON than without,
  for each KB of it. *Unchanged*: nothing was written since the last profile. *Changed*: one of
  its values was, so its tokens are counted anew.
- *Memory a message*: what ``tracemalloc`` sees of a session that took in 10,000 messages made
  before it, for each of them.
- *sync*: 1,000 turns, a message of source code more at each, the list sent whole each turn; all
  of them together. *Recount*: tiktoken alone over the whole list each turn (timed at every 50th
  turn, scaled to all of them: it is linear in the list). *Same*: the list holds the caller's same
  objects each turn; *copies*: equal ones, decoded from JSON each turn outside the timing.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks._agents import code, tiktoken_counter, tiktoken_function
from benchmarks._rounds import Row, ratio, report, rounds
from benchmarks.tokens import prose
from memtrace import Session
from memtrace.counters import EncodingCounter
from memtrace.vocabulary import CountFunction

RESULTS = Path(__file__).parent / "results" / "memory.json"
LARGE, SMALL = 100_000, 100
TURNS, STEP = 1_000, 50
MESSAGE_CHARS = 1_150
"""Characters of a message that is sent again: the mean in the recorded sessions of coding agents,
one of 343 KB left out."""


# --- profile ------------------------------------------------------------------------------------


def holding(items: int, counter: EncodingCounter) -> Session:
    """A session with so many items, a quarter each in the four layers that hold items."""
    session = Session(token_budget=100_000_000, counter=counter)
    for number in range(items // 4):
        session.active_contexts.add(f"context {number}", key=f"c{number}")
        session.archived_contexts.add(f"stored {number}", key=f"s{number}")
        session.cache.put(number, f"cached {number}")
        session.history.append({"role": "user", "content": f"message {number}"})
    return session


def profile_rows(counter: EncodingCounter) -> list[Row]:
    """A profile of much against a profile of little."""
    calls = {name: holding(name, counter).profile for name in (LARGE, SMALL)}
    medians = rounds({str(name): call for name, call in calls.items()}, 51, 500)
    return [
        Row("profile with 100,000 items / with 100", ratio(medians, str(LARGE), str(SMALL)), 1.2),
        Row("profile with 100,000 items", medians[str(LARGE)] * 1e6, 5, "µs"),
    ]


# --- agents' states -----------------------------------------------------------------------------


def state(size_bytes: int) -> dict[str, Any]:
    """What an agent may keep: some 20 values and lists for each KB of JSON."""
    files: dict[str, Any] = {}
    value = {"step": 0, "goal": "find the failing test and say why", "files": files}
    for number in range(size_bytes):
        if len(json.dumps(value)) >= size_bytes:
            break
        files[f"src/module_{number}.py"] = {
            "lines": number * 7,
            "read": True,
            "score": number / 7,
            "names": ["main", f"run_{number}", "parse"],
            "note": "opens the file, reads the header, and raises where it is cut off",
        }
    return value


def state_rows(counter: EncodingCounter, count: CountFunction) -> list[Row]:
    """A profile with a large state against one without."""
    held = state(20_000)
    text = json.dumps(held, separators=(",", ":"))
    size_kb = len(text) / 1_000
    empty, full, changing = (Session(counter=counter) for _ in range(3))
    full.agent("reader").state = held
    changing.agent("reader").state = mine = json.loads(text)

    def changed() -> None:
        mine["step"] += 1
        changing.profile()

    medians = rounds(
        {
            "none": empty.profile,
            "unchanged": full.profile,
            "changed": changed,
            "count": lambda: count(text),
        },
        rounds=51,
        inner=20,
    )

    def each_kb(name: str) -> float:
        return (medians[name] - medians["none"]) * 1e6 / size_kb

    anew = (medians["changed"] - medians["none"]) / medians["count"]
    return [
        Row("measuring an agent's state again, unchanged, a KB", each_kb("unchanged"), 2, "µs"),
        Row("the same where it has changed, a KB", each_kb("changed"), unit="µs"),
        Row("the same where it has changed / tiktoken alone counting its JSON", anew),
    ]


# --- messages -----------------------------------------------------------------------------------


def messages(count: int, chars: int, text: str) -> list[dict[str, Any]]:
    """Messages of so many characters of a text, no two alike."""
    return [{"role": "user", "content": text[n * 40 : n * 40 + chars]} for n in range(count)]


def append_rows(counter: EncodingCounter, count: CountFunction) -> list[Row]:
    """Taking in messages of 2 KB against counting their text."""
    batch = messages(100, 2_000, prose(6_000))
    session = Session(counter=counter, token_budget=10**9)
    default = Session(token_budget=10**9)

    def append(to: Session) -> None:
        for message in batch:
            to.history.append(message)

    def alone() -> None:
        for message in batch:
            count(message["content"])

    medians = rounds(
        {"append": lambda: append(session), "default": lambda: append(default), "alone": alone},
        rounds=31,
    )
    return [
        Row("appending a 2 KB message / tiktoken alone", ratio(medians, "append", "alone"), 1.3),
        Row("the same by the default counter", ratio(medians, "default", "alone")),
    ]


def size_rows(counter: EncodingCounter) -> list[Row]:
    """Bytes that a session takes for each message that it holds."""
    batch = messages(10_000, 200, prose(401_000))
    Session(counter=counter).history.extend(batch[:10])  # what is loaded once
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        session = Session(counter=counter, token_budget=10**9)
        for message in batch:
            session.history.append(message)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    return [Row("memory of a session for each message", taken / len(batch), 700, "bytes")]


# --- sync ---------------------------------------------------------------------------------------


def synced(turns: Iterator[list[Any]], counter: EncodingCounter) -> float:
    """Seconds that ``history.sync`` takes over all turns."""
    session = Session(counter=counter, token_budget=10**9)
    took = 0.0
    for sent in turns:
        start = time.perf_counter()
        session.history.sync(sent)
        took += time.perf_counter() - start
    return took


def recounted(batch: list[dict[str, Any]], count: CountFunction) -> float:
    """Seconds that counting the whole list at each turn takes."""
    lengths = range(STEP, len(batch) + 1, STEP)
    start = time.perf_counter()
    for length in lengths:
        sum(count(message["content"]) for message in batch[:length])
    took = time.perf_counter() - start
    return took * (len(batch) * (len(batch) + 1) / 2) / sum(lengths)


def sync_rows(counter: EncodingCounter, count: CountFunction, turns: int) -> list[Row]:
    """Adopting a list that is sent whole at each turn against counting it again."""
    batch = messages(TURNS, MESSAGE_CHARS, code())

    def same() -> Iterator[list[Any]]:
        return (batch[:length] for length in range(1, TURNS + 1))

    def copies() -> Iterator[list[Any]]:
        return (json.loads(json.dumps(sent)) for sent in same())

    kinds: dict[str, Callable[[], float]] = {
        "same": lambda: synced(same(), counter),
        "copies": lambda: synced(copies(), counter),
        "recount": lambda: recounted(batch, count),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(turns):
        for kind, run in kinds.items():
            seconds[kind].append(run())
    medians = {kind: statistics.median(took) for kind, took in seconds.items()}
    label = "history.sync over 1,000 turns / recounting each"
    return [
        Row(f"{label}, {kind}", ratio(medians, kind, "recount"), 0.01)
        for kind in ("same", "copies")
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    count = tiktoken_function()
    counter = tiktoken_counter(count)
    rows = [
        *profile_rows(counter),
        *state_rows(counter, count),
        *append_rows(counter, count),
        *size_rows(counter),
        *sync_rows(counter, count, 5),
    ]
    return 0 if report("Holding and measuring memory (o200k_base)", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
