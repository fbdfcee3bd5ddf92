"""What `import memtrace` costs and what it leaves alone: `python -m benchmarks.imports`.

Seconds of the import statement in a fresh interpreter, medians of interleaved rounds, against that
of ``import wrapt, opentelemetry.trace, opentelemetry.metrics``: what any tracing decorator needs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks._rounds import Row, report

RESULTS = Path(__file__).parent / "results" / "imports.json"
OURS = "memtrace.session, memtrace.instrument"  # public names are loaded as they are used
BASE = "wrapt, opentelemetry.trace, opentelemetry.metrics"
UNWANTED = ("tiktoken", "opentelemetry.sdk", "sqlite3", "rich")
_TIMED = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"
_LOADED = "import sys, {0}; print(*(name for name in {1} if name in sys.modules))"


def output(program: str) -> str:
    """What a program says, run in a fresh interpreter."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def import_medians(rounds: int) -> dict[str, float]:
    """Median seconds of each import; one round before them fills the caches."""
    seconds: dict[str, list[float]] = {OURS: [], BASE: []}
    for turn in range(rounds + 1):
        for modules in (OURS, BASE) if turn % 2 else (BASE, OURS):
            took = float(output(_TIMED.format(modules)))
            if turn:
                seconds[modules].append(took)
    return {modules: statistics.median(took) for modules, took in seconds.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args(arguments)
    medians = import_medians(options.rounds)
    loaded = output(_LOADED.format(OURS, UNWANTED)).split()
    rows = [
        Row(f"import {OURS} / import {BASE}", medians[OURS] / medians[BASE], 1.4),
        Row(f"of {', '.join(UNWANTED)}: loaded by it", len(loaded), 0, "modules"),
        Row("import memtrace", medians[OURS] * 1e3, unit="ms"),
    ]
    if loaded:
        print(f"import memtrace loads {', '.join(loaded)}")
    return 0 if report("Import", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
