"""Several processes on one file, and processes that fork."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from child import LETTERS, number_of
from faults import many

from memtrace import Session, verify
from memtrace.stores import open_store

CHECKPOINTS, WINS, FORKS, MADE = many(400, 100), many(200, 25), many(40, 6), many(300, 40)


def test_four_processes_on_one_file_never_lock_each_other_out(nursery: Any, tmp_path: Path) -> None:
    """Four processes with three sessions each, hundreds of checkpoints: no error, all is there."""
    store = str(tmp_path / "m.db")
    jobs = [
        nursery.start(
            "checkpoint_often",
            store=store,
            names=[f"{process}.{number}" for number in range(3)],
            times=CHECKPOINTS,
        )
        for process in range(4)
    ]
    said = [message for job in jobs for message in job.result() if "name" in message]
    assert {message["number"] for message in said} == {CHECKPOINTS}
    for message in said:
        session = Session.open(message["name"], store=store, counter=LETTERS)
        assert number_of(session) == CHECKPOINTS
    found = verify(store)
    assert (found.ok, found.sessions, found.snapshots) == (True, 12, 12 * CHECKPOINTS)
    print(f"4 processes, {12 * CHECKPOINTS} checkpoints, no lock error")
    open_store(store).close()


def test_a_store_can_be_made_by_four_processes_at_once(nursery: Any, tmp_path: Path) -> None:
    """Four processes open a file that is not there yet: it is made once, and each one's to use."""
    jobs = [
        nursery.start("make_together", folder=str(tmp_path), mine=mine, stores=MADE)
        for mine in "abcd"
    ]
    for job in jobs:
        job.result()
    for number in range(MADE):
        store = open_store(tmp_path / f"{number}.db")
        assert sorted(store.sessions()) == ["a", "b", "c", "d"]
        assert verify(store).ok
        store.close()
    print(f"{MADE} stores made")


def test_of_two_processes_on_one_session_one_wins_each_revision(
    nursery: Any, tmp_path: Path
) -> None:
    """
    Two processes write one session: each revision is one's, the other is told that it is stale,
    and the history is what was acknowledged, in the order of revisions: nothing interleaves.
    """
    store = str(tmp_path / "m.db")
    jobs = [
        nursery.start("compete", store=store, name="one", mine=mine, wins=WINS) for mine in "ab"
    ]
    said = [message for job in jobs for message in job.result()]
    won = {m["revision"]: f"{m['won'][0]} {m['won'][1] - 1}" for m in said if "won" in m}
    assert sorted(won) == list(range(1, 2 * WINS + 1))
    session = Session.open("one", store=store, counter=LETTERS)
    held = [message["content"] for message in session.history]
    assert held == [won[revision] for revision in sorted(won)]
    assert verify(store).ok
    print(f"{2 * WINS} revisions, {sum(m.get('stale', 0) for m in said)} refused as stale")
    open_store(store).close()


def test_a_process_that_forks_goes_on_and_so_does_its_child(nursery: Any, tmp_path: Path) -> None:
    """
    Forked with sessions open and writes in flight: parent and child both go on with sessions of
    their own, the child's copy of the parent's is fenced off, and nothing is lost or damaged.
    """
    store = str(tmp_path / "m.db")
    said = nursery.run("fork_while_writing", store=store, rounds=FORKS)
    said = [message for message in said if "name" in message]
    assert len(said) == FORKS + 4
    for message in said:
        session = Session.open(message["name"], store=store, counter=LETTERS)
        assert number_of(session) == message["number"]
    assert {m["number"] for m in said if m["name"] == "parent"} == {FORKS + 1}
    assert verify(store).ok
    print(f"{FORKS} forks")
    open_store(store).close()


def test_a_child_can_use_a_session_that_was_being_written(nursery: Any, tmp_path: Path) -> None:
    """
    Forked while another thread has the session's lock or waits for its write: in the child the
    session can be read, changed and put back, and waits for nobody.
    """
    store = str(tmp_path / "m.db")
    *_, said = nursery.run("fork_while_it_is_written", store=store, rounds=FORKS * 5)
    session = Session.open("shared", store=store, counter=LETTERS)
    assert number_of(session) == said["number"]
    assert verify(store).ok
    open_store(store).close()


def test_a_session_that_no_file_keeps_is_forked_whole(nursery: Any) -> None:
    """Parent and child both go on with it, and with its snapshots."""
    (said,) = nursery.run("fork_in_memory", rounds=10)
    assert said["number"] == 10


def test_killed_among_four_processes_the_others_go_on(nursery: Any, tmp_path: Path) -> None:
    """A process is killed in the middle of its writes: no other waits for it, or loses anything."""
    store = str(tmp_path / "m.db")
    rng = random.Random("among")
    for number in range(many(20, 3)):
        victim = nursery.start(
            "checkpoint_for_ever", names=[f"victim {number}"], store=store, how="turns"
        )
        others = [
            nursery.start("checkpoint_often", store=store, names=[f"{number}.{other}"], times=20)
            for other in range(2)
        ]
        said = [victim.read() for _ in range(rng.randrange(1, 20))]
        victim.kill()
        least = max([m["number"] for m in [*said, *victim.rest()] if "ack" in m], default=0)
        for other in others:
            assert other.result()[-1]["number"] == 20
        session = Session.open(f"victim {number}", store=store, counter=LETTERS)
        assert number_of(session) >= least
    assert verify(store).ok
    open_store(store).close()
