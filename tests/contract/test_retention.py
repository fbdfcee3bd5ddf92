"""What every store must do when it lets go: all of it, nothing else, and nobody brings it back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memtrace import (
    ConfigurationError,
    MemtraceError,
    RetentionRules,
    Session,
    SQLiteStore,
    StaleSessionError,
    StoreError,
    create_memory_snapshot,
    delete_sessions,
    export_sessions,
    managed_agent,
    pin_session,
    retention,
    reviewed,
    reviews_due,
    verify,
)
from memtrace.retaining.planning import slimmed_log
from memtrace.stores import Store, open_store
from memtrace.telemetry import reviews as counts

MARKER = "Zanzibarquux"
LATER = time.time() + 400 * 86_400.0
STORES: dict[str, Callable[[Path, Callable[[], Any]], Store]] = {
    "sqlite": lambda folder, server: SQLiteStore(folder / "memory.db"),
    "postgres": lambda folder, server: open_store(server().url()),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new durable store of each kind."""
    made = STORES[request.param](tmp_path, lambda: request.getfixturevalue("postgres"))
    yield made
    made.close()


def said(session: Session, text: str, agent: str = "agent") -> None:
    """A run of an agent that takes in a message."""

    @managed_agent(name=agent)
    def run(session: Session) -> None:
        session.history.append({"role": "user", "content": text})

    run(session)


def filled(store: Store, name: str, *tags: str, words: str = MARKER) -> Session:
    """A session with a marker wherever something is kept: shown, replaced, indexed, logged."""
    session = Session.open(name, store=store, tags=tags or None, token_budget=2_000)
    for turn in range(30):
        text = f"{words}{turn} {words} is said in turn {turn}: " + "and so on " * 30
        said(session, text, f"{words}Agent")
    session.active_contexts.add(f"{words} as a document", key=f"{words}key")
    session.agent("planner").state = {"plan": words}
    session.cache.put(words, words)
    create_memory_snapshot(session, f"{words} one")
    session.messages()
    assert session.recall(words)
    session.agent("planner").state = {"plan": "another"}
    create_memory_snapshot(session, "two")
    return session


def files_of(store: Store, folder: Path, server: Any = None) -> list[Path]:
    """All files that a store has."""
    if isinstance(store, SQLiteStore):
        return [path for path in folder.rglob("*") if path.is_file()]
    with server.connect() as connection:
        connection.execute("CHECKPOINT")  # what is deleted is unlinked with it
        found = connection.execute(
            "SELECT pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE (nspname = %s OR nspname = 'pg_toast'"
            " OR relname = 'pg_statistic') AND pg_relation_filepath(c.oid) IS NOT NULL",
            (store._schema,),  # type: ignore[attr-defined]
        ).fetchall()
    paths = [server.data / path for (path,) in found]
    return [path for path in paths if path.exists()]


def have(files: list[Path], text: str) -> list[str]:
    """Names of the files that have a text in them, whatever its case."""
    return [path.name for path in files if text.lower().encode() in path.read_bytes().lower()]


