"""Sessions that leave memory when they are idle, and come back on their next use."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memtrace import (
    ArchiveReport,
    ConfigurationError,
    Event,
    Policy,
    Session,
    StoreDamagedError,
    StoreError,
    archive,
    checkpoint,
    diagnose,
    managed_agent,
    verify,
)
from memtrace.archiving import away, is_away
from memtrace.archiving.sweeping import Sweeper, unpack
from memtrace.stores import open_store


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A session with something in every layer."""
    made = Session.open("support-42", store=tmp_path / "memory.db", token_budget=100_000)
    for number in range(30):
        made.history.append({"role": "user", "content": f"question {number}: which path?"})
    made.active_contexts.add("We chose PostgreSQL 16.", key="decision", pinned=True)
    made.archived_contexts.add("In short: PostgreSQL.", key="short")
    made.cache.put(("rate", "EUR"), {"USD": 1.08})
    made.agent("planner").state = {"step": 3}
    return made


def held(session: Session) -> tuple[Any, ...]:
    """All that a session holds."""
    return (
        session.history.messages(),
        session.history.items,
        session.active_contexts.items,
        session.archived_contexts.items,
        session.cache.items,
        {agent.name: copy.deepcopy(agent.state) for agent in session.agents},
        session.profile(),
    )


def checkpointed(session: Session) -> None:
    with checkpoint(session):
        pass


USES: dict[str, Callable[[Session], object]] = {
    "history": lambda session: session.history[0],
    "len": lambda session: len(session.history),
    "iter": lambda session: next(iter(session.history)),
    "append": lambda session: session.history.append({"role": "user", "content": "x"}),
    "contexts": lambda session: session.active_contexts.get("decision"),
    "cache": lambda session: session.cache.get(("rate", "EUR")),
    "agents": lambda session: session.agents["planner"],
    "agent": lambda session: session.agent("other"),
    "messages": lambda session: session.messages(),
    "profile": lambda session: session.profile(),
    "recount": lambda session: session.recount(),
    "recall": lambda session: session.recall("PostgreSQL"),
    "original": lambda session: session.original("m1"),
    "restore": lambda session: session.restore(session.snapshots()[0]),
    "branch": lambda session: session.branch(),
    "run_log": lambda session: session.run_log(),
    "tokens": lambda session: session.history.tokens,
    "repr": lambda session: repr(session.history),
    "close": lambda session: session.close(),
    "a run": lambda session: managed_agent(lambda session: None)(session),
    "a checkpoint": checkpointed,
}


@pytest.mark.parametrize("use", USES)
def test_any_use_brings_it_back(session: Session, use: str) -> None:
    """
    Whatever of a session that was put away is used first, all of it is there.
    """
    before = held(session)[:3]
    assert archive(session).outcome == "effective"
    assert is_away(session)
    assert gc.is_tracked(session)

    USES[use](session)
    assert not is_away(session)
    assert [m for m in session.history if m["content"] != "x"] == before[0]
    assert session.recount() == session.profile()


def test_it_comes_back_as_it_was(session: Session) -> None:
    """
    Every layer holds what it held, the profile is the same, and its figures are not counted twice.
    """
    session.cache.get("nothing")
    before, added = held(session), [layer._tally.added for layer in session.layers]

    assert archive(session).outcome == "effective"
    assert held(session) == before
    assert [layer._tally.added for layer in session.layers] == added
    assert session.history.user_turns == 30
    assert session.cache.stats.misses == 1


def test_it_is_out_of_memory_meanwhile(session: Session) -> None:
    """
    Nothing that it held is kept alive while it is away; the store has it, compressed.
    """
    message = session.history[0]
    assert sys.getrefcount(message) > 2
    report = archive(session)

    gc.collect()
    assert sys.getrefcount(message) == 2  # the variable's, and the argument's
    assert (report.tokens_before > 300, report.tokens_after, report.items) == (True, 0, 34)
    assert open_store(session.journal.store).archives.state("support-42") is not None


