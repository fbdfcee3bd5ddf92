"""memtrace and its peers, side by side: `python -m benchmarks.peers [--json PATH] [--quick]`.

One environment and one process a peer, all alive at once, timed in turns. In each process the bare
function, a span written by hand around it and the peer's decorator are timed in turn: a figure is
what the decorator adds, as a multiple of what the hand-written recording span of its own process
adds. Medians of the turns. The network is blocked, and what a peer sends is cut off behind the
caller's path, in its favour.

`opentelemetry` and `ddtrace (plain)` are plain tracers, shown for comparison: they know nothing of
agents and take no inputs. The bars are against the decorators for agents.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._peers import environments, types
from benchmarks._peers.checks import CHECKS
from benchmarks._peers.shapes import SHAPES
from benchmarks._rounds import Row, report

RESULTS = Path(__file__).parent / "results" / "peers.json"
PLAIN = ("opentelemetry", "ddtrace (plain)")
MODES = ("recording", "unsampled", "off")
ANSWER_S = 60.0
TYPES = "types kept (pyright)"
KEEPS = (
    "`send` and `throw` reach a generator",
    "a generator's return value",
    "`asend` reaches an async generator",
)

Figures = dict[str, dict[str, dict[str, float | None]]]
"""Added cost by mode, shape and peer; None: it failed."""


class Worker:
    """A process of a peer."""

    def __init__(self, peer: str, mode: str, folder: Path) -> None:
        self.peer = peer
        variables = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "PYTHONPATH": str(environments.ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        with (folder / f"{peer} {mode}.log").open("w") as log:
            self._process = subprocess.Popen(
                [
                    str(environments.interpreter(peer)),
                    *("-m", "benchmarks._peers.worker", peer, mode),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=variables,
            )

    def ready(self) -> bool:
        """Whether it is set up; waits for that."""
        return self._answer() == "ready"

    def ask(self, *request: Any) -> Any:
        """Its answer; ``{"error": ...}`` where it failed or does not answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            return {"error": "its process ended"}
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            self.stop()
            return {"error": "it did not answer" if not readable else "its process ended"}
        return json.loads(line)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def workers(peers: list[str], mode: str, folder: Path) -> list[Worker]:
    """A process of each peer that can be set up, all of them started at once."""
    started = [Worker(peer, mode, folder) for peer in peers]
    ready = []
    for worker in started:
        if worker.ready():
            ready.append(worker)
        else:
            print(f"  {worker.peer} cannot be set up; its log is {folder}/{worker.peer} {mode}.log")
    return ready


# --- added cost -----------------------------------------------------------------------------------


def timed(peers: list[str], mode: str, turns: int, count: int, folder: Path) -> Any:
    """Added cost in a mode, by shape and peer, as a multiple of the hand-written span."""
    crew = workers(peers, mode, folder)
    seen: dict[str, dict[str, list[float]]] = {shape: {} for shape in SHAPES}
    for turn in range(turns):
        for worker in crew[turn % len(crew) :] + crew[: turn % len(crew)]:
            for shape in SHAPES:
                said = worker.ask(shape, count)
                if isinstance(said, list):
                    by_hand, decorated = said
                    seen[shape].setdefault(worker.peer, []).append(decorated / by_hand)
        print(f"  {mode}: turn {turn + 1} of {turns} ({clock()})", flush=True)
    for worker in crew:
        worker.stop()
    return {
        shape: {
            peer: statistics.median(values[peer]) if values.get(peer) else None for peer in peers
        }
        for shape, values in seen.items()
    }


# --- behaviour ------------------------------------------------------------------------------------


def matrix(peers: list[str], folder: Path) -> dict[str, dict[str, str]]:
    """What each peer fails at, by row and peer; empty where it passes."""
    failed: dict[str, dict[str, str]] = {row: {} for row in (*CHECKS, TYPES)}
    for peer in peers:
        worker: Worker | None = None
        for row in CHECKS:
            if worker is None:
                worker = (workers([peer], "checks", folder) or [None])[0]  # type: ignore[list-item]
            said = {"error": "it cannot be set up"} if worker is None else worker.ask(row)
            failed[row][peer] = said["error"] if isinstance(said, dict) else ""
            if "process ended" in failed[row][peer] or "not answer" in failed[row][peer]:
                worker = None
        if worker is not None:
            worker.stop()
        failed[TYPES][peer] = types.fault(peer, folder)
        count = sum(not failed[row][peer] for row in failed)
        print(f"  {peer}: {count} of {len(failed)} ({clock()})", flush=True)
    return failed


# --- import and size ------------------------------------------------------------------------------

