"""Archives: what every store that keeps them must do, whichever database it is in."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memtrace import Session, StaleSessionError, StoreDamagedError, checkpoint, verify
from memtrace.stores import cold, open_store
from memtrace.stores.archives import Archives, object_name
from memtrace.stores.log import key_of
from memtrace.stores.packing import CHUNK_BYTES, HEADS, chunk_hash, pack, unpack
from memtrace.stores.reading import Stored
from memtrace.stores.rows import START, chained
from memtrace.stores.shelving import let_go, note

STORES: dict[str, Callable[[Path, Callable[[], Any]], str]] = {
    "sqlite": lambda folder, server: str(folder / "memory.db"),
    "postgres": lambda folder, server: server().url(),
}
FIXTURES = Path(__file__).parent / "stores"


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a new store of each kind."""
    made = STORES[request.param](tmp_path, lambda: request.getfixturevalue("postgres"))
    store = open_store(made)
    yield made
    store.close()


def session_in(url: str, name: str = "support-42", messages: int = 30) -> Session:
    """A session with something in every layer, two snapshots, and one that was gone back from."""
    session = Session.open(name, store=url, token_budget=100_000)
    for number in range(messages):
        session.history.append({"role": "user", "content": f"question {number}: which path?"})
    with checkpoint(session, "first"):
        pass
    first = session.snapshots()[-1]
    session.history.append({"role": "assistant", "content": "undone"})
    with checkpoint(session, "second"):
        pass
    session.restore(first)
    session.active_contexts.add("We chose PostgreSQL 16.", key="decision", pinned=True)
    session.cache.put(("rate", "EUR"), {"USD": 1.08})
    session.agent("planner").state = {"step": 3}
    return session


def held(session: Session) -> tuple[Any, ...]:
    """All that a session holds."""
    return (
        session.history.messages(),
        [(item.key, item.content, item.pinned) for item in session.active_contexts.items],
        {item.key: item.content for item in session.cache.items},
        {agent.name: agent.state for agent in session.agents},
        session.profile().total_tokens,
    )


def chunks(url: str, statement: str) -> None:
    """Do something to a store's chunks behind its back."""
    store: Any = open_store(url)
    store.archives._shelf.run(lambda desk: desk.do(statement), writes=True)


def test_what_sleeps_comes_back_whole(url: str) -> None:
    """
    A session that was put away has no row in the log, and opens with all that it held.
    """
    session = session_in(url)
    session.close()
    before, store = held(session), open_store(url)
    rows = list(store.archives.rows("support-42"))

    kept = store.archives.archive("support-42")
    assert kept is not None
    assert kept.rows == len(rows)
    assert store.archives.asleep() == ["support-42"]
    assert sorted(store.archives.rows("support-42")) == rows
    back = Session.open("support-42", store=url)
    assert held(back) == before
    assert sorted(store.archives.rows("support-42")) == rows
    store.archives.wake("support-42")
    assert list(store.archives.rows("support-42")) == rows
    assert [snapshot.name for snapshot in back.snapshots()] == ["first", "second", "close"]
    back.restore(back.snapshots()[0])
    assert len(back.history) == 30


def test_reading_does_not_wake(url: str) -> None:
    """
    A store's readers see a sleeping session as it was, and it sleeps on.
    """
    session_in(url).close()
    store = open_store(url)

    def read() -> tuple[Any, ...]:
        loaded = store.load("support-42")
        assert loaded is not None
        found = store.places("support-42")
        row = store.row("support-42", *found["m3"])
        return loaded[:4], store.heads("support-42", 5), found, row, store.check(), store.sessions()

    awake = read()
    store.archives.archive("support-42")
    assert read() == awake
    assert store.load("support-42", 1) is not None
    assert store.archives.asleep() == ["support-42"]
    assert store.check().ok


