"""Many workers on one PostgreSQL: `python -m benchmarks.workers [--quick] [--json PATH]`.

The workers are those of ``examples/scaling``: processes that take a session which has a question
waiting, open it as the store has it, answer, and close it. A run is one such turn: an agent's span,
two messages, a durable snapshot and a row of the run log. The server is the tests' (``fsync`` and
``synchronous_commit`` on, by its socket, on the same cores as the workers), or ``--url``.

- *Throughput*: one worker and four in turn, each on a server's schema of its own with as many
  sessions as there are below, each time with new processes; runs that were said to be durable from
  the moment each worker had served 20, until so many were. The ratio is that of the medians.
- *Processor time*: of the workers, as the system counts it, and of the server's processes, for each
  run of four workers in those rounds; *processors busy* is their sum / time.
- *The server alone*: transactions a second of four connections that do nothing but commit one row
  durably, measured right after: what the disk gives to four that wait for it.
- *The load*: four workers serve every session until each has all its answers. Each 50th turn of a
  worker is of a session that another one is at (its own clock says the other's time is over), so
  that the store has something to refuse. At random moments, chosen beforehand, one of them is
  killed (SIGKILL) and another takes its place.
- *Lost*: answers whose worker was told they were durable, and which are not in the store.
  *Interleaved*: messages that are not in their place, after their question, in order, once.
  *Stale*: answers in the store whose worker was refused, and questions that two workers were told
  they had answered. All counted in the store afterwards, in every session, by what each message
  says; then ``memtrace.verify`` reads every row and compares it with its hash.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from benchmarks._rounds import Row, report
from examples.scaling.__main__ import served
from examples.scaling.crew import Crew
from examples.scaling.proof import prove
from examples.scaling.turns import Turns
from memtrace import verify
from memtrace.stores import open_store
from tests.postgres import Server

RESULTS = Path(__file__).parent / "results" / "workers.json"
WARM = 20
EVERY = 50
TICKS = os.sysconf("SC_CLK_TCK")


class Size(NamedTuple):
    """How much is measured."""

    sessions: int
    questions: int
    kills: int
    rounds: int
    runs: int


FULL = Size(sessions=10_000, questions=10, kills=200, rounds=5, runs=1_000)
QUICK = Size(sessions=200, questions=10, kills=10, rounds=2, runs=300)


def begin(url: str, sessions: int, questions: int) -> None:
    """A schema with nothing in it but questions."""
    open_store(url)
    with Turns(url) as turns:
        turns.make(sessions, questions)


# --- throughput -----------------------------------------------------------------------------------


def seconds_of(process: int) -> float:
    """Processor time of a process so far; 0: it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0


