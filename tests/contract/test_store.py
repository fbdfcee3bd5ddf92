"""What every store must do. A store is added to STORES, and is one when these pass."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memtrace import (
    Session,
    SQLiteStore,
    StaleSessionError,
    StoreDamagedError,
    StoreError,
    StoreVersionError,
    checkpoint,
    create_memory_snapshot,
    verify,
)
from memtrace.stores import Entry, Indexing, OutOfStepError, Store, Ticket, Written, open_store
from memtrace.stores.rows import START, Head, Row, decode, decode_row, encode
from memtrace.stores.schema import MIGRATIONS, VERSION

STORES: dict[str, Callable[[Path, Callable[[], Any]], Store]] = {
    "memory": lambda folder, server: SQLiteStore(),
    "sqlite": lambda folder, server: SQLiteStore(folder / "memory.db"),
    "sqlite, normal": lambda folder, server: SQLiteStore(
        folder / "normal.db", synchronous="NORMAL"
    ),
    "postgres": lambda folder, server: open_store(server().url()),
}
OLDER = sorted((Path(__file__).parent / "stores").glob("v*.sql"))


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A new store of each kind."""
    made = STORES[request.param](tmp_path, lambda: request.getfixturevalue("postgres"))
    yield made
    made.close()


class Rows:
    """A write of plain rows, as a session would make it."""

    def __init__(self, session: str, revision: int, root: bytes, *rows: Row) -> None:
        self.session, self.ticket, self.source = session, Ticket(), object()
        self._written = (revision, rows, root)
        self.root = b""

    def prepare(self) -> Written:
        revision, rows, root = self._written

        def head(root: bytes) -> bytes:
            return encode(Head("s1", f"r{revision + 1}", 1.0, 2, 3, len(rows), root, {}))[0]

        return Written(revision, [encode(row)[0] for row in rows], root, head, ())

    def done(self, root: bytes) -> None:
        self.root = root


def write(store: Store, session: str, revision: int, root: bytes, *rows: Row) -> bytes:
    """Write rows and wait; gives their root."""
    made = Rows(session, revision, root, *rows)
    store.submit(made)
    made.ticket.result(30)
    return made.root


def test_what_was_written_is_read(store: Store) -> None:
    """
    Rows come back in order with the head of the last snapshot, of each session its own.
    """
    first = write(store, "a", 0, START, Row("one", key="k"), Row("two", extra=[1, None]))
    write(store, "b", 0, START, Row("other"))
    write(store, "a", 1, first, Row("three"))

    loaded = store.load("a")
    assert loaded is not None
    assert [row.op for row in loaded.rows] == ["one", "two", "three"]
    assert (loaded.revision, loaded.whole, loaded.head.name) == (2, 2, "r2")
    assert not loaded.missing
    assert store.load("c") is None
    assert sorted(store.sessions()) == ["a", "b"]
    assert store.check().damages == ()


def test_an_older_snapshot_is_read(store: Store) -> None:
    """
    A revision that is named is what comes back, not the latest.
    """
    root = write(store, "a", 0, START, Row("one"))
    write(store, "a", 1, root, Row("two"))

    loaded = store.load("a", 1)
    assert loaded is not None
    assert [row.op for row in loaded.rows] == ["one"]
    assert [head.name for _, head in store.heads("a", 5)] == ["r1", "r2"]


def test_going_back_leaves_out_what_came_between(store: Store) -> None:
    """
    Rows after a `goto` rest on the revision it names; the others stay, and are not read.
    """
    first = write(store, "a", 0, START, Row("one"))
    write(store, "a", 1, first, Row("undone"))
    write(store, "a", 2, first, Row("goto", place=1), Row("two"))

    loaded = store.load("a")
    assert loaded is not None
    assert [row.op for row in loaded.rows] == ["one", "goto", "two"]
    assert store.check().damages == ()


def test_one_row_is_read(store: Store) -> None:
    """
    A row is found by its revision and place; where there is none, an error says so.
    """
    write(store, "a", 0, START, Row("one"), Row("two", key="k"))

    assert store.row("a", 1, 2).key == "k"
    with pytest.raises(StoreDamagedError, match="missing"):
        store.row("a", 7, 1)


def test_a_stale_write_is_refused_whole(store: Store) -> None:
    """
    A write that does not follow the latest revision leaves nothing behind.
    """
    root = write(store, "a", 0, START, Row("one"))
    write(store, "a", 1, root, Row("two"))

    with pytest.raises(StaleSessionError, match="revision 2"):
        write(store, "a", 1, root, Row("stale"))
    with pytest.raises(StaleSessionError):
        write(store, "a", 0, START, Row("stale"))
    loaded = store.load("a")
    assert loaded is not None
    assert [row.op for row in loaded.rows] == ["one", "two"]


