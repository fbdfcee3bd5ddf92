"""Sessions that are kept in a store: what comes back, and what is refused."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import memtrace
from memtrace import (
    ConfigurationError,
    Policy,
    Session,
    StaleSessionError,
    StoreDamagedError,
    StoreError,
    TokenBudget,
    checkpoint,
    checkpoints,
    compress_memory,
    create_memory_snapshot,
    managed_agent,
    verify,
)

SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store is to be."""
    return tmp_path / "memory.db"


def filled(session: Session) -> Session:
    """Something in every layer."""
    session.history.append({"role": "user", "content": "Why does the second test fail?"})
    session.history.append({"role": "assistant", "content": "Its path has backslashes in it."})
    session.active_contexts.add("def f(x):\n    return x\n", key="f.py", kind="module", priority=2)
    session.active_contexts.add("You answer briefly.", kind="system")
    session.cache.put(("rate", 1), {"EUR": 1.08}, ttl_s=3600)
    session.agent("planner").state = {"step": 3, "open": ["a", "b"]}
    return session


def held(session: Session) -> list[Any]:
    """All that a session holds."""
    return [
        [(item.id, item.kind, item.content, item.tokens, item.pinned, item.key) for item in layer]
        for layer in (session.history.items, session.active_contexts, session.archived_contexts)
    ] + [
        [(item.key, item.content, item.expires_at) for item in session.cache.items],
        [(agent.name, agent.state) for agent in session.agents],
    ]


class Stopped(Exception):
    """The process is gone."""


# --- opening ------------------------------------------------------------------------------------


def test_a_checkpoint_survives(path: Path) -> None:
    """
    What a session held as a checkpoint was entered is what opens again, counted as it was.
    """
    session = filled(Session.open("a", store=path, token_budget=50_000))
    with checkpoint(session, "one"):
        before = held(session)
        session.history.append({"role": "user", "content": "lost with the process"})

    again = Session.open("a", store=path)
    assert held(again) == before
    assert again.profile() == again.recount()
    assert again.budget == TokenBudget(50_000)
    assert [snapshot.name for snapshot in again.snapshots()] == ["one"]


def test_closing_keeps_everything(path: Path) -> None:
    """
    A session that was closed, by hand or by `with`, opens with all that it held.
    """
    with filled(Session.open("a", store=path)) as session:
        session.history.append({"role": "user", "content": "the last word"})

    assert Session.open("a", store=path).history[-1]["content"] == "the last word"
    session.close()  # the second time nothing happens


async def test_opening_and_closing_off_the_event_loop(path: Path) -> None:
    """
    The asynchronous forms do the same.
    """
    session = await Session.aopen("a", store=path, token_budget=9_000)
    filled(session)
    async with checkpoint(session, "one"):
        pass
    await session.aclose()

    assert (await Session.aopen("a", store=path)).token_budget == 9_000


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "sqlite:///{}?synchronous=NORMAL"])
def test_a_store_is_named_by_path_or_address(form: str, path: Path) -> None:
    """
    A path and its address name the same file.
    """
    target = form.format(path)
    filled(Session.open("a", store=target)).close()

    assert path.exists()
    assert len(Session.open("a", store=target).history) == 2


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """
    A path that ends in a slash is a folder: mode 0700, its database 0600.
    """
    folder = tmp_path / "kept"
    filled(Session.open("a", store=f"{folder}/")).close()

    database = folder / "memtrace.db"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_every_file_is_for_its_owner_alone(path: Path) -> None:
    """
    The database and what SQLite puts beside it have mode 0600.
    """
    session = filled(Session.open("a", store=path))
    create_memory_snapshot(session)

    files = list(path.parent.glob("memory.db*"))
    assert len(files) > 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("target", ["", " ", "a\0b", 3, "mysql://h/db", "sqlite://host/x", b"x"])
def test_what_is_no_store_is_refused(target: Any) -> None:
    """
    A target that names no store is refused, with forms that would work.
    """
    with pytest.raises(ConfigurationError, match="sqlite:///"):
        Session("a", store=target)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """
    A store in a folder that is not there is refused, and nothing is made.
    """
    with pytest.raises(StoreError, match="no folder"):
        Session.open("a", store=tmp_path / "no" / "memory.db")
    assert list(tmp_path.iterdir()) == []


def test_verifying_makes_no_store(tmp_path: Path) -> None:
    """
    A path where nothing is, is no store to be verified.
    """
    with pytest.raises(StoreError, match="there is no store"):
        verify(tmp_path / "typo.db")
    assert list(tmp_path.iterdir()) == []


