"""Timing shared by all benchmarks: interleaved rounds, medians, ratios, one table, one JSON file.

On a shared machine only ratios of things timed in turn mean anything, so every round times each
callable once, in rotating order, and the median of the rounds is what counts.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One figure of a report.

    Args:
        name: What was measured.
        value: The figure.
        bar: What it may be at most; None where it is only told.
        unit: Of both; ``×`` for a ratio.
        least: What it must be at least, where more is better.
    """

    name: str
    value: float
    bar: float | None = None
    unit: str = "×"
    least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure is within its bar."""
        return (self.bar is None or self.value <= self.bar) and (
            self.least is None or self.value >= self.least
        )


def rounds(
    callables: Mapping[str, Callable[[], Any]],
    rounds: int = 15,
    inner: int = 1,
    *,
    between: Callable[[], Any] | None = None,
    collecting: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of one call of each callable, timed in turn.

    Args:
        callables: What to time, by name.
        rounds: How often each is timed, ≥ 1; one round before them is not counted.
        inner: Calls timed together in a round, for those faster than the clock.
        between: Called after each round, and not timed.
        collecting: Leave the garbage collector on, as it is in an application.
        clock: ``time.thread_time`` leaves out what others took of a busy machine, and all waiting.

    >>> sorted(rounds({"a": lambda: 1, "b": lambda: 2}, rounds=3, inner=10))
    ['a', 'b']
    """
    names = list(callables)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    enabled = gc.isenabled()
    if not collecting:
        gc.disable()
    try:
        for turn in range(rounds + 1):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                spent = _timed(callables[name], inner, clock)
                if turn:
                    seconds[name].append(spent)
            if between is not None:
                between()
            if not collecting:
                gc.collect()
    finally:
        if enabled:
            gc.enable()
    return {name: statistics.median(spent) for name, spent in seconds.items()}


def _timed(call: Callable[[], Any], inner: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(inner):
        call()
    return (clock() - start) / inner


def ratio(medians: Mapping[str, float], name: str, base: str) -> float:
    """How many times as long one took as another."""
    return medians[name] / medians[base]


def report(title: str, rows: Sequence[Row], json_path: str | Path | None = None) -> bool:
    """Print the figures as a table, write them as JSON, and say whether every bar is met."""
    width = max(len(row.name) for row in rows)
    print(title)
    for row in rows:
        bar = "" if row.bar is None else f"  ≤ {row.bar:g} {row.unit}"
        bar += "" if row.least is None else f"  ≥ {row.least:g} {row.unit}"
        missed = "" if row.met else "  MISSED"
        print(f"  {row.name:<{width}}  {row.value:>10.4g} {row.unit}{bar}{missed}")
    if json_path is not None:
        _write(title, rows, Path(json_path))
    return all(row.met for row in rows)


def _write(title: str, rows: Sequence[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "title": title,
        "python": platform.python_version(),
        "rows": [{**row._asdict(), "met": row.met} for row in rows],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