def test_whoever_holds_a_part_of_it_holds_it_still(session: Session) -> None:
    """
    Layers and agents' states that somebody holds are the same objects when it is back.
    """
    history, planner = session.history, session.agents["planner"]
    archive(session)
    planner.state["step"] = 4
    assert session.agents["planner"] is planner
    with checkpoint(session):
        pass

    archive(session)
    history.append({"role": "user", "content": "last"})
    archive(session)
    planner.state = {"step": 5}
    assert session.history is history
    assert session.history[-1]["content"] == "last"
    session.close()
    back = Session.open("support-42", store=session.journal.store)
    assert back.agents["planner"].state == {"step": 5}


def test_what_was_written_elsewhere_meanwhile_is_there(session: Session) -> None:
    """
    A session that is away comes back as its store has it, and goes on from there.
    """
    store = session.journal.store
    archive(session)
    other = Session.open("support-42", store=store)
    other.history.append({"role": "user", "content": "from elsewhere"})
    other.close()

    assert session.history[-1]["content"] == "from elsewhere"
    session.history.append({"role": "user", "content": "from here"})
    session.close()
    assert verify(store).ok


def test_many_threads_may_use_it_first(session: Session) -> None:
    """
    All of them see the whole session, and it is brought back once.
    """
    archive(session)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(session.history))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [30] * 8


def test_one_that_cannot_come_back_says_so_and_stays_away(session: Session) -> None:
    """
    Where the store cannot give it back each use raises, and nothing empty is taken for it.
    """
    store: Any = session.journal.store
    archive(session)
    shelf = store.archives._shelf
    shelf.run(lambda desk: desk.do("ALTER TABLE chunks RENAME TO gone"), writes=True)

    for _ in range(2):
        with pytest.raises(StoreError):
            session.history.append({"role": "user", "content": "lost?"})
    assert is_away(session)
    shelf.run(lambda desk: desk.do("ALTER TABLE gone RENAME TO chunks"), writes=True)
    assert len(session.history) == 30


def test_one_that_is_away_goes_when_nobody_holds_it(session: Session) -> None:
    """
    What brings it back does not keep it alive.
    """
    away = Session.open("other", store=session.journal.store)
    away.agent("planner").state = {"step": 3}
    archive(away)
    gone = weakref.ref(away)
    del away
    gc.collect()
    assert gone() is None


def test_objects_that_would_come_back_as_data_stay(tmp_path: Path) -> None:
    """
    A session that holds a framework's own objects is not taken out of memory.
    """
    session = Session.open("a", store=tmp_path / "memory.db")
    session.agent("planner").state = {"seen": {1, 2}}
    report = archive(session)
    assert (report.outcome, is_away(session)) == ("ineffective", False)

    session.agents.remove("planner")
    session.cache.put("tuple", (1, 2))
    report = archive(session)
    assert (report.outcome, is_away(session)) == ("ineffective", False)
    assert "plain data" in report.reason
    assert session.cache.get("tuple") == (1, 2)


def test_one_in_use_stays(session: Session) -> None:
    """
    Within a run a session is not put away.
    """

    @managed_agent
    def agent(session: Session) -> str:
        return archive(session).reason

    assert agent(session) == "it is in use"
    assert not is_away(session)


def test_it_is_told(
    session: Session, spans: InMemorySpanExporter, metrics: InMemoryMetricReader
) -> None:
    """
    A span, a point of the duration metric, the session's report, and its hooks.
    """
    events: list[Event] = []
    session.on("archive")(events.append)
    spans.clear()
    report = archive(session)

    span = next(span for span in spans.get_finished_spans() if span.name == "memtrace.archive")
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.conversation.id"] == "support-42"
    assert attributes["memtrace.action.outcome"] == "effective"
    assert attributes["memtrace.moved.tokens"] == report.tokens_before
    assert attributes["memtrace.action.items"] == report.items
    assert [event.report for event in events] == [report]
    assert events[0].profile is not None
    assert events[0].profile.total_tokens == report.tokens_before
    assert session.reports[-1] == report
    assert '"archive"' in metrics.get_metrics_data().to_json()  # type: ignore[union-attr]