def test_memory_alone_keeps_nothing() -> None:
    """
    `:memory:` is for one session: another that is opened of the same id is new.
    """
    filled(Session.open("a", store=":memory:")).close()

    assert len(Session.open("a", store=":memory:").history) == 0


# --- what the caller gave -----------------------------------------------------------------------


def test_what_no_store_could_take_is_refused_as_it_enters(path: Path) -> None:
    """
    A message or a context that is no data is refused at once, and nothing is lost.
    """
    session = filled(Session.open("a", store=path))

    with pytest.raises(ConfigurationError, match="is no data"):
        session.history.append({"role": "user", "content": object()})
    with pytest.raises(ConfigurationError, match="is no data"):
        session.active_contexts.add(print)
    with checkpoint(session):
        assert len(session.history) == 2


def test_a_state_that_is_no_data_is_named(path: Path) -> None:
    """
    An agent's state that cannot be stored refuses the checkpoint by its name; mended, all goes on.
    """
    session = filled(Session.open("a", store=path))
    session.agent("driver").state = object()

    with pytest.raises(StoreError, match="'driver'"), checkpoint(session):
        pytest.fail("entered")
    session.agent("driver").state = "parked"
    with checkpoint(session):
        pass
    assert Session.open("a", store=path).agents["driver"].state == "parked"


def test_cached_values_that_are_no_data_stay_in_the_process(path: Path) -> None:
    """
    A cache may hold anything: what cannot be stored can be made again.
    """
    session = Session.open("a", store=path)
    connection = object()
    session.cache.put("connection", connection)
    session.cache.put("rate", 1.08)
    session.close()

    assert session.cache.get("connection") is connection
    assert list(Session.open("a", store=path).cache) == ["rate"]


@dataclass
class Said:
    """A framework's own message."""

    role: str
    content: str


def test_messages_of_a_framework_come_back_as_plain_data(path: Path) -> None:
    """
    A message object stays the caller's own in the process; from the store it is a mapping, and a
    framework that sends its objects again is recognised.
    """
    talk = [Said("user", "hello"), Said("assistant", "hi")]
    session = Session.open("a", store=path)
    session.history.sync(talk)
    assert session.messages()[0] is talk[0]
    session.close()

    again = Session.open("a", store=path)
    assert again.history[0] == {"role": "user", "content": "hello"}
    ids = [item.id for item in again.history.items]
    again.history.sync([*talk, Said("user", "more")])
    assert [item.id for item in again.history.items][:2] == ids


# --- originals ----------------------------------------------------------------------------------


def test_originals_come_from_the_store(path: Path) -> None:
    """
    What was replaced or moved is reached by its id after a restart, byte for byte.
    """
    session = Session.open("a", store=path, token_budget=4_000)
    first = "line of a report, number 17\n" * 200
    session.active_contexts.add(first, key="report")
    for n in range(20):
        session.history.append({"role": "user", "content": f"question {n}"})
        session.history.append({"role": "assistant", "content": f"answer {n} " * 60})
    compress_memory(session, 0.3)
    derived = {
        item.id: session.original(item.id)
        for layer in (session.history, session.archived_contexts)
        for item in layer.items
        if item.derived_from
    }
    assert first in derived.values()
    session.close()

    again = Session.open("a", store=path)
    assert {item_id: again.original(item_id) for item_id in derived} == derived


# --- secrets ------------------------------------------------------------------------------------


def test_secrets_are_not_stored(path: Path) -> None:
    """
    A secret in a message, a context, a cached value or a state is in no file; the caller's own
    object keeps it, and tokens are those of what is kept.
    """
    session = Session.open("a", store=path)
    message = {"role": "user", "content": f"use {SECRET} for it"}
    session.history.append(message)
    session.active_contexts.add({"token": SECRET}, key="env")
    session.cache.put("env", SECRET)
    session.agent("planner").state = {"token": SECRET}
    assert SECRET not in str(session.messages())
    assert message["content"] == f"use {SECRET} for it"
    assert session.profile() == session.recount()
    session.close()

    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert SECRET.encode() not in stored
    assert b"redacted" in stored


def test_a_list_with_a_secret_is_still_recognised(path: Path) -> None:
    """
    A framework that sends its whole list again, secret and all, is not counted again.
    """
    session = Session.open("a", store=path)
    talk = [{"role": "user", "content": SECRET}, {"role": "assistant", "content": "done"}]
    session.history.sync(talk)
    ids = [item.id for item in session.history.items]
    session.history.sync([*talk, {"role": "user", "content": "more"}])

    assert [item.id for item in session.history.items][:2] == ids


