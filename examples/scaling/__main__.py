"""Four workers serve 10,000 sessions, and the store proves it.

    python -m examples.scaling "postgresql://user:password@host:5432/database?schema=scaling"

Each session asks its questions one after another; whichever worker is free takes the session,
opens it as the store has it, answers, and closes it. Some are killed meanwhile.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from memtrace.stores import open_store

from .crew import Crew, Said
from .proof import prove
from .turns import Turns


def main(arguments: list[str] | None = None) -> int:
    """Serve, and prove it; 1 if something was lost, interleaved or stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of the store, ending in schema=name, of which nothing is kept")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--questions", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args(arguments)
    open_store(options.url)  # makes the schema
    start = time.perf_counter()
    with Turns(options.url) as turns:
        turns.make(options.sessions, options.questions)
        said = served(options.url, turns, options.workers, options.kills)
    took = time.perf_counter() - start
    print(f"{len(said):,} turns in {took:.0f} s: {len(said) / took:.0f} a second")
    proof = prove(options.url, said)
    print(f"{proof.sessions:,} sessions, each served by {proof.shared:.1f} workers on average")
    print(f"{proof.lost} lost, {proof.interleaved} interleaved, {proof.stale} stale")
    return 0 if proof.holds and proof.answers == options.sessions * options.questions else 1


def served(url: str, turns: Turns, workers: int, kills: int, every: int = 0) -> list[Said]:
    """What workers said until every question was answered; some were killed meanwhile.

    Args:
        url: The store's address.
        turns: Where the questions are.
        workers: How many work at a time.
        kills: How many of them are killed, spread over the work at random.
        every: Turns after which a worker takes a session that another is at; 0: it never does.
    """
    chance = random.Random(11)
    when = sorted(chance.sample(range(turns.left()), kills))
    said: list[Said] = []
    while turns.left():
        with Crew(url, workers, every) as crew:
            for one in crew.listen():
                said.append(one)
                while when and len(said) > when[0] and crew.running:
                    del when[0]
                    said += crew.kill(chance.choice(list(crew.running)))
                    crew.hire()
    return said


if __name__ == "__main__":
    sys.exit(main())