def test_who_knows_it_writes_on(url: str) -> None:
    """
    A session that is in use elsewhere while its store puts it away goes on without knowing.
    """
    session = session_in(url)
    with checkpoint(session):
        pass
    store = open_store(url)
    store.archives.archive("support-42")

    session.history.append({"role": "user", "content": "again"})
    with checkpoint(session):
        pass
    assert store.archives.asleep() == []
    assert Session.open("support-42", store=url).history[-1]["content"] == "again"
    assert verify(url).ok


def test_a_stale_writer_is_refused_by_what_sleeps(url: str) -> None:
    """
    Being put away makes no session younger: who knows an older revision cannot write.
    """
    session = session_in(url)
    with checkpoint(session):
        pass
    other = Session.open("support-42", store=url)
    other.history.append({"role": "user", "content": "newer"})
    with checkpoint(other):
        pass
    open_store(url).archives.archive("support-42")

    session.history.append({"role": "user", "content": "older"})
    with pytest.raises(StaleSessionError), checkpoint(session):
        pass
    assert Session.open("support-42", store=url).history[-1]["content"] == "newer"


def test_only_what_is_idle_is_put_away(url: str) -> None:
    """
    Those used within the time stay, and those that sleep already.
    """
    session_in(url, "old").close()
    session_in(url, "new").close()
    archives = open_store(url).archives
    chunks(url, "UPDATE {s}sessions SET used_at = used_at - 100 WHERE key = " + str(key_of("old")))

    assert archives.idle(50) == ["old"]
    assert archives.archive("new", 50) is None
    assert archives.archive("nobody") is None
    assert archives.archive("old", 50) is not None
    assert archives.archive("old", 50) is None
    assert archives.wake("old")
    assert not archives.wake("old")
    assert archives.idle(50) == []


class Meanwhile:
    """A store's database, in which something happens just before it is written."""

    def __init__(self, shelf: Any, happens: Callable[[], object]) -> None:
        self.name, self.ready = shelf.name, True
        self._shelf, self._happens = shelf, happens

    def run(self, work: Any, *, writes: bool = False) -> Any:
        if writes:
            self._happens()
        return self._shelf.run(work, writes=writes)


def test_what_is_used_while_it_is_packed_stays(url: str) -> None:
    """
    A session that is written between its reading and its putting away is not put away.
    """
    session = session_in(url)
    with checkpoint(session):
        pass
    store: Any = open_store(url)

    def use() -> None:
        session.history.append({"role": "user", "content": "just now"})
        with checkpoint(session):
            pass

    assert Archives(Meanwhile(store.archives._shelf, use)).archive("support-42") is None
    assert store.archives.asleep() == []
    assert Session.open("support-42", store=url).history[-1]["content"] == "just now"


def test_a_copy_of_what_sleeps_is_whole(url: str) -> None:
    """
    A branch of a session that was put away has what that had.
    """
    session = session_in(url)
    session.close()
    store = open_store(url)
    store.archives.archive("support-42")

    store.copy("support-42", "copy", 3)
    assert held(Session.open("copy", store=url)) == held(session)


def test_it_stays_recallable(url: str) -> None:
    """
    The index stays while a session sleeps, and nothing is indexed anew when it is back.
    """
    session = session_in(url)
    found = [item.id for item in session.recall("PostgreSQL")]
    session.close()
    store = open_store(url)
    index = store.indexed("support-42")
    store.archives.archive("support-42")

    assert store.search("support-42", index[0], ["postgresql"], 5)[0].item == found[0]
    assert [item.id for item in Session.open("support-42", store=url).recall("PostgreSQL")] == found
    assert store.indexed("support-42") == index


def test_a_damaged_session_is_left_alone(url: str) -> None:
    """
    What could not be brought back whole is not put away.
    """
    session_in(url).close()
    chunks(url, "DELETE FROM {s}log WHERE place = 7")

    with pytest.raises(StoreDamagedError, match="not put away"):
        open_store(url).archives.archive("support-42")
    assert open_store(url).archives.asleep() == []