def test_redacting_is_off_only_on_purpose(path: Path) -> None:
    """
    `Policy(redactor=None)` stores what it is given; a function of one's own is asked otherwise.
    """
    plain = Session.open("plain", store=path, policy=Policy(redactor=None))
    plain.history.append({"role": "user", "content": SECRET})
    shouting = Session.open("loud", store=path, policy=Policy(redactor=str.upper))
    shouting.history.append({"role": "user", "content": "quiet"})

    assert plain.history[0]["content"] == SECRET
    assert shouting.history[0]["content"] == "QUIET"
    with pytest.raises(ConfigurationError, match="redactor"):
        Policy(redactor="yes")  # type: ignore[arg-type]


def test_a_session_without_a_store_is_not_redacted() -> None:
    """
    In the process alone nothing is taken out.
    """
    session = Session()
    session.history.append({"role": "user", "content": SECRET})
    assert session.history[0]["content"] == SECRET


# --- two writers --------------------------------------------------------------------------------


def test_the_second_writer_is_told(path: Path) -> None:
    """
    Of a session that is open twice, the one that was overtaken stores nothing more, and is told
    how to go on.
    """
    one, two = Session.open("a", store=path), Session.open("a", store=path)
    with checkpoint(one, "first"):
        pass
    two.history.append({"role": "user", "content": "from a stale copy"})

    with pytest.raises(StaleSessionError, match=r"Session\.open\('a', store="), checkpoint(two):
        pytest.fail("entered")
    assert len(two.history) == 1  # memory goes on in the process
    assert len(Session.open("a", store=path).history) == 0


async def test_the_second_writer_is_told_in_async_code(path: Path) -> None:
    """
    `async with` raises the same.
    """
    one, two = Session.open("a", store=path), Session.open("a", store=path)
    async with checkpoint(one, "first"):
        pass
    with pytest.raises(StaleSessionError):
        async with checkpoint(two):
            pytest.fail("entered")


def test_a_session_that_is_there_is_opened_not_made(path: Path) -> None:
    """
    A session made new over one that is stored is told so at its first checkpoint.
    """
    filled(Session.open("a", store=path)).close()

    with pytest.raises(StaleSessionError), checkpoint(Session("a", store=path)):
        pytest.fail("entered")


def test_a_managed_agent_runs_whatever_the_store_does(
    path: Path, spans: InMemorySpanExporter
) -> None:
    """
    The function of a stale session returns what it returns; its span ends well.
    """
    one, two = Session.open("a", store=path), Session.open("a", store=path)
    with checkpoint(one):
        pass

    @managed_agent
    def agent(session: Session) -> str:
        session.history.append({"role": "user", "content": "hello"})
        return "done"

    assert agent(two) == "done"
    assert [span.status.is_ok for span in spans.get_finished_spans()][-1]


# --- going back ---------------------------------------------------------------------------------


def test_rolling_back_is_stored(path: Path) -> None:
    """
    Memory that went back to a checkpoint's snapshot opens as it went on from there.
    """
    session = filled(Session.open("a", store=path))

    def risky() -> None:
        with checkpoint(session, "risky", rollback=True):
            session.history.append({"role": "user", "content": "undone"})
            session.agent("planner").state["step"] = 9
            raise Stopped

    with pytest.raises(Stopped):
        risky()
    session.history.append({"role": "user", "content": "kept"})
    before = held(session)
    session.close()

    again = Session.open("a", store=path)
    assert [message["content"] for message in again.history][-1] == "kept"
    assert held(again)[0] == before[0]
    assert again.agents["planner"].state["step"] == 3
    assert verify(path).ok


def test_a_stored_snapshot_can_be_gone_back_to(path: Path) -> None:
    """
    A snapshot of a process that is gone is restored by the same call, and goes on from there.
    """
    session = Session.open("a", store=path)
    for n in range(4):
        session.history.append({"role": "user", "content": f"m{n}"})
        with checkpoint(session, f"after {n}"):
            pass

    again = Session.open("a", store=path)
    again.restore(next(s for s in again.snapshots() if s.name == "after 1"))
    assert [message["content"] for message in again.history] == ["m0", "m1"]
    again.history.append({"role": "user", "content": "another way"})
    again.close()
    contents = [message["content"] for message in Session.open("a", store=path).history]
    assert contents == ["m0", "m1", "another way"]
    assert verify(path).ok


