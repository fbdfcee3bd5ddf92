"""What asking the command for its help costs: `python -m benchmarks.cli [--json PATH]`.

CPU seconds of fresh interpreters, medians of interleaved rounds: ``memtrace --help`` against
``python -c "import typer, rich"``, which any command line of this kind begins with.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from benchmarks._commands import COMMAND, spent
from benchmarks._rounds import Row, ratio, report

RESULTS = Path(__file__).parent / "results" / "cli.json"
HELP = "memtrace --help"
BASE = 'python -c "import typer, rich"'
# As the installed script does: `python -m memtrace.cli` would look for the module as well.
_HELP = "import sys; sys.argv = ['memtrace', '--help']; from memtrace.cli import main; main()"
_COMMANDS = {
    HELP: (sys.executable, "-c", _HELP),
    BASE: (sys.executable, "-c", "import typer, rich"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args(arguments)
    seconds: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for turn in range(options.rounds + 1):
        for name in list(_COMMANDS)[:: 1 if turn % 2 else -1]:
            took = spent(_COMMANDS[name]).cpu_s
            if turn:  # the first fills the caches
                seconds[name].append(took)
    medians = {name: statistics.median(took) for name, took in seconds.items()}
    version = statistics.median(
        spent((*COMMAND, "--version")).cpu_s for _ in range(options.rounds // 3 or 1)
    )
    rows = [
        Row(f"{HELP} / {BASE}", ratio(medians, HELP, BASE), 1.3),
        Row(HELP, medians[HELP] * 1e3, unit="ms"),
        Row("python -m memtrace.cli --version", version * 1e3, unit="ms"),
    ]
    return 0 if report("The command line", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
