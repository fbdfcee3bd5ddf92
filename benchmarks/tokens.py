"""Counting stays linear, whatever the text: `python -m benchmarks.tokens [--json PATH]`.

Ratios of medians over interleaved rounds. The base is tiktoken's own `encode_ordinary` on a
million characters of prose.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import random
import sys
from pathlib import Path

from benchmarks._rounds import Row, ratio, report, rounds
from memtrace.counters import EncodingCounter
from memtrace.messages import facts
from memtrace.tokens import MemoCounter, measure_tokens
from memtrace.vocabulary import CountFunction, fast_function, offline_function, vocabulary_path

MILLION = 1_000_000
RESULTS = Path(__file__).parent / "results" / "tokens.json"
_DOCUMENTED = "argparse asyncio datetime decimal email logging pathlib turtle".split()


def prose(length: int) -> str:
    """English as people write it: what the standard library's modules say of themselves."""
    said: list[str] = []
    for name in _DOCUMENTED:
        module = importlib.import_module(name)
        for holder in [module, *vars(module).values()]:
            for documented in (holder, *getattr(holder, "__dict__", {}).values()):
                said.append(inspect.getdoc(documented) or "")
    text = "\n\n".join(dict.fromkeys(said))
    return (text * (length // len(text) + 1))[:length]


def adversarial() -> dict[str, str]:
    """A million characters each of what makes tiktoken slow, or panic."""
    chance = random.Random(2)
    return {
        "spaces": " " * MILLION,
        "letters": "a" * MILLION,
        "newlines": "\n" * MILLION,
        "emoji": "😀" * MILLION,
        "random lowercase": "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=MILLION)),
    }


def counter_by(count: CountFunction) -> EncodingCounter:
    """A counter that counts by this very function."""
    counter = EncodingCounter("o200k_base")
    counter._count = count
    return counter


def linear_rows(kind: str, counter: EncodingCounter, bare: CountFunction) -> list[Row]:
    """Adversarial text against prose, and four million spaces against one."""
    text = prose(MILLION)
    hostile = adversarial()
    calls = {
        "prose": lambda: bare(text),
        "4 million": lambda: counter.count_text(" " * 4 * MILLION),
    }
    for name, worst in hostile.items():
        calls[name] = lambda worst=worst: counter.count_text(worst)  # type: ignore[misc]
    medians = rounds(calls, rounds=7)
    rows = [Row(f"{kind}: 4 million spaces / 1 million", ratio(medians, "4 million", "spaces"), 5)]
    for name in hostile:
        label = f"{kind}: a million of {name} / tiktoken on a million of prose"
        rows.append(Row(label, ratio(medians, name, "prose"), 10))
    return rows


def small_rows(kind: str, counter: EncodingCounter, bare: CountFunction) -> list[Row]:
    """What counting adds to bare tiktoken on ordinary sizes."""
    text = prose(2_000)
    message = {"role": "user", "content": text}
    memo = MemoCounter(counter)
    calls = {
        "bare": lambda: bare(text),
        "text": lambda: measure_tokens(text, counter=counter),
        "message": lambda: measure_tokens(message, counter=counter),
        "memo": lambda: measure_tokens(message, counter=memo),
        "facts": lambda: facts(message),
    }
    medians = rounds(calls, inner=200)
    return [
        Row(f"{kind}: 2 kB of text / bare tiktoken", ratio(medians, "text", "bare")),
        Row(f"{kind}: 2 kB message / bare tiktoken", ratio(medians, "message", "bare")),
        Row(f"{kind}: 2 kB message again, remembered / bare", ratio(medians, "memo", "bare")),
        Row(f"{kind}: facts() of a plain message", medians["facts"] * 1e6, 3, "µs"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    bare = offline_function("o200k_base", vocabulary_path("o200k_base"))
    rows: list[Row] = []
    for kind, function in (("tiktoken", bare), ("toktok", fast_function("o200k_base"))):
        if function is not None:
            counter = counter_by(function)
            rows += linear_rows(kind, counter, bare) + small_rows(kind, counter, bare)
    return 0 if report("Counting tokens (o200k_base)", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
