"""Forecasts and diagnoses: how often they are right, and what they cost.

    python benchmarks/diagnose.py

- Forecast: each recorded session of eight replies or more, as it was at half of its replies,
  held against a budget of which it ends at 80%: turns left by the forecast, and as they were.
  Then the same with a budget of its own size, where 80% comes before its end.
- Diagnosis: the recorded sessions that are listed as healthy (``_healthy.py``), and what a
  diagnosis of 100,000 items costs against counting them once.

Without MEMTRACE_SESSIONS the forecasts are of generated sessions, and there are no healthy ones.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from math import ceil
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._healthy import HEALTHY
from benchmarks._rounds import Row, report, rounds
from memtrace import Session, diagnose
from memtrace.errors import ConfigurationError
from memtrace.replay import Recorded, open_session, read_session
from tests.sessions import session_files

RESULTS = Path(__file__).parent / "results" / "diagnose.json"
ITEMS = 100_000
LEAST_REPLIES = 8


class Foretold(NamedTuple):
    """Turns to 80%: as they were, and as the forecast had them."""

    true: int
    turns: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Of the truth."""
        return abs(self.turns - self.true) / self.true

    @property
    def inside(self) -> bool:
        """Whether the truth is inside the spread."""
        return self.low <= self.true <= self.high


def foretell(recorded: Recorded, *, at_the_end: bool) -> Foretold | None:
    """The forecast made at half of a session; None: it is too short, or is past 80% by then."""
    ends = [n for n, m in enumerate(recorded.messages, 1) if m.role == "assistant"]
    if len(ends) < LEAST_REPLIES:
        return None
    held = [0] * len(ends)
    whole = open_session(recorded, token_budget=10**9)
    for turn, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        whole.history.extend(message.message for message in recorded.messages[start:end])
        held[turn] = whole.profile().total_tokens
    half = len(ends) // 2
    budget = ceil(held[-1] / 0.8) if at_the_end else held[-1]
    line = min(0.8 * budget, held[-1])
    if held[half - 1] >= line:
        return None
    session = open_session(
        recorded, token_budget=budget
    )  # which has seen nothing of what came later
    session.history.extend(message.message for message in recorded.messages[: ends[half - 1]])
    ahead = session.profile().forecast
    assert ahead is not None
    true = next(n for n, tokens in enumerate(held[half:], 1) if tokens >= line)
    return Foretold(true, ahead.to_80.turns, ahead.to_80.low, ahead.to_80.high)


def forecast_rows(files: Sequence[Path], *, recorded: bool) -> list[Row]:
    """How far forecasts were off, and how often the truth was inside their spread.

    What is generated at random has no second half that follows from its first: no bar holds.
    """
    rows: list[Row] = []
    for label, at_the_end in (("80% at its end", True), ("a budget of its size", False)):
        found: list[Foretold] = []
        for path in files:
            try:
                foretold = foretell(read_session(path), at_the_end=at_the_end)
            except ConfigurationError:
                continue  # a generated one that is damaged on purpose
            if foretold is not None:
                found.append(foretold)
        errors = [one.error for one in found]
        widths = [one.high / one.low for one in found]
        rows += [
            Row(
                f"forecast, {label}: median error",
                statistics.median(errors),
                0.35 if recorded else None,
                "",
            ),
            Row(
                f"forecast, {label}: the truth inside the spread",
                statistics.fmean(one.inside for one in found),
                unit="",
                least=0.8 if recorded else None,
            ),
            Row(f"forecast, {label}: high / low, median", statistics.median(widths)),
            Row(f"forecast, {label}: sessions", len(found), unit=""),
        ]
    return rows


def healthy_rows(files: Sequence[Path]) -> list[Row]:
    """Findings of sessions that are healthy."""
    listed = [path for path in files if path.stem in HEALTHY]
    worse = 0
    for path in listed:
        for finding in diagnose(path):
            if finding.severity != "info":
                worse += 1
                print(f"  {path.stem}: {finding.symptom}, {finding.message}")
    return [
        Row("healthy sessions diagnosed", len(listed), unit=""),
        Row("findings of severity warning or worse", worse, 0, ""),
    ]


def steps() -> Iterator[dict[str, object]]:
    """An agent's messages: a task now and then, calls of three tools, their outputs."""
    words = ("the path of the file has no spaces in it", "und die Datei ist groß", "x = f(y[0])")
    for n in count():
        text = f"{n} {words[n % 3]} " * (2 + n % 7)
        if n % 5 == 0:
            yield {"role": "user", "content": text}
        function = {"name": f"tool-{n % 3}", "arguments": f'{{"path": "src/part{n}.py"}}'}
        call = {"id": f"c{n}", "type": "function", "function": function}
        yield {"role": "assistant", "content": None, "tool_calls": [call]}
        yield {"role": "tool", "tool_call_id": f"c{n}", "content": text}


def cost_rows(items: int, turns: int) -> list[Row]:
    """A diagnosis against counting everything once."""
    talk = list(islice(steps(), items))
    session = Session(token_budget=10**8)
    session.history.extend(talk)

    def scratch() -> None:
        fresh = Session(token_budget=10**8)
        fresh.history.extend(talk)
        fresh.profile()

    calls: dict[str, Callable[[], object]] = {
        "scratch": scratch,
        "diagnose": lambda: diagnose(session),
        "forecast": lambda: session.profile().forecast,
    }
    medians = rounds(calls, turns)
    label = f"{items:,} items"
    return [
        Row(
            f"diagnose, {label} / once from scratch", medians["diagnose"] / medians["scratch"], 0.2
        ),
        Row(f"forecast, {label} / once from scratch", medians["forecast"] / medians["scratch"]),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=ITEMS)
    options = parser.parse_args(arguments)
    logging.getLogger("memtrace").setLevel(logging.CRITICAL)  # alerts are what is expected here
    with tempfile.TemporaryDirectory() as folder:
        files = session_files(Path(folder))
        recorded = bool(os.environ.get("MEMTRACE_SESSIONS"))
        rows = [*forecast_rows(files, recorded=recorded), *cost_rows(options.items, options.rounds)]
        if recorded:
            rows += healthy_rows(files)
    return 0 if report("Forecasts and diagnoses", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
