"""Disks without room, and places that are no place for a store."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from child import LETTERS, number_of, step
from faults import TORTURE

from memtrace import Session, StoreError, checkpoint, verify
from memtrace.stores import Ticket, open_store


@pytest.fixture(params=["limit", *(["tmpfs"] if TORTURE and os.getuid() == 0 else [])])
def disk(request: Any, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A disk to be filled: files that may not grow, or (whole form, as root) one of 2 MB."""
    if request.param == "limit":
        yield "limit", tmp_path
        return
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True)
    try:
        yield "tmpfs", place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_is_refused_and_what_came_is_stored_when_there_is_room(
    nursery: Any, disk: tuple[str, Path]
) -> None:
    """
    On a full disk each checkpoint raises StoreError, an agent still runs and returns, memory
    goes on; and the first checkpoint that has room stores all of it.
    """
    kind, folder = disk
    store = folder / "m.db"
    (said,) = nursery.run("fill_the_disk", store=str(store), disk=kind)
    assert said["refusals"] == ["StoreError"] * len(said["refusals"])
    assert said["answered"] == "DOES IT RUN?"
    session = Session.open("full", store=store, counter=LETTERS)
    assert number_of(session) == said["number"]
    assert len(Session.open("other", store=store, counter=LETTERS).history) == 1
    assert verify(store).ok
    session.journal.store.close()


def test_a_store_made_on_a_full_disk_is_refused_and_made_when_there_is_room(
    nursery: Any, disk: tuple[str, Path]
) -> None:
    """
    Where there is no room to make a store, StoreError is raised, and what was begun does no harm.
    """
    kind, folder = disk
    store = folder / "m.db"
    (said,) = nursery.run("open_on_full_disk", store=str(store), disk=kind)
    assert said["refused"] == "StoreError"
    session = Session.open("new", store=store, counter=LETTERS)
    assert number_of(session) == 1
    session.journal.store.close()


def test_a_folder_without_rights_is_refused(nursery: Any) -> None:
    """A folder that may not be written to, and one that may not even be looked into: StoreError."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        locked, closed = folder / "read-only", folder / "closed"
        locked.mkdir()
        closed.mkdir()
        for place in (locked, closed):
            session = Session.open("a", store=place / "there.db", counter=LETTERS)
            session.close()
            session.journal.store.close()
        locked.chmod(0o555)
        closed.chmod(0o000)
        for store in (
            "read-only/new.db",
            "read-only/there.db",
            "read-only/new/",
            "closed/there.db",
        ):
            (said,) = nursery.run("open_as_nobody", store=f"{folder}/{store}")
            assert (said["refused"], said["verified"]) == ("StoreError", "StoreError"), store
        for place in (locked, closed):
            place.chmod(0o755)


def missing(folder: Path) -> Path:
    return folder / "no" / "such" / "m.db"


def within_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "m.db"


def no_database(folder: Path) -> Path:
    (folder / "m.db").write_bytes(b"Dear diary, today " * 1000)
    return folder / "m.db"


def somebody_elses(folder: Path) -> Path:
    connection = sqlite3.connect(folder / "m.db")
    connection.execute("CREATE TABLE sessions (id TEXT)")
    connection.execute("INSERT INTO sessions VALUES ('theirs')")
    connection.commit()
    connection.close()
    return folder / "m.db"


def newer(folder: Path) -> Path:
    store = folder / "m.db"
    session = Session.open("a", store=store, counter=LETTERS)
    session.close()
    session.journal.store.close()
    connection = sqlite3.connect(store)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    return store


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "m.db")
    return folder / "m.db"


def link_to_itself(folder: Path) -> Path:
    (folder / "m.db").symlink_to(folder / "m.db")
    return folder / "m.db"


def long_name(folder: Path) -> Path:
    return folder / ("m" * 5000)


def device(folder: Path) -> Path:
    return Path("/dev/full")


def nothing_at_all(folder: Path) -> Path:
    return Path("/dev/null")


PLACES: list[tuple[Callable[[Path], Path], str]] = [
    (missing, "StoreError"),
    (within_a_file, "StoreError"),
    (no_database, "StoreError"),
    (somebody_elses, "StoreError"),
    (newer, "StoreVersionError"),
    (pipe, "StoreError"),
    (link_to_itself, "StoreError"),
    (long_name, "StoreError"),
    (device, "StoreError"),
    (nothing_at_all, "StoreError"),
]


@pytest.mark.parametrize(("make", "error"), PLACES, ids=lambda part: getattr(part, "__name__", ""))
def test_what_is_no_store_is_refused_and_left_as_it_is(
    nursery: Any, tmp_path: Path, make: Callable[[Path], Path], error: str
) -> None:
    """Each place that cannot be a store raises a typed error, and is left as it was."""
    place = make(tmp_path)
    exists = os.path.isfile(place)  # noqa: PTH113  (`Path.is_file` raises)
    before = place.read_bytes() if exists else None
    (said,) = nursery.run("open_there", store=str(place))
    assert (said["refused"], said["verified"]) == (error, error)
    assert before is None or place.read_bytes() == before


class Unwritable:
    """A write that cannot be made."""

    session = "unwritable"

    def __init__(self) -> None:
        self.source = self
        self.ticket = Ticket()

    def prepare(self) -> Any:
        raise ArithmeticError("no such number")

    def done(self, root: bytes) -> None:
        raise AssertionError("it was never written")


async def test_what_cannot_be_written_takes_nothing_else_with_it(tmp_path: Path) -> None:
    """
    Of many writes that are committed together one fails as nobody expected: it alone is told so,
    with a typed error, and all the others are durable.
    """
    store = open_store(tmp_path / "m.db")
    sessions = [Session.open(f"{n}", store=store, counter=LETTERS) for n in range(50)]
    bad: list[Unwritable] = []

    async def one(session: Session) -> None:
        for number in (1, 2, 3):
            bad.append(Unwritable())
            store.submit(bad[-1])
            step(session, number)
            async with checkpoint(session, f"step {number}"):
                pass

    await asyncio.gather(*map(one, sessions))
    for write in bad:
        with pytest.raises(StoreError, match="ArithmeticError: no such number"):
            write.ticket.result()
    assert {number_of(Session.open(f"{n}", store=store, counter=LETTERS)) for n in range(50)} == {3}
    assert verify(store).ok
    store.close()


def test_a_budget_past_every_column_is_stored(tmp_path: Path) -> None:
    """A token budget that no column takes hinders neither snapshots nor the run log."""
    store = open_store(tmp_path / "m.db")
    session = Session.open("a", store=store, counter=LETTERS, token_budget=10**30)
    step(session, 1)
    with checkpoint(session, "one"):
        pass
    again = Session.open("a", store=store, counter=LETTERS)
    assert (again.token_budget, number_of(again), len(session.run_log())) == (10**30, 1, 1)
    store.close()