def test_a_branch_has_the_originals(path: Path) -> None:
    """
    A branch begins as its origin was, originals reachable, and each goes its own way.
    """
    session = Session.open("a", store=path)
    session.active_contexts.add("On 3 May we chose PostgreSQL 16. " * 40, key="minutes")
    memtrace.consolidate_memory(session)
    branch = session.branch("b")
    branch.history.append({"role": "user", "content": "only here"})
    branch.close()

    assert len(session.history) == 0
    again = Session.open("b", store=path)
    item = again.archived_contexts.items[0]
    assert again.original(item.id) == "On 3 May we chose PostgreSQL 16. " * 40
    assert again.history[0]["content"] == "only here"


# --- damage -------------------------------------------------------------------------------------


def damage(path: Path, statement: str, *values: Any) -> None:
    """Change something behind a store's back."""
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def three_snapshots(path: Path) -> None:
    """A session with the snapshots one, two and three, each after a message."""
    session = Session.open("a", store=path)
    for name in ("one", "two", "three"):
        session.history.append({"role": "user", "content": name})
        with checkpoint(session, name):
            pass
    session.journal.store.close()


def test_a_damaged_snapshot_falls_back_to_the_one_before(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Where the newest is damaged the one before opens, a warning says what is missing, and the
    session goes on from there.
    """
    three_snapshots(path)
    damage(
        path,
        "UPDATE log SET payload = substr(payload, 1, 20) || x'00' || substr(payload, 22)"
        " WHERE revision = 3 AND place = 1",
    )

    with caplog.at_level(logging.WARNING, "memtrace"):
        session = Session.open("a", store=path)
    assert [message["content"] for message in session.history] == ["one", "two"]
    assert "snapshot 3" in caplog.text
    session.history.append({"role": "user", "content": "four"})
    with checkpoint(session, "four"):
        pass
    session.journal.store.close()
    caplog.clear()
    again = Session.open("a", store=path)
    assert [message["content"] for message in again.history] == ["one", "two", "four"]
    assert caplog.text == ""
    assert [damage.where for damage in verify(path).damages] == ["snapshot 3"]


def test_damage_is_named(path: Path) -> None:
    """
    `verify` names the session, the snapshot and what is wrong with it.
    """
    three_snapshots(path)
    assert verify(path).ok
    damage(path, "DELETE FROM log WHERE revision = 2 AND place = 0")

    result = verify(path)
    assert not result.ok
    assert "session 'a', snapshot 2" in str(result.damages[0])


def test_nothing_whole_is_an_error(path: Path) -> None:
    """
    A session of which no snapshot is whole is not opened as an empty one.
    """
    three_snapshots(path)
    damage(path, "UPDATE log SET hash = x'00' WHERE revision = 1")

    with pytest.raises(StoreDamagedError, match="nothing of session 'a'"):
        Session.open("a", store=path)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM sessions", "UPDATE sessions SET id = x'62'", "DELETE FROM log"],
)
def test_a_lost_session_is_not_taken_for_a_new_one(path: Path, statement: str) -> None:
    """
    A session whose entry or whose log is gone is damaged, not new.
    """
    three_snapshots(path)
    damage(path, statement)

    try:
        session = Session.open("a", store=path)
    except StoreDamagedError:
        return
    assert len(session.history) == 3
    assert not verify(path).ok


# --- the run log --------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
def test_the_run_log_has_every_run(path: Path, stored: bool) -> None:
    """
    Each run is a row with what it found, left and did, with a store and without.
    """
    session = Session.open("a", store=path) if stored else Session()

    @managed_agent
    def agent(session: Session, fails: bool) -> None:
        session.history.append({"role": "user", "content": "hello"})
        if fails:
            raise LookupError

    agent(session, False)
    with pytest.raises(LookupError):
        agent(session, True)
    with checkpoint(session, "step"):
        for n in range(20):
            session.history.append({"role": "assistant", "content": f"line {n} of the plan\n" * 99})
        compress_memory(session, 0.02)

    runs = list(session.run_log())
    assert [(run.kind, run.name, run.error) for run in runs] == [
        ("agent", "agent", None),
        ("agent", "agent", "LookupError"),
        ("checkpoint", "step", None),
    ]
    assert runs[0].after == runs[1].before
    assert [report.action for report in runs[2].reports] == ["compress"]
    assert runs[0].after[-1] == session.history.items[0].tokens
    if stored:
        session.close()
        assert list(Session.open("a", store=path).run_log())[:3] == runs


def test_the_run_log_is_exported(path: Path, tmp_path: Path) -> None:
    """
    The CSV has a line a run, under names.
    """
    session = Session.open("a", store=path)
    with checkpoint(session, 'named "a, b"\nand more'):
        pass
    text = session.run_log().to_csv(tmp_path / "runs.csv")

    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in rows] == ['named "a, b"\nand more']
    assert rows[0]["total_tokens_before"] == "0"
    assert (tmp_path / "runs.csv").read_bytes().decode() == text


# --- steps that resume --------------------------------------------------------------------------


def work(session: Session, values: list[str], stop_at: str | None = None, **options: Any) -> None:
    """A loop over steps that may break off in the middle of one."""
    for value in checkpoints(session, values, "files", resume=True, **options):
        session.history.append({"role": "user", "content": f"begun {value}"})
        if value == stop_at:
            raise Stopped
        session.history.append({"role": "assistant", "content": f"done {value}"})


@pytest.mark.parametrize("stop_at", ["a", "b", "c"])
@pytest.mark.parametrize("reopened", [True, False])
def test_a_loop_resumes_where_it_broke_off(path: Path, stop_at: str, reopened: bool) -> None:
    """
    Completed steps are left out, and the next begins with memory as it was when it began.
    """
    session = Session.open("a", store=path)
    with pytest.raises(Stopped):
        work(session, ["a", "b", "c"], stop_at)
    if reopened:
        session = Session.open("a", store=path)
    work(session, ["a", "b", "c"])

    contents = [message["content"] for message in session.history]
    assert contents == [f"{word} {value}" for value in "abc" for word in ("begun", "done")]


def test_a_loop_that_is_done_is_done(path: Path) -> None:
    """
    A completed loop runs nothing again; a longer one runs what is new, and what was done
    meanwhile stays.
    """
    session = Session.open("a", store=path)
    work(session, ["a", "b"])
    session.history.append({"role": "user", "content": "meanwhile"})
    session.close()

    session = Session.open("a", store=path)
    work(session, ["a", "b"])
    work(session, ["a", "b", "c"])
    contents = [message["content"] for message in session.history]
    assert contents[-3:] == ["meanwhile", "begun c", "done c"]
    assert contents.count("begun a") == 1


def test_from_the_first_value_that_differs_on_all_steps_run(path: Path) -> None:
    """
    A step is its position and its value.
    """
    session = Session.open("a", store=path)
    work(session, ["a", "b", "c"])
    ran = []
    for value in checkpoints(session, ["a", "x", "c"], "files", resume=True):
        ran.append(value)

    assert ran == ["x", "c"]


def test_inner_checkpoints_do_not_confuse_a_loop(path: Path) -> None:
    """
    A snapshot taken within a step is not where the loop carries on.
    """

    def broken_off() -> None:
        session = Session.open("a", store=path)
        for value in checkpoints(session, ["a", "b"], resume=True):
            session.history.append({"role": "user", "content": value})
            with checkpoint(session, "within"):
                pass
            if value == "b":
                raise Stopped

    with pytest.raises(Stopped):
        broken_off()
    session = Session.open("a", store=path)
    for value in checkpoints(session, ["a", "b"], resume=True):
        session.history.append({"role": "user", "content": value})
    assert [message["content"] for message in session.history] == ["a", "b"]


def test_a_value_that_is_no_data_cannot_be_resumed(path: Path) -> None:
    """
    Steps that are to be resumed must be known again.
    """
    session = Session.open("a", store=path)
    with pytest.raises(ConfigurationError, match="resume=True"):
        list(checkpoints(session, [object()], resume=True))


# --- under load ---------------------------------------------------------------------------------


async def test_a_thousand_sessions_share_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Checkpoints of many sessions at once are all kept, in far fewer commits.
    """
    sessions = [Session(f"s{n}", store=path) for n in range(1000)]
    store: Any = sessions[0].journal.store
    commits = []
    real = store.commit
    monkeypatch.setattr(store, "commit", lambda writes: commits.append(1) or real(writes))

    async def work(session: Session) -> None:
        session.history.append({"role": "user", "content": session.id})
        async with checkpoint(session):
            pass

    await asyncio.gather(*map(work, sessions))
    assert len(commits) <= 50
    assert sorted(store.sessions()) == sorted(session.id for session in sessions)
    assert Session.open("s999", store=path).history[0]["content"] == "s999"