def family(process: int) -> list[int]:
    """A process and its children."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [process, *map(int, children)]
    return [process]


class Pace(NamedTuple):
    """What a crew did.

    Args:
        rate: Runs a second.
        worker_s: Processor time of the workers, for each run.
        server_s: Of the server, for each run.
    """

    rate: float
    worker_s: float
    server_s: float


def pace(url: str, size: int, runs: int, server: int) -> Pace:
    """How fast so many workers are, once they are warm."""
    by: Counter[str] = Counter()
    done = start = workers_s = server_s = 0.0
    with Crew(url, size) as crew:
        for one in crew.listen():
            by[one.signed.partition(".")[0]] += one.outcome == "answered"
            if start:
                done += one.outcome == "answered"
            elif len(by) == size and min(by.values()) >= WARM:
                workers_s = sum(seconds_of(p.pid) for p in crew.running.values())
                server_s = sum(map(seconds_of, family(server)))
                start = time.perf_counter()
            if done == runs:
                break
        took = time.perf_counter() - start
        assert done == runs, "there were too few questions"
        workers_s = sum(seconds_of(p.pid) for p in crew.running.values()) - workers_s
        server_s = sum(map(seconds_of, family(server))) - server_s
    return Pace(runs / took, workers_s / runs, server_s / runs)


def commits(url: str, seconds: float = 3.0) -> float:
    """Durable commits a second of four connections that do nothing else."""
    address, _, schema = url.rpartition("schema=")
    counts: list[int] = []

    def work(number: int) -> None:
        with psycopg.connect(address.rstrip("?&"), autocommit=True) as connection:
            put = f"UPDATE {schema}.bare SET n = n + 1 WHERE k = {number}".encode()
            end, count = time.perf_counter() + seconds, 0
            while time.perf_counter() < end:
                connection.execute(put, prepare=True)
                count += 1
            counts.append(count)

    with psycopg.connect(address.rstrip("?&"), autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {schema}.bare (k int PRIMARY KEY, n int)".encode())
        connection.execute(
            f"INSERT INTO {schema}.bare SELECT k, 0 FROM generate_series(1, 4) AS k".encode()
        )
    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def throughput(new: Callable[[], str], process: int, size: Size) -> list[Row]:
    """Four workers against one, in turn."""
    urls = {1: new(), 4: new()}
    for url in urls.values():
        begin(url, size.sessions, 2 * size.rounds * size.runs // size.sessions + 2)
    found: dict[int, list[Pace]] = {1: [], 4: []}
    for turn in range(size.rounds):
        for workers in (1, 4) if turn % 2 else (4, 1):
            found[workers].append(pace(urls[workers], workers, size.runs, process))
    rate = {n: statistics.median(p.rate for p in paces) for n, paces in found.items()}
    worker = statistics.median(p.worker_s for p in found[4])
    server = statistics.median(p.server_s for p in found[4])
    return [
        Row("throughput of four workers / one worker", rate[4] / rate[1], least=1.6),
        Row("runs a second, one worker", rate[1], unit="/s"),
        Row("runs a second, four workers", rate[4], unit="/s"),
        Row("processor time of the workers for each run", worker * 1e3, unit="ms"),
        Row("processor time of the server for each run", server * 1e3, unit="ms"),
        Row("processors busy with them", (worker + server) * rate[4], unit="cores"),
        Row("processors there are", float(os.cpu_count() or 1), unit="cores"),
        Row("the server alone: durable commits a second", commits(urls[4]), unit="/s"),
    ]


# --- the load -------------------------------------------------------------------------------------


def load(url: str, size: Size) -> list[Row]:
    """All sessions served by four workers, some of which are killed; what the store then holds."""
    begin(url, size.sessions, size.questions)
    start = time.perf_counter()
    with Turns(url) as turns:
        said = served(url, turns, 4, size.kills, EVERY)
    took = time.perf_counter() - start
    outcomes = Counter(one.outcome for one in said)
    proof = prove(url, said)
    checked = verify(url)
    label = f"{size.sessions * size.questions:,} runs"
    return [
        Row(f"{label}, {size.kills} kills: acknowledged lost", proof.lost, 0, unit="answers"),
        Row(f"{label}: interleaved", proof.interleaved, 0, unit="messages"),
        Row(f"{label}: stale writes accepted", proof.stale, 0, unit="answers"),
        Row(f"{label}: damages", len(checked.damages), 0, unit="rows"),
        Row(
            f"{label}: answers missing",
            size.sessions * size.questions - proof.answers,
            0,
            unit="answers",
        ),
        Row("stale writes refused", outcomes["refused"], least=1, unit="writes"),
        Row("answers found that nobody had told of", outcomes["known"], unit="answers"),
        Row("sessions", proof.sessions, unit="sessions"),
        Row("workers that served a session, on average", proof.shared, unit="workers"),
        Row("runs a second, four workers, with the kills", len(said) / took, unit="/s"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no server is left behind
    server: Any = Server()
    try:
        process = int((server.data / "postmaster.pid").read_text().split()[0])
        found = [*throughput(server.url, process, size), *load(server.url(), size)]
    finally:
        server.remove()
    return 0 if report("Four workers on one PostgreSQL", found, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