_TIMED = "import time; t = time.perf_counter(); {0}; print(time.perf_counter() - t)"


def import_s(peers: list[str], rounds: int) -> dict[str, float]:
    """Median seconds of importing each; one round before them fills the caches."""
    seconds: dict[str, list[float]] = {peer: [] for peer in peers}
    for turn in range(rounds + 1):
        for peer in peers:
            program = _TIMED.format(environments.PACKAGES[peer].imported)
            command = [str(environments.interpreter(peer)), "-c", program]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
            if turn:
                seconds[peer].append(float(done.stdout.split()[-1]))
    return {peer: statistics.median(took) for peer, took in seconds.items()}


# --- tables ---------------------------------------------------------------------------------------


def table(
    peers: list[str],
    versions: dict[str, str],
    figures: Figures,
    failed: dict[str, dict[str, str]],
    imports: dict[str, float],
    sizes: dict[str, float],
) -> str:
    """Both tables, as Markdown."""

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}" if value < 1 else f"{value:.1f}"

    lines = [
        "| added by | version | sync | async | method | ten-yield generator | async generator "
        "| unsampled | off | import, ms | installed, MB |",
        "|---|---|" + "---:|" * 9,
    ]
    for peer in peers:
        recording = [cell(figures["recording"][shape][peer]) for shape in SHAPES]
        others = [cell(figures[mode]["sync"][peer]) for mode in MODES[1:]]
        cells = [peer, versions[peer], *recording, *others]
        cells += [f"{imports[peer] * 1e3:.0f}", f"{sizes[peer]:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| | " + " | ".join(peers) + " |", "|---|" + ":-:|" * len(peers)]
    for row, by_peer in failed.items():
        marks = ["✗" if by_peer[peer] else "✓" for peer in peers]
        lines.append(f"| {row} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def bars(
    figures: Figures, failed: dict[str, dict[str, str]], imports: dict[str, float]
) -> list[Row]:
    """What must hold."""
    recording = figures["recording"]

    def against(shape: str, keeping: tuple[str, ...] = ()) -> Row:
        others = {
            peer: cost
            for peer, cost in recording[shape].items()
            if cost
            and peer not in ("memtrace", *PLAIN)
            and not any(failed[r][peer] for r in keeping)
        }
        ours = recording[shape]["memtrace"]
        if not others or ours is None:
            return Row(f"{shape}: no peer to be measured against", 0.0)
        fastest = min(others, key=lambda peer: others[peer])
        return Row(f"{shape}: memtrace / {fastest}, the fastest", ours / others[fastest], 0.6)

    rows = [against(shape) for shape in ("sync", "async", "method")]
    rows += [against(shape, KEEPS) for shape in ("generator", "async generator")]
    missed = sum(bool(by_peer["memtrace"]) for by_peer in failed.values())
    rows.append(Row("rows of the matrix that memtrace fails", missed, 0, "rows"))
    if "openinference" in imports:
        share = imports["memtrace"] / imports["openinference"]
        rows.append(Row("import memtrace / import openinference", share, 1.0))
    return rows


_began = time.monotonic()


def clock() -> str:
    """Time since the program began, for people."""
    return f"{time.monotonic() - _began:.0f} s"


def main(arguments: list[str] | None = None) -> int:
    """Run all; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="see that it works: no figures")
    parser.add_argument("--peers", nargs="*", default=list(environments.PACKAGES))
    options = parser.parse_args(arguments)
    turns, count, rounds = (2, 9, 2) if options.quick else (9, 41, 11)
    names = ["memtrace", *(peer for peer in options.peers if peer != "memtrace")]
    peers = [peer for peer in names if environments.make(peer)]
    for peer in sorted(set(names) - set(peers)):
        print(f"{peer} cannot be installed here")
    versions = {peer: environments.version(peer) for peer in peers}
    print(", ".join(f"{peer} {number}" for peer, number in versions.items()), flush=True)
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    imports = import_s(peers, rounds)
    print(f"  imported ({clock()})", flush=True)
    failed = matrix(peers, folder)
    figures = {mode: timed(peers, mode, turns, count, folder) for mode in MODES}
    sizes = {peer: environments.size_mb(peer) for peer in peers}
    print(table(peers, versions, figures, failed, imports, sizes), end="\n\n")
    for row, by_peer in failed.items():
        for peer, fault in by_peer.items():
            if fault:
                print(f"{peer}: {row}: {fault.splitlines()[0][:120]}")
    shutil.rmtree(folder, ignore_errors=True)
    rows = bars(figures, failed, imports)
    return 0 if report("memtrace and its peers", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
