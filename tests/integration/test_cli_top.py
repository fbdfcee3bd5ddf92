"""``memtrace top``: a store's sessions, live, driven as by somebody at a keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from memtrace import Session, managed_agent, trigger_cleanup
from memtrace.cli.stored import open_named
from memtrace.cli.top import Top, look
from memtrace.errors import StoreError

NEVER = 3_600.0
"""Seconds between two looks where a test looks by itself."""


@managed_agent(name="talker")
def talk(session: Session, turns: int) -> None:
    """Turns of a conversation, and a cleanup by hand."""
    for turn in range(turns):
        session.history.append({"role": "user", "content": f"question {turn} " * 40})
        session.messages()
        session.history.append({"role": "assistant", "content": f"answer {turn} " * 60})
    trigger_cleanup(session, target=0.3)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A store of two sessions; the one used last has a name that would colour a terminal."""
    path = str(tmp_path / "memory.db")
    with Session.open("first", store=path, token_budget=2_000) as session:
        talk(session, 6)
    with Session.open("last[red]\x1b[31m", store=path) as session:
        session.history.append({"role": "user", "content": "hello"})
    return path


def rows(app: Top, name: str) -> list[list[str]]:
    """A table's cells as text."""
    table: DataTable[Text] = app.query_one(f"#{name}", DataTable)
    return [[cell.plain for cell in table.get_row_at(row)] for row in range(table.row_count)]


def head(app: Top) -> str:
    """The first line."""
    return str(app.query_one("#head", Static).render())


async def settled(app: Top) -> None:
    """Wait until what is being read is shown."""
    await app.workers.wait_for_complete()


async def shown(pilot: Pilot[None], told: Callable[[], bool]) -> None:
    """Wait until something is shown: a key is answered in several steps."""
    for _ in range(500):
        if told():
            return
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    raise AssertionError("it was never shown")


async def test_top_shows_sessions_points_and_actions(path: str) -> None:
    """
    The one used last stands first; choosing the other shows its points and actions.
    """
    app = Top(open_named(path), NEVER)
    async with app.run_test(size=(120, 30)) as pilot:
        await settled(app)
        assert [row[0] for row in rows(app, "sessions")] == [
            "last[red]\N{REPLACEMENT CHARACTER}[31m",
            "first",
        ]
        assert "2 sessions" in head(app)
        assert rows(app, "actions") == []

        await pilot.press("down")
        await shown(pilot, lambda: bool(rows(app, "actions")))

        points = {row[0]: row[1] for row in rows(app, "points")}
        assert len(points) == 5
        assert points["token budget usage"].endswith("%")
        assert {row[1] for row in rows(app, "actions")} & {"cleanup", "compress"}
        assert any(row[3] for row in rows(app, "actions"))


async def test_top_sees_what_was_written_since(path: str) -> None:
    """
    A session that went on is first at the next look, and the cursor stays with its session.
    """
    app = Top(open_named(path), NEVER)
    async with app.run_test(size=(120, 30)) as pilot:
        await settled(app)
        before = rows(app, "sessions")[1]
        with Session.open("first", store=path) as session:
            talk(session, 1)

        await pilot.press("r")
        await shown(pilot, lambda: rows(app, "sessions")[0][0] == "first")

        assert rows(app, "sessions")[0][6] > before[6]
        assert app.query_one("#sessions", DataTable).cursor_row == 1


async def test_top_pauses_and_quits(path: str) -> None:
    """
    ``p`` says that it is paused, a second time that it is not; ``q`` ends it.
    """
    app = Top(open_named(path), NEVER)
    async with app.run_test() as pilot:
        await settled(app)
        await pilot.press("p")
        await shown(pilot, lambda: "paused" in head(app))
        await pilot.press("p")
        await shown(pilot, lambda: "paused" not in head(app))
        await pilot.press("q")
    assert app.return_code == 0


async def test_top_of_an_empty_store(tmp_path: Path) -> None:
    """
    No session is no error.
    """
    path = tmp_path / "memory.db"
    Session.open("x", store=path)  # makes the store, and nothing in it

    app = Top(open_named(str(path)), NEVER)
    async with app.run_test():
        await settled(app)
        assert rows(app, "sessions") == []
        assert "0 sessions" in head(app)


class Unreadable:
    """A store that cannot be read for now."""

    name = "memory.db"

    def sessions(self) -> list[str]:
        raise StoreError("the disk is away")


def test_a_store_that_cannot_be_read_is_told(path: str) -> None:
    """
    What was seen last stays, with the reason why there is nothing newer.
    """
    before = look(open_named(path), None)

    now = look(Unreadable(), None, before)  # type: ignore[arg-type]

    assert (now.entries, now.view) == (before.entries, before.view)
    assert now.error == "the disk is away"


def test_what_is_as_it_was_is_not_read_again(path: str) -> None:
    """
    A session without a new snapshot is shown from the look before.
    """
    store = open_named(path)
    before = look(store, "first")

    assert look(store, "first", before).view is before.view
    assert look(store, "last[red]\x1b[31m", before).view is not before.view
