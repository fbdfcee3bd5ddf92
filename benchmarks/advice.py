"""Whether a cache's advice is right, and what remembering accesses costs: `python -m
benchmarks.advice [--json PATH] [--quick]`.

- *Error*: a cache lives through a recorded access trace, each missed key put after its lookup, and
  is asked for advice. Each setting that it tells of then lives through the whole trace itself.
  The error is the difference of the two hit rates, in points: the worst of all sizes from a
  quarter to four times the present one, of both evictions, of present sizes of a twentieth, a
  tenth and a quarter of the trace's keys.
- *Within its spread*: share of the advised rows whose error is within the spread that is told, or
  a point where that is less.
- *Cost*: a lookup that hits, of a cache that remembers accesses, against one that does not, in
  turn, in one process, in CPU time. The same for a lookup that misses with the put after it.

The traces are found through MEMTRACE_SESSIONS.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks._rounds import Row, ratio, report, rounds
from memtrace.layers import Cache, Tally, Wiring
from memtrace.layers.access import AccessLog
from memtrace.memory import now

RESULTS = Path(__file__).parent / "results" / "advice.json"
TOKENS = 100
LONGEST = 140_000
"""Lookups of a trace that are played: one goes round the same thousand keys five hundred times."""


class Unadvised(AccessLog):
    """A log that remembers nothing."""

    def put(self, *_: Any) -> None:
        pass

    missed = dropped = put  # type: ignore[assignment]


class Forgetful(Cache):
    """A cache whose lookups are not remembered: the same body without its last lines."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._log = Unadvised()
        self._counted: dict[Any, int] = {}

    def get(self, key: Any, default: Any = None) -> Any:
        with self._lock:
            try:
                item = self._shelf[key]
            except KeyError:
                tally = self._tally
                tally.misses += 1
                self.restless = self.restless or tally.misses > 8
                return default
            self._tally.hits += 1
            self._held.move_to_end(key)
            uses = self._counted[key] = self._counted.get(key, 0) + 1
            if uses == self._often and item.expires_at is not None:
                self._stretchable = True
            return item.content


def made(limit_tokens: int, eviction: str, kind: type[Cache] = Cache) -> Cache:
    """A cache in which every value has the same tokens."""
    ids = itertools.count()
    wiring = Wiring(
        threading.RLock(), lambda _: TOKENS, now, lambda: (None, None), lambda p: f"{p}{next(ids)}"
    )
    return kind(wiring, Tally(), limit_tokens, 3, eviction)


def lived(trace: list[str], limit_tokens: int, eviction: str) -> Cache:
    """A cache that has lived through a trace."""
    cache = made(limit_tokens, eviction)
    for key in trace:
        if cache.get(key) is None:
            cache.put(key, key)
    return cache


def traces(folder: Path) -> dict[str, list[str]]:
    """Keys that were looked up, by name of the trace."""
    found = {}
    for path in sorted(folder.glob("*.trace.gz")):
        lines = gzip.decompress(path.read_bytes()).decode().split()
        found[path.name.split(".")[0]] = [key for key in lines if key.isdigit()]
    for path in sorted(folder.glob("*.jsonl")):
        requests = map(json.loads, path.read_text("utf-8").splitlines())
        found[path.stem] = [str(key) for request in requests for key in request["hash_ids"]]
    return {name: keys[:LONGEST] for name, keys in found.items()}


def errors(trace: list[str], present: float) -> list[tuple[float, float]]:
    """Error and spread of each advised row, 0–1, for a cache of a share of the trace's keys."""
    limit = int(len(set(trace)) * present) * TOKENS
    advice = lived(trace, limit, "lru").advise()
    told = []
    for row in advice.rows:
        truth = lived(trace, row.setting.limit_tokens, row.setting.eviction).stats.hit_rate or 0.0
        told.append((abs(row.hit_rate - truth), row.spread))
    return told


def costs(quick: bool) -> list[Row]:
    """What remembering adds to an access."""
    keys = [f"key {number}" for number in range(200)]

    def hits(kind: type[Cache]) -> Any:
        cache = made(10**9, "lru", kind)
        for key in keys:
            cache.put(key, key)
        return lambda: [cache.get(key) for key in keys]

    def misses(kind: type[Cache]) -> Any:
        cache = made(50 * TOKENS, "lru", kind)
        return lambda: [cache.get(key) or cache.put(key, key) for key in keys]

    rows = []
    for name, make in (("a hit", hits), ("a miss and its put", misses)):
        times = rounds(
            {"advised": make(Cache), "not": make(Forgetful)},
            rounds=31 if quick else 101,
            inner=20,
            clock=time.thread_time,
        )
        rows.append(Row(f"cost of {name} / unadvised", ratio(times, "advised", "not"), 1.2))
    return rows


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="one present size of each trace")
    given = parser.parse_args()
    rows = costs(given.quick)
    within: list[bool] = []
    folder = Path(os.environ.get("MEMTRACE_SESSIONS", ".")) / "cache_traces"
    for name, trace in traces(folder).items():
        told = [
            row
            for present in ((0.1,) if given.quick else (0.05, 0.1, 0.25))
            for row in errors(trace, present)
        ]
        within += [error <= max(spread, 0.01) for error, spread in told]
        worst = 100 * max(error for error, _ in told)
        rows.append(Row(f"error, {name} ({len(trace):,} lookups)", worst, 2.0, "points"))
    if within:
        rows.append(Row("within its spread", sum(within) / len(within), None, "", 0.9))
    return 0 if report("Advice of a cache", rows, given.json) else 1


if __name__ == "__main__":
    sys.exit(main())
