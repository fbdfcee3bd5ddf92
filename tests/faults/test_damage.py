"""Flipped bits and cut files: what is read is right, or older and said to be, or a typed error."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from child import LETTERS, digest, state_of
from faults import Story, many, read

from memtrace import Session, checkpoint, verify
from memtrace.stores import open_store

FLIPS, CUTS = many(300, 20), many(150, 12)

PAGE = 8192

EDGES = (0, 1, 99, 511, 512, 4096, PAGE - 1, PAGE)
"""Lengths to which the database is cut first, in bytes."""


def test_an_undamaged_copy_is_read_exactly(nursery: Any, story: Story, tmp_path: Path) -> None:
    """
    A copy without damage is exactly what was acknowledged: every state, snapshot, original and
    run; so whatever a damaged one differs in is the damage's doing.
    """
    assert read(nursery, story, story.copy(tmp_path / "copy"), cut=False) == {"exact": 1}


def test_going_back_and_forth_is_read_as_it_was(tmp_path: Path) -> None:
    """
    Back to any snapshot and on from there, also to one that was left behind: what is reopened is
    what was acknowledged, though revisions then rest on others than the one before them.
    """
    rng = random.Random("forth")
    store = open_store(tmp_path / "m.db")
    session = Session.open("a", store=store, counter=LETTERS)
    for number in range(many(300, 60)):
        if number and rng.random() < 0.5:
            session.restore(rng.choice(session.snapshots()))
        if rng.random() < 0.8:
            session.history.append({"role": "user", "content": f"{number}"})
        with checkpoint(session, f"{number}"):
            pass
        held = digest(state_of(session))
        again = Session.open("a", store=store, counter=LETTERS)
        assert digest(state_of(again)) == held, number
        if rng.random() < 0.3:
            session = again
    assert verify(store).ok
    store.close()


@pytest.mark.parametrize(
    ("story", "where"),
    [
        ("closed", "anywhere"),
        ("closed", "in what orders a page"),
        ("closed", "in the list of sessions"),
        ("with a WAL", "anywhere"),
        ("with a WAL", "in what orders a page"),
    ],
    indirect=["story"],
)
def test_a_flipped_bit_is_never_read_as_if_it_were_right(
    nursery: Any, story: Story, tmp_path: Path, where: str
) -> None:
    """
    Whichever bit of the database or of its WAL flips: each session is what it was, or an older
    snapshot of it (with a warning, where the database itself was hit), or a typed error.
    """
    rng = random.Random(f"flip {where}")
    outcomes: Counter[str] = Counter()
    for number in range(FLIPS):
        copy = story.copy(tmp_path / "copy")
        path = rng.choice(copy_files(story, copy))
        data = bytearray(path.read_bytes())
        at = rng.randrange(len(data))
        if where == "in what orders a page":  # how many rows it has, and where each begins
            at = at // PAGE * PAGE + rng.randrange(64)
        elif where == "in the list of sessions":
            path = copy / "m.db"
            data = bytearray(path.read_bytes())
            at = rng.choice(in_use(data, page_of(path, "sessions")))
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            outcomes += read(nursery, story, copy, cut=path.name.endswith("-wal"))
        except AssertionError as error:
            raise AssertionError(f"flip {number}: byte {at} of {path.name}: {error}") from error
    print(f"{FLIPS} flips {where}, closed: {story.closed}: {dict(outcomes)}")
    assert sum(outcomes.values()) == FLIPS


def test_a_cut_file_is_never_read_as_if_it_were_whole(
    nursery: Any, story: Story, tmp_path: Path
) -> None:
    """
    Wherever the database or its WAL ends too early: the same. A WAL that lost its end is an
    older state, which cannot be told from one that was never written to.
    """
    rng = random.Random("cut")
    outcomes: Counter[str] = Counter()
    for number in range(CUTS):
        copy = story.copy(tmp_path / "copy")
        path = rng.choice(copy_files(story, copy))
        length = rng.randrange(path.stat().st_size)
        if number < len(EDGES):
            path, length = copy / "m.db", EDGES[number]
        if story.closed:  # an empty file alone is what SQLite leaves where it was only just begun
            length = max(length, 1)
        with path.open("r+b") as file:
            file.truncate(length)
        try:
            outcomes += read(nursery, story, copy, cut=path.name.endswith("-wal"))
        except AssertionError as error:
            raise AssertionError(f"cut {number}: {path.name} to {length}: {error}") from error
    print(f"{CUTS} cuts, closed: {story.closed}: {dict(outcomes)}")
    assert sum(outcomes.values()) == CUTS


def page_of(path: Path, table: str) -> int:
    """Number of the page a table begins with, from 0."""
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        return int(found.fetchone()[0]) - 1
    finally:
        connection.close()


def in_use(data: bytearray, page: int) -> list[int]:
    """Positions in the file of a page's bytes that say anything."""
    at = range(page * PAGE, (page + 1) * PAGE)
    return [*at[:32], *(place for place in at if data[place])]


def copy_files(story: Story, copy: Path) -> list[Path]:
    return [copy / path.name for path in story.files()]