def test_one_refused_write_does_not_touch_the_others(store: Store) -> None:
    """
    Writes that share a commit are taken or refused each by itself.
    """
    write(store, "a", 0, START, Row("one"))
    good, stale = Rows("b", 0, START, Row("two")), Rows("a", 0, START, Row("stale"))

    errors = store.commit([good, stale])  # type: ignore[attr-defined]
    assert errors[0] is None
    assert isinstance(errors[1], StaleSessionError)
    assert store.load("b") is not None


def test_a_copy_goes_its_own_way(store: Store) -> None:
    """
    A copied session has the other's rows; what either writes then, the other does not have.
    """
    root = write(store, "a", 0, START, Row("one"))
    store.copy("a", "b", 1)
    write(store, "b", 1, root, Row("two"))

    a, b = store.load("a"), store.load("b")
    assert a is not None
    assert b is not None
    assert ([row.op for row in a.rows], [row.op for row in b.rows]) == (["one"], ["one", "two"])
    with pytest.raises(StaleSessionError):
        store.copy("a", "b", 1)


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "../../etc/passwd",
        'it\'s "quoted"; DROP TABLE log; --',
        "nul\0inside",
        "\N{PILE OF POO}",
        "\ud800",
        "x" * 10_000,
        " ",
        ":memory:",
    ],
)
def test_an_id_is_an_id(store: Store, name: str) -> None:
    """
    Any text names one session, and nothing else.
    """
    write(store, name, 0, START, Row("one"))

    loaded = store.load(name)
    assert loaded is not None
    assert store.sessions() == [name]
    assert store.load(name + "x") is None