def test_a_store_of_sessions(tmp_path: Path) -> None:
    """
    All that are idle are put away; one that is damaged is named, and does not keep the others.
    """
    path = tmp_path / "memory.db"
    for name in ("a", "b", "c"):
        with Session.open(name, store=path) as session:
            session.history.append({"role": "user", "content": name * 100})
    store: Any = open_store(path)
    damage = "DELETE FROM log WHERE place = 1 AND session = (SELECT key FROM sessions WHERE id = ?)"
    store.archives._shelf.run(lambda desk: desk.do(damage, b"b"), writes=True)

    assert isinstance(archive(path), ArchiveReport)
    assert archive(path).archived == ()  # none of them for a day
    report = archive(path, idle_s=0)
    assert (report.archived, list(report.failed)) == (("a", "c"), ["b"])
    assert "damaged" in report.failed["b"]
    assert 0 < report.packed_bytes < report.raw_bytes
    assert archive(path, idle_s=0).archived == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: archive(Session()), "durable store"),
        (lambda path: archive(path, idle_s=-1), "idle_s"),
        (lambda path: archive(path, idle_s="day"), "idle_s"),
        (lambda path: archive(path, to="bucket/prefix"), "s3://bucket/prefix"),
        (lambda path: archive(Session.open("a", store=path), idle_s=1), "at once"),  # type: ignore[call-overload]
    ],
)
def test_what_cannot_work_is_refused(
    tmp_path: Path, call: Callable[[Path], object], message: str
) -> None:
    """
    The error names what would work.
    """
    path = tmp_path / "memory.db"
    Session.open("x", store=path).close()
    with pytest.raises(ConfigurationError, match=message):
        call(path)


def at_call(name: str, do: Callable[[], object]) -> None:
    """Do something as a function of that name of `away` is called next, and then call it."""
    there = getattr(away, name)

    def once(*given: Any) -> Any:
        setattr(away, name, there)
        do()
        return there(*given)

    setattr(away, name, once)


def test_nobody_sees_it_half_put_away(session: Session) -> None:
    """
    Who reads it while it is being put away waits, and then sees all of it.
    """
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(session.history)))

    def read() -> None:
        thread.start()
        thread.join(0.1)  # it cannot come to its end before this one lets go

    at_call("_let_go_of_snapshots", read)
    assert archive(session).outcome == "effective"
    thread.join()
    assert found == [30]


def test_a_state_that_somebody_holds_is_not_put_away(session: Session) -> None:
    """
    What is changed in a state that its agent holds on to must be seen, so that session stays.
    """
    session.agent("planner").state = {"step": 3, "seen": ["a"]}
    state = session.agent("planner").state
    assert (archive(session).outcome, is_away(session)) == ("ineffective", False)
    del state
    assert archive(session).outcome == "effective"
    seen = session.agent("planner").state["seen"]
    assert archive(session).outcome == "ineffective"
    seen.append("b")
    session.close()
    back = Session.open("support-42", store=session.journal.store)
    assert back.agents["planner"].state == {"step": 3, "seen": ["a", "b"]}


def test_an_interrupt_leaves_it_away(session: Session) -> None:
    """
    Interrupted while it comes back it is not taken for empty: the next use brings all of it.
    """
    archive(session)

    def interrupt() -> None:
        raise KeyboardInterrupt

    at_call("_forget", interrupt)
    with pytest.raises(KeyboardInterrupt):
        session.messages()
    assert is_away(session)
    session.history.append({"role": "user", "content": "x"})
    session.close()
    assert len(Session.open("support-42", store=session.journal.store).history) == 31


def test_copies_are_of_what_it_holds(session: Session) -> None:
    """
    A part that is copied or pickled while the session is away is what it is otherwise.
    """
    planner = session.agents["planner"]
    copies = (copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)))
    for copied in copies:
        assert archive(session).outcome == "effective"
        made = copied(planner)
        assert (type(made), made.state) == (type(planner), {"step": 3})
        del made