def test_a_damaged_chunk_is_found_and_costs_only_itself(url: str) -> None:
    """
    verify() names it, a warning tells of what is missing, and the chunk is kept for repair.
    """
    session = Session.open("support-42", store=url, token_budget=10**7)
    for number in range(3):
        session.history.append({"role": "user", "content": f"{number}" * (CHUNK_BYTES + 1)})
        with checkpoint(session, f"r{number + 1}"):
            pass
    open_store(url).archives.archive("support-42")
    chunks(url, "UPDATE {s}chunks SET payload = hash WHERE number = 3")

    found = verify(url)
    assert any("chunk 3" in str(damage) for damage in found.damages)
    back = Session.open("support-42", store=url)
    assert [message["content"][0] for message in back.history] == ["0", "1"]
    assert not verify(url).ok


def test_many_wake_it_at_once(url: str) -> None:
    """
    Of several that open a sleeping session at the same time, each has all of it.
    """
    session = session_in(url)
    session.close()
    before = held(session)
    open_store(url).archives.archive("support-42")
    found: list[Any] = []

    def work() -> None:
        found.append(held(Session.open("support-42", store=url)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [before] * 4
    assert verify(url).ok


def at_call(name: str, do: Callable[[], object]) -> None:
    """Do something in this thread when a function of that name is called next."""

    def look(frame: Any, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == name:
            sys.setprofile(None)
            do()

    sys.setprofile(look)


def test_one_woken_and_purged_while_it_is_fetched_is_awake(url: str, tmp_path: Path) -> None:
    """
    Who fetches from cold storage what another brings back just then finds it in the log.
    """
    session_in(url).close()
    archives: Any = open_store(url).archives

    def back() -> None:
        archives.wake("support-42")
        archives.purge("support-42")

    archives.archive("support-42")
    archives.move("support-42", tmp_path.as_uri())
    at_call("fetched_chunk", back)
    assert archives.fetch("support-42") == {}
    assert archives.asleep() == archives.leftovers() == []
    assert verify(url).ok


def test_a_folder_that_another_deletes_is_deleted(tmp_path: Path) -> None:
    """
    Two that delete the same objects at the same time do not fail each other.
    """
    folder = tmp_path.as_uri() + "/to"
    cold.put(folder, "1-ab", b"x")
    at_call("_at", lambda: cold.delete_all(folder))
    cold.delete_all(folder)
    assert list(tmp_path.iterdir()) == []


def test_one_woken_while_it_is_opened_has_its_heads(postgres: Any) -> None:
    """
    Where rows go from the archive to the log between two statements, they are read all the same.
    """
    url = postgres.url()
    session_in(url).close()
    store = open_store(url)
    store.archives.archive("support-42")
    before = store.heads("support-42", 5)

    at_call("chunks", lambda: store.archives.wake("support-42"))
    assert store.heads("support-42", 5) == before != []
    assert store.archives.asleep() == []
    assert store.heads("support-42", 5) == before
    store.close()


def test_what_is_moved_is_not_purged_meanwhile(url: str, tmp_path: Path) -> None:
    """
    A move that ends while its folder is taken for a leftover keeps what it moved, or all stays.
    """
    session = session_in(url)
    session.close()
    archives: Any = open_store(url).archives
    archives.archive("support-42")
    shelf, seen, folder = archives._shelf, archives.state("support-42"), tmp_path.as_uri() + "/to"
    assert shelf.run(lambda desk: note(desk, seen, folder), writes=True)
    moved = shelf.run(lambda desk: desk.chunks(seen.key))
    for chunk in moved:
        cold.put(folder, object_name(chunk), chunk.payload)

    def end() -> None:
        shelf.run(lambda desk: let_go(desk, seen, folder, moved), writes=True)

    Archives(Meanwhile(shelf, end)).purge("support-42")
    assert archives.state("support-42").moved
    assert held(Session.open("support-42", store=url)) == held(session)


def test_a_move_whose_folder_was_given_up_lets_go_of_nothing(url: str, tmp_path: Path) -> None:
    """
    What was purged while it was being moved stays in the store.
    """
    session = session_in(url)
    session.close()
    archives: Any = open_store(url).archives
    archives.archive("support-42")
    times = iter(range(9))

    def purge() -> None:
        if next(times) == 1:  # between the copies and letting go
            archives.purge("support-42")

    moving = Archives(Meanwhile(archives._shelf, purge))
    assert moving.move("support-42", tmp_path.as_uri()) is None
    assert not [path for path in tmp_path.rglob("*") if "-" in path.name and path.is_dir()]
    assert archives.leftovers() == []
    assert held(Session.open("support-42", store=url)) == held(session)


def test_a_postgres_store_of_an_older_version_is_taken_forward(postgres: Any) -> None:
    """
    A schema as version 1 left it opens, holds what it held, and its sessions can be put away.
    """
    import psycopg

    dump = (FIXTURES / "postgres_v1.sql").read_text("utf-8")
    with postgres.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS memtrace_old CASCADE")
        connection.execute(psycopg.sql.SQL(dump))
    url = postgres.url("memtrace_old")

    session = Session.open("support-42", store=url)
    assert [message["role"] for message in session.history] == ["user", "assistant"]
    assert session.agents["planner"].state == {"step": 3}
    assert session.recall("which path?")[0].content == session.history[1]
    session.close()
    assert len(Session.open("support-42", store=url).run_log()) == 2
    store = open_store(url)
    assert store.archives.archive("support-42") is not None
    assert verify(url).ok
    store.close()


# --- chunks -------------------------------------------------------------------------------------

payloads = st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=5), max_size=5)


def rows_of(revisions: list[list[bytes]]) -> list[Stored]:
    """Rows as a log has them: a head each revision, then what came."""
    rows, root = [], START
    for revision, came in enumerate(revisions, 1):
        head = revision, 0, b"head", b"any hash"
        rows.append(head)
        for place, payload in enumerate(came, 1):
            root = chained(root, payload)
            rows.append((revision, place, payload, root))
    return rows


@given(payloads, st.integers(0, 2**63 - 1))
def test_rows_come_back_from_chunks(revisions: list[list[bytes]], key: int) -> None:
    """
    Any rows unpack to what was packed, heads first.
    """
    rows = rows_of(revisions)
    packed = pack(key, rows)

    back = [row for chunk in packed for row in unpack(key, chunk)]
    assert back == sorted(rows, key=lambda row: (row[1] != 0, row[0], row[1]))
    assert packed[0].number == HEADS


def test_rows_that_rest_on_others_keep_their_hashes() -> None:
    """
    A row that went back does not follow from the one before it, and comes back all the same.
    """
    rows = [*rows_of([[b"a"], [b"b"]]), (3, 1, b"goto", chained(b"elsewhere", b"goto"))]

    assert sorted(row for chunk in pack(1, rows) for row in unpack(1, chunk)) == sorted(rows)


@pytest.mark.parametrize("number", [HEADS, 1])
def test_any_changed_byte_of_a_chunk_shows(number: int) -> None:
    """
    Not one byte of a chunk can change, nor can it be another session's, unnoticed.
    """
    chunk = pack(7, rows_of([[b"a" * 100, b"b"]]))[number]
    assert chunk.payload is not None
    for place in range(len(chunk.payload)):
        broken = bytearray(chunk.payload)
        broken[place] ^= 1
        with pytest.raises(StoreDamagedError, match="not what was written"):
            unpack(7, chunk._replace(payload=bytes(broken)))
    with pytest.raises(StoreDamagedError):
        unpack(8, chunk)


def test_a_chunk_is_never_larger_than_it_says() -> None:
    """
    A few bytes that stand for many are not unpacked: reading stops where the chunk should end.
    """
    chunk = pack(7, rows_of([[b"a" * 1_000_000]]))[1]
    assert chunk.payload is not None
    lies = chunk._replace(raw_bytes=1000)
    lies = lies._replace(hash=chunk_hash(7, lies[:4], chunk.payload))

    with pytest.raises(StoreDamagedError, match="1000 bytes"):
        unpack(7, lies)
