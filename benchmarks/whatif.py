"""What comparing settings costs: `python -m benchmarks.whatif [--json PATH]`.

Wall seconds of the command over all sessions (under MEMTRACE_SESSIONS, else generated), medians of
interleaved rounds: ``memtrace whatif`` with three budgets and two policies against ``memtrace
replay`` of the same files once. Both start an interpreter; *whatif* starts one more for each core.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks._commands import COMMAND, Spent, spent
from benchmarks._rounds import Row, report
from tests.sessions import session_files

RESULTS = Path(__file__).parent / "results" / "whatif.json"
BUDGETS = "32k,64k,128k"
POLICIES = {"default": "", "careful": "keep_recent = 20\nkeep_tool_outputs = 8\n"}


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = list(map(str, session_files(folder)))
        for policy, text in POLICIES.items():
            (folder / f"{policy}.toml").write_text(text, "utf-8")
        policies = ",".join(str(folder / f"{policy}.toml") for policy in POLICIES)
        settings = ("--budget", BUDGETS, "--policy", policies)
        commands = {
            "whatif": (*COMMAND, "whatif", *files, *settings),
            "alone": (*COMMAND, "whatif", *files, *settings, "--jobs", "1"),
            "replay": (*COMMAND, "replay", *files),
            "replay at 32k": (*COMMAND, "replay", *files, "--budget", "32k"),
        }
        taken: dict[str, list[Spent]] = {name: [] for name in commands}
        for turn in range(options.rounds):
            for name in list(commands)[:: 1 if turn % 2 else -1]:
                taken[name].append(spent(commands[name]))
    wall = {name: statistics.median(one.wall_s for one in all) for name, all in taken.items()}
    cpu = {name: statistics.median(one.cpu_s for one in all) for name, all in taken.items()}
    rows = [
        Row("whatif with six settings / one replay", wall["whatif"] / wall["replay"], 4.0),
        Row("the same / one replay at 32k", wall["whatif"] / wall["replay at 32k"]),
        Row("on one core / one replay, CPU", cpu["alone"] / cpu["replay"]),
        Row("one replay", wall["replay"] * 1e3, unit="ms"),
    ]
    return 0 if report("Six settings side by side", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