def test_others_who_have_it_open_go_on(session: Session) -> None:
    """
    A session of which all is stored is put away without a snapshot: elsewhere nobody is stale.
    """
    with checkpoint(session):
        pass
    other = Session.open("support-42", store=session.journal.store)
    other.history.append({"role": "user", "content": "from elsewhere"})
    assert archive(session).outcome == "effective"
    with checkpoint(other):
        pass
    assert session.history[-1]["content"] == "from elsewhere"


def test_what_was_gone_back_from_stays_undone(session: Session) -> None:
    """
    A session that went back and did nothing since comes back as it was then.
    """
    for name in ("first", "second"):
        with checkpoint(session, name):
            pass
        session.history.append({"role": "user", "content": name})
    session.restore(session.snapshots()[0])
    assert archive(session).outcome == "effective"
    assert len(session.history) == 30


def test_mappings_of_other_kinds_stay(session: Session) -> None:
    """
    What equals what the store gives back, and is of another type, is not put away.
    """
    session.history.append(OrderedDict(role="user", content="x"))
    assert (archive(session).outcome, is_away(session)) == ("ineffective", False)


async def awaited(session: Session) -> None:
    await managed_agent(session=session)(asyncio.sleep)(0)


async def generated(session: Session) -> None:
    @managed_agent(session=session)
    async def steps() -> Any:
        yield 1

    async for _ in steps():
        pass


async def entered(session: Session) -> None:
    async with checkpoint(session):
        pass


@pytest.mark.parametrize("use", [awaited, generated, entered])
def test_it_comes_back_off_the_event_loop(session: Session, use: Callable[[Session], Any]) -> None:
    """
    The store is not read on the loop where an asynchronous run is the first to use it.
    """
    archive(session)
    here: list[str] = []

    async def main() -> None:
        sys.setprofile(lambda frame, event, _: here.append(frame.f_code.co_name))
        await use(session)
        sys.setprofile(None)

    asyncio.run(main())
    assert not is_away(session)
    assert "begin" in here
    assert "revive" not in here


def test_diagnosing_a_stored_session_only_looks(session: Session) -> None:
    """
    One that was put away sleeps on.
    """
    session.close()
    store: Any = session.journal.store
    store.archives.archive("support-42")
    diagnose(store, id="support-42")
    unpack()
    assert store.archives.asleep() == ["support-42"]


# --- by itself ------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sweeper(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sweeper of its own, whose thread does not start."""
    made = Sweeper(clock)
    monkeypatch.setattr(made, "_start", lambda: None)
    return made


def test_an_idle_session_is_put_away(session: Session, sweeper: Sweeper, clock: Clock) -> None:
    """
    After a day without use, counted from its last change; not before.
    """
    sweeper.watch(session)
    clock.now = 80_000
    sweeper.sweep()
    session.agents["planner"].state["step"] = 4
    clock.now = 100_000
    sweeper.sweep()
    clock.now = 186_000
    sweeper.sweep()
    assert not is_away(session)

    clock.now = 186_500
    sweeper.sweep()
    assert is_away(session)
    assert session.agents["planner"].state == {"step": 4}


def test_stored_sessions_are_put_away(tmp_path: Path, sweeper: Sweeper, clock: Clock) -> None:
    """
    Those of a watched store that nobody has open, after the idle time of its sessions' policy.
    """
    path = tmp_path / "memory.db"
    Session.open("old", store=path).close()
    store: Any = open_store(path)
    age = "UPDATE {s}sessions SET used_at = used_at - 90000"
    store.archives._shelf.run(lambda desk: desk.do(age), writes=True)
    watched = Session("new", store=path, policy=Policy(archive_after_s=100_000))
    sweeper.watch(watched)
    sweeper.sweep()
    assert store.archives.asleep() == []

    other = Sweeper(clock)
    other._start = lambda: None  # type: ignore[method-assign]
    other.watch(Session("newer", store=path))
    other.sweep()
    assert store.archives.asleep() == ["old"]