# --- deleting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("archived", [False, True])
def test_nothing_of_a_deleted_session_is_in_any_file(
    store: Store, archived: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """
    After a deletion a search of the store's files finds nothing of the session: not what was
    shown, replaced, indexed, logged or archived. What is of another is there.
    """
    is_postgres = not isinstance(store, SQLiteStore)
    server = request.getfixturevalue("postgres") if is_postgres else None
    filled(store, f"{MARKER}id", f"user:{MARKER}").close()
    filled(store, "other", words="Paraguayflox").close()
    if archived:
        assert store.archives.archive(f"{MARKER}id") is not None
    assert archived or have(files_of(store, tmp_path, server), MARKER)

    report = delete_sessions(store, f"{MARKER}id")

    assert [one.session for one in report.gone] == [f"{MARKER}id"]
    assert report.vacuumed
    store.close()
    files = files_of(store, tmp_path, server)
    assert not have(files, MARKER)
    assert have(files, "Paraguayflox")
    assert verify(store).ok
    assert store.sessions() == ["other"]


def test_cold_copies_are_deleted_too(store: Store, tmp_path: Path) -> None:
    """
    What was moved to an object store goes with the session.
    """
    cold = tmp_path / "cold"
    cold.mkdir()
    filled(store, "a").close()
    store.archives.archive("a")
    store.archives.move("a", cold.as_uri())
    assert [path for path in cold.rglob("*") if path.is_file()]

    delete_sessions(store, "a")

    assert not [path for path in cold.rglob("*") if path.is_file()]
    assert store.sessions() == []
    assert verify(store).ok


def test_cold_copies_that_are_not_reached_are_remembered(store: Store, tmp_path: Path) -> None:
    """
    An object store that cannot be reached makes the deletion raise; the rest is gone, and what is
    there is deleted with the next.
    """
    cold = tmp_path / "cold"
    cold.mkdir()
    for name in ("a", "b"):
        Session.open(name, store=store).close()
    store.archives.archive("a")
    store.archives.move("a", cold.as_uri())
    [(url,)] = store.archives._shelf.run(
        lambda desk: desk.all("SELECT cold FROM {s}sessions WHERE cold IS NOT NULL")
    )
    point(store, url, "nowhere://at.all/")

    with pytest.raises(MemtraceError, match="nowhere"):
        delete_sessions(store, "a", vacuum=False)

    assert store.sessions() == ["b"]
    assert verify(store).ok
    point(store, "nowhere://at.all/", url)
    delete_sessions(store, "b", vacuum=False)
    assert not [path for path in cold.rglob("*") if path.is_file()]
    assert store.upkeep.kept() == []


def point(store: Store, old: str, new: str) -> None:
    """Have a store take an archive to be somewhere else."""
    store.archives._shelf.run(
        lambda desk: desk.do("UPDATE {s}sessions SET cold = ? WHERE cold = ?", new, old),
        writes=True,
    )


def test_a_deleted_session_is_not_resurrected(store: Store) -> None:
    """
    Who has a deleted session open is refused, whatever is written: a snapshot, the run log, the
    index; and none of it comes back.
    """
    session = filled(store, "a")
    delete_sessions(store, "a")

    said(session, "again")
    with pytest.raises(StaleSessionError, match="it was deleted"):
        create_memory_snapshot(session)
    with pytest.raises(StaleSessionError, match="it was deleted"):
        session.run_log()
    session._recaller = None
    with pytest.raises(StaleSessionError):
        session.recall("again")
    with pytest.raises(StaleSessionError):
        session.close()
    assert [kept for kept in store.upkeep.kept() if kept.session or kept.runs] == []
    assert store.indexed("a")[1] == {}


def test_one_begun_anew_is_not_written_by_who_knew_the_old(store: Store) -> None:
    """
    A session that was deleted and begun anew has come to the revision that an old writer knows;
    it is refused all the same.
    """
    old = Session.open("a", store=store)
    said(old, "old")
    create_memory_snapshot(old)
    delete_sessions(store, "a")
    new = Session.open("a", store=store)
    said(new, "new")
    create_memory_snapshot(new)

    said(old, "old again")
    with pytest.raises(StaleSessionError):
        create_memory_snapshot(old)
    assert Session.open("a", store=store).messages() == new.messages()


def test_deleting_goes_by_tag(store: Store) -> None:
    """
    All sessions of a tag go, branches among them, and no others.
    """
    first = Session.open("a", store=store, tags=["user:ann", "team"])
    said(first, "hello")
    first.branch("a2").close()
    first.close()
    Session.open("b", store=store, tags=["user:bob", "team"]).close()

    report = delete_sessions(store, tag="user:ann")

    assert sorted(one.session for one in report.gone) == ["a", "a2"]
    assert store.sessions() == ["b"]
    assert Session.open("b", store=store).tags == ("team", "user:bob")


def test_deletion_by_hand_says_what_it_cannot_do(store: Store) -> None:
    """
    No session named, one that is not there, one that is pinned: an error, and nothing goes.
    """
    Session.open("a", store=store, tags=["x"]).close()
    Session.open("b", store=store, tags=["x"]).close()
    pin_session(store, "b")
    with pytest.raises(ConfigurationError, match="by their ids or by tag"):
        delete_sessions(store)
    with pytest.raises(StoreError, match="no session 'c'"):
        delete_sessions(store, "a", "c")
    with pytest.raises(ConfigurationError, match="pinned"):
        delete_sessions(store, tag="x")
    assert sorted(store.sessions()) == ["a", "b"]


# --- rules ----------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_is_what_goes(store: Store) -> None:
    """
    A plan tells what goes by session and kind, with counts and bytes; applied, that goes.
    """
    filled(store, "a").close()
    before = Session.open("a", store=store)
    rules = RetentionRules(run_log_days=1, snapshots_days=1, originals_days=1)

    plan = retention(store, rules, now=LATER)

    kinds = plan.by_kind()
    assert list(kinds) == ["run_log", "snapshots", "originals"]
    assert kinds["run_log"][0] == 30
    assert kinds["snapshots"][0] == 2
    assert kinds["originals"][0] > 10
    assert all(one.bytes > 0 for one in plan.going if one.kind != "snapshots")
    assert len(store.runs("a")) == 30
    report = plan.apply()
    assert report.by_kind() == kinds
    assert not report.stayed
    after = Session.open("a", store=store)
    assert after.messages() == before.messages()
    assert after.profile() == before.profile()
    assert store.runs("a") == []
    assert verify(store).ok
    assert retention(store, rules, now=LATER).going == ()


def test_originals_that_are_let_go_are_nowhere(
    store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """
    What only an old snapshot held is in no file any more, nor found, nor given back; what memory
    holds is.
    """
    server = None if isinstance(store, SQLiteStore) else request.getfixturevalue("postgres")
    session = filled(store, "a", words="the matter")
    item = session.active_contexts.add(f"{MARKER} was decided", key="old")
    create_memory_snapshot(session)
    session.active_contexts.remove("old")
    assert session.recall("matter")
    session.close()

    retention(store, RetentionRules(originals_days=1), now=LATER).apply()

    store.close()
    assert not have(files_of(store, tmp_path, server), MARKER)
    opened = Session.open("a", store=store)
    assert not opened.recall(MARKER)
    assert opened.recall("matter")
    with pytest.raises(KeyError, match="let go by retention"):
        opened.original(item.id)
    said(opened, "and on")
    opened.close()
    assert verify(store).ok


def test_what_is_pinned_stays(store: Store) -> None:
    """
    A pinned session keeps all; of another its pinned items stay, though memory let go of them.
    """
    filled(store, "kept").close()
    pin_session(store, "kept")
    session = Session.open("a", store=store)
    item = session.active_contexts.add("the contract", key="contract", pinned=True)
    create_memory_snapshot(session)
    session.active_contexts.remove("contract")
    session.close()
    rules = RetentionRules(
        run_log_days=1, snapshots_days=1, originals_days=1, recall_days=1, session_days=5_000
    )

    plan = retention(store, rules, now=LATER)
    assert {one.session for one in plan.going} == {"a"}
    plan.apply()
    assert Session.open("a", store=store).original(item.id) == "the contract"
    assert not retention(store, RetentionRules(session_days=1), tag="x", now=LATER).going
    pin_session(store, "kept", pinned=False)
    gone = retention(store, RetentionRules(session_days=1), now=LATER).going
    assert sorted((one.session, one.kind) for one in gone) == [
        ("a", "session"),
        ("kept", "session"),
    ]


def test_what_was_used_since_stays(store: Store) -> None:
    """
    A plan is applied to what it was shown of: what was written or pinned since stays.
    """
    for name in ("written", "pinned", "idle"):
        Session.open(name, store=store).close()
    rules = RetentionRules(session_days=1, snapshots_days=1)
    plan = retention(store, rules, now=LATER)

    with Session.open("written", store=store) as session:
        said(session, "hello")
    pin_session(store, "pinned")
    report = plan.apply(vacuum=False)

    assert [one.session for one in report.gone] == ["idle"]
    assert {one.session for one in report.stayed} == {"written", "pinned"}
    assert sorted(store.sessions()) == ["pinned", "written"]


def test_young_snapshots_stay_and_can_be_gone_back_to(store: Store) -> None:
    """
    Snapshots from before the rule's days go; those since stay, with what they hold.
    """
    session = Session.open("a", store=store)
    for turn in range(3):
        said(session, f"turn {turn}")
        create_memory_snapshot(session, f"s{turn}")
        session._shift += 100 * 86_400.0
    now = session.now()
    session.restore(session.snapshots()[0])
    said(session, "another way")
    create_memory_snapshot(session, "branch")
    session.close()

    plan = retention(store, RetentionRules(snapshots_days=150), now=now)
    assert plan.by_kind()["snapshots"][0] == 2
    plan.apply()

    opened = Session.open("a", store=store)
    assert [m["content"] for m in opened.messages()] == ["turn 0", "another way"]
    assert [s.name for s in opened.snapshots()] == ["s2", "branch", "close", "retention"]
    opened.restore(opened.snapshots()[0])
    assert [m["content"] for m in opened.messages()] == ["turn 0", "turn 1", "turn 2"]
    opened.close()
    assert verify(store).ok


def test_archives_go_by_their_own_days(store: Store) -> None:
    """
    A session that was put away goes by the archive's days, one that is awake does not; inside an
    archive originals go as well.
    """
    filled(store, "asleep").close()
    filled(store, "awake").close()
    assert store.archives.archive("asleep") is not None
    inside = retention(store, RetentionRules(originals_days=1), now=LATER)
    assert {one.session for one in inside.going if one.kind == "originals"} == {"asleep", "awake"}
    assert not inside.apply(vacuum=False).stayed
    store.archives.archive("asleep")

    plan = retention(store, RetentionRules(archive_days=30), now=LATER)

    assert [(one.session, one.kind) for one in plan.going] == [("asleep", "archive")]
    plan.apply(vacuum=False)
    assert store.sessions() == ["awake"]
    assert verify(store).ok


def test_what_went_of_an_archive_is_in_no_copy(store: Store, tmp_path: Path) -> None:
    """
    Where a session lay in an object store, what was let go of is not left there.
    """
    cold = tmp_path / "cold"
    cold.mkdir()
    filled(store, "a").close()
    store.archives.archive("a")
    store.archives.move("a", cold.as_uri())

    report = retention(store, RetentionRules(originals_days=1), now=LATER).apply(vacuum=False)

    assert report.gone
    assert not [path for path in cold.rglob("*") if path.is_file()]
    assert store.archives.leftovers() == []
    assert verify(store).ok


def test_one_put_away_while_it_is_rewritten_is_what_was_written(store: Store) -> None:
    """
    The archive of a log that was rewritten is gone, so nothing that went comes back with it.
    """
    filled(store, "a").close()
    upkeep = store.upkeep
    known = upkeep.find("a").revision  # type: ignore[union-attr]
    slimmed = slimmed_log(upkeep, "a", known, LATER, None)
    assert slimmed is not None
    assert store.archives.archive("a") is not None

    upkeep.rewrite("a", known, slimmed.rows, slimmed.root, time.time())

    assert store.archives.asleep() == []
    session = Session.open("a", store=store)
    said(session, "and on")
    session.close()
    assert not store.archives.wake("a")
    assert store.heads("a", 99)[0][0] > known
    assert verify(store).ok


# --- reviews --------------------------------------------------------------------------------------


def test_a_review_is_due_every_90_days(store: Store) -> None:
    """
    Counted from the first snapshot, then from the last review; by id or by tag.
    """
    Session.open("a", store=store, tags=["x"]).close()
    Session.open("b", store=store).close()
    day = 86_400.0
    now = time.time()
    assert reviews_due(store, now=now + 89 * day) == ()
    assert {kept.session for kept in reviews_due(store, now=now + 91 * day)} == {"a", "b"}

    assert reviewed(store, tag="x", at=now + 91 * day) == 1

    assert [kept.session for kept in reviews_due(store, now=now + 91 * day)] == ["b"]
    assert store.upkeep.due(now + 91 * day, 90 * day) == 1
    assert [kept.session for kept in reviews_due(store, now=now + 182 * day)] == ["b", "a"]


def test_counting_reviews_opens_no_closed_store(tmp_path: Path) -> None:
    """
    A store that was closed, and its file deleted, is not made anew by a collection of metrics.
    """
    store = SQLiteStore(tmp_path / "memory.db")
    Session.open("a", store=store).close()
    counts.settle()
    store.close()
    (tmp_path / "memory.db").unlink()

    counts.stale(store.name)
    counts.due()
    counts.settle()
    assert list(tmp_path.iterdir()) == []
    counts.forget(store.name)


# --- exporting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("archived", [False, True])
def test_an_export_has_all_that_is_kept(store: Store, archived: bool, tmp_path: Path) -> None:
    """
    One file has every original, snapshot, run and indexed text of a user's sessions, archived or
    not, and nothing of others.
    """
    session = filled(store, "a", "user:ann")
    session.close()
    filled(store, "b", "user:bob", words="Paraguayflox").close()
    if archived:
        assert store.archives.archive("a") is not None
    path = tmp_path / "ann.jsonl"

    assert export_sessions(store, path, tag="user:ann") == 1

    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records[0]["sessions"] == ["a"]
    assert records[-1] == {"record": "end", "lines": len(records) - 2}
    kinds = [record["record"] for record in records]
    assert {"session", "snapshot", "change", "run", "text"} <= set(kinds)
    pushed = [r["item"]["content"]["content"] for r in records if r.get("op") == "push"]
    assert [text.split()[0] for text in pushed] == [f"{MARKER}{turn}" for turn in range(30)]
    assert kinds.count("run") == 30
    assert "Paraguayflox" not in path.read_text()
    assert not any("paraguay" in record.get("words", "") for record in records)
    assert (store.archives.state("a").archived_at is not None) == archived  # type: ignore[union-attr]


def test_an_export_that_fails_leaves_no_file(store: Store, tmp_path: Path) -> None:
    """
    Where something cannot be read there is no new file, and the old one stays.
    """
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    Session.open("a", store=store).close()
    with pytest.raises(StoreError):
        export_sessions(store, path, "a", "missing")
    with pytest.raises(ConfigurationError, match="folder"):
        export_sessions(store, tmp_path / "none" / "out.jsonl", "a")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir() if "out" in p.name] == ["out.jsonl"]