def test_many_threads_write_at_once(store: Store) -> None:
    """
    Sessions of many threads are each written whole and in order.
    """

    def work(name: str) -> None:
        root = START
        for revision in range(20):
            root = write(store, name, revision, root, Row(f"r{revision}"))

    threads = [threading.Thread(target=work, args=(f"s{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for n in range(8):
        loaded = store.load(f"s{n}")
        assert loaded is not None
        assert [row.op for row in loaded.rows] == [f"r{revision}" for revision in range(20)]


def test_a_store_opens_again_after_it_was_closed(store: Store) -> None:
    """
    What a closed store is asked for opens it again, and a durable one has what it had.
    """
    write(store, "a", 0, START, Row("one"))
    store.close()
    store.close()

    assert (store.load("a") is not None) == store.durable


# --- what is found again --------------------------------------------------------------------------


def index(store: Store, session: str, before: bytes, after: bytes, **texts: str) -> None:
    """Have texts indexed by item, and wait."""
    entries = [Entry(item, 1.5, 0, len(text), text) for item, text in texts.items()]
    store.index(session, Indexing(before, after, (), entries)).result(30)


def test_what_was_indexed_is_found(store: Store) -> None:
    """
    Words are found in their other forms, the text that has most of them first; pairs of
    characters are words like others; and what has none of them is not found.
    """
    index(store, "a", b"", b"1", m1="the dogs were running", m2="one dog and a cat", m3="設定 定を")

    assert [found.item for found in store.search("a", b"1", ["dog", "cat"], 9)] == ["m2", "m1"]
    assert [found.item for found in store.search("a", b"1", ["run"], 9)] == ["m1"]
    assert [found[:3] for found in store.search("a", b"1", ["設定"], 9)] == [("m3", 0, 5)]
    assert len(store.search("a", b"1", ["dog", "cat"], 1)) == 1
    assert store.search("a", b"1", ["horse"], 9) == []
    assert store.search("a", b"1", [], 9) == []


def test_what_is_gone_is_not_found(store: Store) -> None:
    """
    An item that was taken out of the index is not in it; the others are, and when they were made.
    """
    index(store, "a", b"", b"1", m1="one", m2="one two", m3="")
    store.index("a", Indexing(b"1", b"2", ["m1"], ())).result(30)

    assert store.indexed("a") == (b"2", {"m2": 1.5, "m3": 1.5})
    assert [found.item for found in store.search("a", b"2", ["one"], 9)] == ["m2"]


def test_sessions_do_not_find_each_others(store: Store) -> None:
    """
    Each session has an index of its own.
    """
    index(store, "a", b"", b"1", m1="apple")
    index(store, "b", b"", b"1", m1="pear apple")

    assert [found[2] for found in store.search("a", b"1", ["apple", "pear"], 9)] == [5]
    assert store.indexed("c") == (b"", {})
    assert store.search("c", b"", ["apple"], 9) == []


def test_an_index_that_changed_says_so(store: Store) -> None:
    """
    Who takes an index for what it is not any more is told, and changes nothing.
    """
    index(store, "a", b"", b"1", m1="apple")
    index(store, "a", b"1", b"2", m2="pear")

    with pytest.raises(OutOfStepError):
        store.search("a", b"1", ["apple"], 9)
    with pytest.raises(OutOfStepError):
        index(store, "a", b"1", b"3", m3="plum")
    assert store.indexed("a") == (b"2", {"m1": 1.5, "m2": 1.5})


@pytest.mark.parametrize(
    "word", ['"', "'", 'a" OR "b', "NEAR(", "x*", "said:x", "a\0b", "\ud800", "🙂", "", " "]
)
def test_any_word_is_only_a_word(store: Store, word: str) -> None:
    """
    Nothing that is given as a word means anything to the store's search.
    """
    index(store, "a", b"", b"1", m1="a b x near")

    assert store.search("a", b"1", [word, "b"], 9)[0].item == "m1"
    store.search("a", b"1", [word], 9)


# --- what is stored -----------------------------------------------------------------------------

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.text(st.characters(categories=["Cs", "L"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(json_like)
def test_json_like_values_come_back_as_they_were(value: Any) -> None:
    """
    Text with lone surrogates, whole numbers of any size, bytes: all come back equal.
    """
    payload, same = encode(value)

    assert same
    assert decode(payload) == value


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(payload: bytes) -> None:
    """
    No bytes do anything but give a value or a typed error.
    """
    for read in (decode, decode_row):
        try:
            read(payload)
        except StoreDamagedError:
            continue


@pytest.mark.parametrize("value", [object(), print, {"a": [threading.Lock()]}, type])
def test_what_is_no_data_is_refused(value: Any) -> None:
    """
    A value that no store could give back is refused with its type's name.
    """
    with pytest.raises(StoreError, match="is no data"):
        encode(value)


def test_a_value_within_itself_is_refused() -> None:
    """
    A list that holds itself is refused, and nothing hangs.
    """
    value: list[Any] = []
    value.append(value)

    with pytest.raises(StoreError, match="cannot be stored"):
        encode(value)


# --- versions and other people's files ----------------------------------------------------------


@pytest.mark.parametrize("dump", OLDER, ids=lambda path: path.stem)
def test_a_store_of_an_older_version_is_taken_forward(dump: Path, tmp_path: Path) -> None:
    """
    A store of each version there ever was opens, holds what it held, and can be written.
    """
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(dump.read_text("utf-8"))
    connection.close()

    session = Session.open("support-42", store=path)
    assert session.token_budget == 10_000
    assert [message["role"] for message in session.history] == ["user", "assistant"]
    decision = session.active_contexts.get("decision")
    assert decision is not None
    assert decision.content == "On 3 May we chose PostgreSQL 16."
    assert session.cache.get(("rate", "EUR")) == {"USD": 1.08}
    assert session.agents["planner"].state == {"step": 3}
    assert session.recall("which path?")[0].content == session.history[1]
    assert session.recall("lost in a crash") == []
    create_memory_snapshot(session)
    session.close()
    assert len(Session.open("support-42", store=path).run_log()) == (0 if "v1" in dump.name else 2)
    assert verify(path).ok


def test_there_is_a_fixture_of_every_version() -> None:
    """
    No version of the schema is left untried.
    """
    assert [path.stem for path in OLDER] == [f"v{n}" for n in range(1, VERSION + 1)]
    assert len(MIGRATIONS) == VERSION


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    """
    A store of a newer version is left alone, and the error says to update.
    """
    path = tmp_path / "memory.db"
    SQLiteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(StoreVersionError, match="newer memtrace"):
        Session.open("a", store=path)


def test_other_peoples_databases_are_refused(tmp_path: Path) -> None:
    """
    A SQLite database that is no store is not written into.
    """
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()

    with pytest.raises(StoreError, match="no store of memtrace's"):
        Session.open("a", store=path)
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("theirs",)]


def test_a_store_of_ones_own_may_be_given(tmp_path: Path) -> None:
    """
    Whatever keeps the protocol can be a session's store.
    """
    store = SQLiteStore(tmp_path / "memory.db")
    session = Session("a", store=store)
    with checkpoint(session):
        pass
    assert store.sessions() == ["a"]
    store.close()