def test_rows_are_unpacked_behind_a_session_in_use(session: Session, sweeper: Sweeper) -> None:
    """
    Opening reads the archive, the thread unpacks it in the store; not one that was put away anew.
    """
    with checkpoint(session):
        pass
    archives: Any = session.journal.store.archives  # type: ignore[attr-defined]
    sweeper.watch(session)
    for since_s in (0.0, 1.0):
        kept = archives.archive("support-42")
        session._packed_since = kept.archived_at - since_s
        sweeper.rouse(session)
        sweeper.unpack()
        assert archives.asleep() == (["support-42"] if since_s else [])


def test_a_closed_store_is_not_opened(session: Session, sweeper: Sweeper, clock: Clock) -> None:
    """
    A sweep leaves a store alone that somebody closed.
    """
    store: Any = session.journal.store
    sweeper.watch(session)
    session.close()
    store.close()
    clock.now = 10**6
    sweeper.sweep()
    assert store._connection is None


def test_a_failure_is_told_once(
    session: Session, sweeper: Sweeper, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """
    What cannot be put away is logged the first time, and keeps nobody else.
    """
    store: Any = session.journal.store
    sweeper.watch(session)
    shelf = store.archives._shelf
    shelf.run(lambda desk: desk.do("ALTER TABLE chunks RENAME TO gone"), writes=True)
    clock.now = 10**6
    sweeper.sweep()
    sweeper.sweep()
    assert caplog.text.count("memtrace failed in archive") <= 2
    shelf.run(lambda desk: desk.do("ALTER TABLE gone RENAME TO chunks"), writes=True)
    assert len(session.history) == 30


def test_the_sweeper_keeps_nobody_alive(tmp_path: Path) -> None:
    """
    Neither sessions nor stores are held by what watches them.
    """
    session = Session.open("a", store=tmp_path / "memory.db")
    gone = weakref.ref(session), weakref.ref(session.journal.store)
    del session
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_no_thread_without_a_store() -> None:
    """
    A process whose sessions have no store has no thread; one that has, one daemon thread.
    """
    program = """
import tempfile, threading
from memtrace import Session
Session()
print(threading.active_count())
folder = tempfile.mkdtemp()
for name in "abc":
    Session.open(name, store=f"{folder}/memory.db")
print([t.name for t in threading.enumerate() if t.daemon and "archive" in t.name])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split("\n")[:2] == ["1", "['memtrace-archive']"]


def test_damage_while_it_is_away_is_told(session: Session) -> None:
    """
    A session of which nothing can be read back raises what is wrong with it.
    """
    store: Any = session.journal.store
    archive(session)
    ruin = "UPDATE chunks SET payload = hash"
    store.archives._shelf.run(lambda desk: desk.do(ruin), writes=True)

    with pytest.raises(StoreDamagedError, match="support-42"):
        session.messages()


def test_the_thread_ends_before_stores_close() -> None:
    """
    Whatever is imported first: before a fork and at the end the thread goes first, then files.
    """
    program = """
import os, tempfile
order = []
os.register_at_fork = lambda **hooks: order.append(next(iter(hooks.values())).__module__)
import memtrace.archiving.sweeping
from memtrace import Session
session = Session.open("a", store=tempfile.mkdtemp() + "/memory.db")
print(order.index("memtrace.archiving.sweeping") > order.index("memtrace.stores.sqlite"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "True\n"


def test_one_thread_is_left_after_a_fork_that_did_not_wait(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A thread that was too busy to end in time ends when another has its place.
    """
    monkeypatch.setattr("memtrace.archiving.sweeping._JOIN_S", 0.0)
    made, busy, go = Sweeper(), threading.Event(), threading.Event()
    monkeypatch.setattr(made, "unpack", lambda: (busy.set(), go.wait()))
    made.watch(session)
    old = made._thread
    with made._turn:
        made._called = True
        made._turn.notify_all()
    assert busy.wait(60)
    made.stop()
    made.resume()
    go.set()
    assert old is not None
    old.join(60)
    assert not old.is_alive()
    assert made._thread is not None
    assert made._thread.is_alive()
    new = made._thread
    made.stop()
    new.join(60)
