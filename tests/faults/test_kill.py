"""`kill -9` at any moment: nothing acknowledged is lost, and what is left is a whole snapshot."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from child import LETTERS, number_of
from faults import many

from memtrace import Session, verify
from memtrace.stores import open_store

KILLS = many(500, 24)
LIVES = 25
"""Kills that one store lives through."""

NAMES = ["one", "two", "three", "pressed one", "pressed two"]


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_killed_at_random_points_a_store_has_all_that_was_acknowledged(
    nursery: Any, tmp_path: Path, synchronous: str
) -> None:
    """
    Nothing that a checkpoint acknowledged is lost by `kill -9`, the originals of what was
    compressed included, and every session comes back as one whole snapshot.
    """
    rng = random.Random(f"kill {synchronous}")
    known: dict[str, dict[int, str]] = {}
    acknowledged = checked = 0
    store = ""
    for kill in range(KILLS):
        if kill % LIVES == 0:
            store = f"sqlite:///{tmp_path}/{kill}.db?synchronous={synchronous}"
            known = {name: {} for name in NAMES}
        how = rng.choice(["turns", "threads", "tasks"])
        job = nursery.start("checkpoint_for_ever", names=NAMES, store=store, how=how)
        said = [job.read() for _ in range(rng.choice([0, 3, 6, 20, 40, 80]))]
        at = time.perf_counter() + rng.random() * 0.005  # between two of its steps
        while time.perf_counter() < at:
            pass
        job.kill()
        acknowledged += take_in(known, [*said, *job.rest()])
        if rng.random() < 0.3:  # else the next process is the first to open it
            checked += check(known, store, rng)
    print(f"{KILLS} kills, {synchronous}: {acknowledged} acknowledged, 0 lost, {checked} read")
    assert acknowledged > KILLS


def take_in(known: dict[str, dict[int, str]], said: list[Any]) -> int:
    """Note what was acknowledged, and that what was reopened had all of it."""
    count = 0
    for message in said:
        if "ack" in message:
            known[message["ack"]][message["number"]] = message["item"]
            count += 1
        else:
            least = max(known[message["opened"]], default=0)
            assert message["number"] >= least, f"{message} of {least}"
    return count


def check(known: dict[str, dict[int, str]], store: str, rng: random.Random) -> int:
    """Open the store here, and look at all of it."""
    held = open_store(store)
    try:
        for name, numbers in known.items():
            session = Session.open(name, store=held, counter=LETTERS)
            assert number_of(session) >= max(numbers, default=0)
            for number in rng.sample(sorted(numbers), min(10, len(numbers))):
                words = session.original(numbers[number])["content"].split()
                assert words == [str(number), *["word"] * (number % 40)]
        found = verify(held)
        assert found.ok, found.damages
        return found.snapshots
    finally:
        held.close()
