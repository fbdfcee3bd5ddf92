"""Sessions in PostgreSQL: a server that stops, writers that compete, errors that tell why."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from memtrace import (
    ConfigurationError,
    Session,
    StaleSessionError,
    StoreDamagedError,
    StoreError,
    StoreVersionError,
    checkpoint,
    managed_agent,
    verify,
)
from memtrace.stores import open_store

PATIENCE_S = 60.0


def say(session: Session, text: object) -> None:
    """One message, and a checkpoint."""
    session.history.append({"role": "user", "content": f"{text}"})
    with checkpoint(session):
        pass


def said(session: Session) -> list[str]:
    return [message["content"] for message in session.history]


def rows(url: str) -> Any:
    """A connection whose statements see the store's tables."""
    import psycopg

    address, schema = url.split("&schema=")
    connection = psycopg.connect(address, autocommit=True)
    connection.execute(f"SET search_path = {schema}")
    return connection


# --- a server that stops --------------------------------------------------------------------------


class Load(threading.Thread):
    """Checkpoints of one session, one after another, as long as it is not told to stop."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self.session = Session.open(name, store=url)
        self.acknowledged: list[str] = []
        self.came = threading.Semaphore(0)
        self.failed = threading.Semaphore(0)
        self.running, self.back = True, threading.Event()
        self.strange: BaseException | None = None

    def run(self) -> None:
        number = 0
        while self.running:
            number += 1
            try:
                say(self.session, number)
            except StoreError:
                self.failed.release()
                if number % 3 == 0:
                    self.back.wait(PATIENCE_S)
                continue
            except BaseException as error:
                self.strange = error
                return
            self.acknowledged = said(self.session)
            self.came.release()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_stops_loses_nothing_it_acknowledged(postgres: Any, mode: str) -> None:
    """
    While a server is stopped checkpoints raise StoreError and sessions go on; once it is back
    the next one takes all, and what was ever acknowledged is there.
    """
    url = postgres.url()
    loads = [Load(url, f"s{number}") for number in range(4)]
    for load in loads:
        load.start()
    for load in loads:
        assert all(load.came.acquire(timeout=PATIENCE_S) for _ in range(20))
    postgres.stop(mode)
    try:
        for load in loads:
            assert load.failed.acquire(timeout=PATIENCE_S)
        acknowledged = [list(load.acknowledged) for load in loads]
    finally:
        postgres.start()
    for load in loads:
        while load.came.acquire(blocking=False):
            pass
        load.back.set()
        assert all(load.came.acquire(timeout=PATIENCE_S) for _ in range(5))
        load.running = False
    for load, before in zip(loads, acknowledged, strict=True):
        load.join(PATIENCE_S)
        assert load.strange is None
        stored = said(Session.open(load.session.id, store=url))
        assert stored == said(load.session) == load.acknowledged
        assert stored[: len(before)] == before
    assert verify(url).ok


def test_recall_goes_on_after_a_server_was_started_anew(postgres: Any) -> None:
    """
    Connections that were lost while nobody used them are no error.
    """
    session = Session.open("a", store=postgres.url())
    say(session, "we chose PostgreSQL in May")
    session.recall("what was chosen in May?")
    postgres.stop()
    postgres.start()

    say(session, "and moved in June")
    assert session.recall("what was moved?")[0].content == session.history[1]


class Relay:
    """Stands between a store and its server, and can lose an answer.

    Attributes:
        loses: The next answer that is longer than a few bytes is not passed on.
        closed: Nobody is let in.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.loses = self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.closed:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is server and self.loses:
                        self.loses = False
                        return
                    (server if ready is client else client).sendall(data)

    def end(self) -> None:
        self._listening.close()


@pytest.fixture
def relay(postgres: Any) -> Iterator[Relay]:
    made = Relay(postgres.port)
    yield made
    made.end()


def through(relay: Relay, postgres: Any) -> tuple[str, str]:
    """A store's address through the relay, and its own."""
    url = postgres.url()
    schema = url.split("schema=")[1]
    password = quote(postgres.password, safe="")
    address = f"postgresql://postgres:{password}@127.0.0.1:{relay.port}/postgres"
    return f"{address}?sslmode=disable&gssencmode=disable&schema={schema}", url


def test_a_write_whose_answer_is_lost_is_found_again(postgres: Any, relay: Relay) -> None:
    """
    A server that commits, and is lost before it says so, is asked again: the write is there once.
    """
    url, own = through(relay, postgres)
    session = Session.open("a", store=url)
    say(session, 0)
    say(session, 1)  # from here on the statement is prepared: the next answer is the write's
    relay.loses = True
    say(session, 2)
    say(session, 3)

    assert not relay.loses
    assert said(Session.open("a", store=own)) == ["0", "1", "2", "3"]
    assert verify(own).snapshots == 4


def test_a_write_whose_fate_is_unknown_gives_way_to_the_next(postgres: Any, relay: Relay) -> None:
    """
    A write that was committed, and never answered for, raises; the next one takes its place. Who
    opened the session at it meanwhile is stale then.
    """
    url, own = through(relay, postgres)
    session = Session.open("a", store=url)
    say(session, 0)
    say(session, 1)  # from here on the statement is prepared: the next answer is the write's
    relay.loses = relay.closed = True
    with pytest.raises(StoreError):
        say(session, 2)
    other = Session.open("a", store=own)
    assert said(other) == ["0", "1", "2"]
    relay.closed = False
    say(session, 3)

    with pytest.raises(StaleSessionError):
        say(other, "not there")
    assert said(Session.open("a", store=own)) == ["0", "1", "2", "3"]
    found = verify(own)
    assert (found.ok, found.snapshots) == (True, 3)


def test_a_write_whose_fate_is_unknown_is_stale_once_another_followed(
    postgres: Any, relay: Relay
) -> None:
    """
    Where another process went on from it, it is history, and who made it is told to reopen.
    """
    url, own = through(relay, postgres)
    session = Session.open("a", store=url)
    say(session, 0)
    say(session, 1)  # from here on the statement is prepared: the next answer is the write's
    relay.loses = relay.closed = True
    with pytest.raises(StoreError):
        say(session, 2)
    say(Session.open("a", store=own), "other")
    relay.closed = False

    with pytest.raises(StaleSessionError):
        say(session, 3)
    assert said(Session.open("a", store=own)) == ["0", "1", "2", "other"]


# --- many at once ---------------------------------------------------------------------------------

COMPETE = """
import sys
from memtrace import Session, StaleSessionError, checkpoint
url, mine, wins = sys.argv[1], sys.argv[2], int(sys.argv[3])
session = Session.open("one", store=url)
won = 0
while won < wins:
    session.history.append({"role": "user", "content": f"{mine} {won}"})
    try:
        with checkpoint(session):
            pass
    except StaleSessionError:
        session = Session.open("one", store=url)
        continue
    print(session.journal.revision, mine, won)
    won += 1
"""


def test_of_two_processes_on_one_session_one_wins_each_revision(postgres: Any) -> None:
    """
    Each revision is one's, and the history is what was acknowledged, in that order.
    """
    url = postgres.url()
    open_store(url)
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", COMPETE, url, mine, "25"], stdout=subprocess.PIPE, text=True
        )
        for mine in "ab"
    ]
    lines = [line.split(maxsplit=1) for job in jobs for line in job.communicate()[0].splitlines()]
    assert [job.returncode for job in jobs] == [0, 0]
    won = {int(revision): text for revision, text in lines}

    assert sorted(won) == list(range(1, 51))
    assert said(Session.open("one", store=url)) == [won[revision] for revision in sorted(won)]
    assert verify(url).ok


ENDLESS = """
import sys
from memtrace import Session, checkpoint
session = Session.open(sys.argv[2], store=sys.argv[1])
number = len(session.history)
while True:
    session.history.append({"role": "user", "content": str(number)})
    with checkpoint(session):
        pass
    number += 1
    print(number, flush=True)
"""


def test_a_killed_worker_loses_nothing_it_acknowledged(postgres: Any) -> None:
    """
    Workers are killed in the middle of their checkpoints; another takes each session on, with
    all that was acknowledged and at most one message more.
    """
    url = postgres.url()
    open_store(url)
    told = {"a": 0, "b": 0, "c": 0}
    for _ in range(2):
        workers = {
            name: subprocess.Popen(
                [sys.executable, "-c", ENDLESS, url, name], stdout=subprocess.PIPE, text=True
            )
            for name in told
        }
        for steps, (name, worker) in enumerate(workers.items(), 15):
            assert worker.stdout is not None
            for _ in range(steps):
                told[name] = int(worker.stdout.readline())
            worker.kill()
            told[name] = int(([told[name], *worker.communicate()[0].splitlines()])[-1])
        for name, count in told.items():
            assert said(Session.open(name, store=url))[:count] == [str(n) for n in range(count)]
            assert len(Session.open(name, store=url).history) - count in (0, 1)
    assert verify(url).ok


FORK = """
import os, sys
from memtrace import Session, checkpoint
def say(session, text):
    session.history.append({"role": "user", "content": text})
    with checkpoint(session):
        pass
first = Session.open("first", store=sys.argv[1])
say(first, "before")
child = os.fork()
if not child:
    say(Session.open("second", store=sys.argv[1]), "in the child")
    first = Session.open("first", store=sys.argv[1])
    assert len(first.history) == 1
    os._exit(0)
_, status = os.waitpid(child, 0)
say(first, "after")
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_process_that_forks_goes_on_and_so_does_its_child(postgres: Any) -> None:
    """
    A child uses connections of its own, and its parent's stay as they were.
    """
    url = postgres.url()
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, url], check=True)

    assert said(Session.open("first", store=url)) == ["before", "after"]
    assert said(Session.open("second", store=url)) == ["in the child"]


async def test_tasks_of_a_loop_share_commits(postgres: Any) -> None:
    """
    Checkpoints of many tasks are all there, in fewer transactions than they are.
    """
    url = postgres.url()
    sessions = [await Session.aopen(f"s{number}", store=url) for number in range(50)]

    async def work(session: Session) -> None:
        for number in range(4):
            session.history.append({"role": "user", "content": f"{number}"})
            async with checkpoint(session):
                pass

    with rows(url) as connection:
        before = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()[0]
        await asyncio.gather(*map(work, sessions))
        after = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()[0]
    assert after - before < 200
    for session in sessions:
        assert said(Session.open(session.id, store=url)) == ["0", "1", "2", "3"]


def test_threads_share_a_few_connections(postgres: Any) -> None:
    """
    However many threads read, a process has a handful of connections.
    """
    url = postgres.url() + "&application_name=shared"
    say(Session.open("a", store=url), "hello")
    with ThreadPoolExecutor(40) as threads:
        found = list(threads.map(lambda _: said(Session.open("a", store=url)), range(80)))

    with postgres.connect() as connection:
        count = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shared'"
        ).fetchone()[0]
    assert found == [["hello"]] * 80
    assert 1 <= count <= 8


def test_a_schema_is_made_once_by_all_who_open_it(postgres: Any) -> None:
    """
    Stores that are opened at the same moment find one schema, and it is each one's to use.
    """
    from memtrace.stores.postgres import PostgresStore

    url = postgres.url()
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda _: PostgresStore(url), range(6)))
    for number, store in enumerate(stores):
        say(Session.open(f"s{number}", store=store), number)
        store.close()
    assert verify(url).sessions == 6


# --- what is wrong --------------------------------------------------------------------------------


def test_what_cannot_be_reached_is_told(
    postgres: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """
    No server, a wrong password, no such database, an address that is none: one error each that
    says so, and no password anywhere.
    """
    secret = "s3cret:pa/ss"
    right, wrong = quote(postgres.password, safe=""), quote(secret, safe="")
    at = f"127.0.0.1:{postgres.port}"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
        caplog.set_level(logging.DEBUG)
        for url, kind, told in [
            (f"postgresql://me:{wrong}@{nobody}/db", StoreError, "refused"),
            (f"postgres://postgres:{wrong}@{at}/postgres", StoreError, "authentication failed"),
            (f"postgresql://postgres:{right}@{at}/nowhere", StoreError, '"nowhere" does not exist'),
            (f"postgresql://me:{secret}@{at}/db", ConfigurationError, "percent-encoded"),
            (f"postgresql://me:{wrong}@{at}/db?schema=A-b", ConfigurationError, "A-b"),
            (f"mysql://me:{secret}@{at}/db", ConfigurationError, "mysql://"),
            (f"mysql://me:{secret}\0@{at}/db", ConfigurationError, "address such as"),
            (f"postgresql://me:{secret}\0@{at}/db", ConfigurationError, "percent-encoded"),
        ]:
            with pytest.raises(kind, match=told) as caught:
                open_store(url)
            text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
            for hidden in (secret, wrong, right, postgres.password, "pa/ss"):
                assert hidden not in text.split("open_store(url)")[-1], url
    for hidden in (secret, wrong, right):
        assert hidden not in caplog.text + "".join(capfd.readouterr())


def test_a_store_does_not_tell_its_password(postgres: Any) -> None:
    """
    Neither its name nor its representation has it.
    """
    password = quote(postgres.password, safe="")
    url = f"postgresql://postgres:{password}@127.0.0.1:{postgres.port}/postgres"
    store = open_store(f"{url}?schema=quiet&sslmode=disable")

    expected = f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres?schema=quiet"
    assert (store.name, repr(store)) == (expected, f"<PostgresStore '{expected}'>")
    store.close()


def test_without_psycopg_the_extra_is_named() -> None:
    """
    Where psycopg is not installed the error says what to install, and SQLite goes on.
    """
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from memtrace import Session, StoreError\n"
        "Session.open('a', store=':memory:')\n"
        "try:\n    Session.open('a', store='postgresql://localhost/db')\n"
        "except StoreError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'memtrace-otel[postgres]'" in done.stdout


def test_a_newer_store_and_other_peoples_schemas_are_refused(postgres: Any) -> None:
    """
    Neither is written into; what is not there is not made by who only looks.
    """
    newer, theirs, none = postgres.url(), postgres.url(), postgres.url()
    open_store(newer).close()
    with rows(newer) as connection:
        connection.execute("UPDATE store SET version = 99")
    with postgres.connect() as connection:
        schema = theirs.split("schema=")[1]
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"CREATE TABLE {schema}.theirs (a integer)")

    # Under another address: a store that is open is not asked again.
    with pytest.raises(StoreVersionError, match="newer memtrace"):
        open_store(newer + "&application_name=other")
    with pytest.raises(StoreError, match="no store of memtrace's"):
        open_store(theirs)
    with pytest.raises(StoreError, match="there is no store"):
        verify(none)


@pytest.mark.parametrize(
    ("damage", "loses"),
    [
        ("UPDATE log SET payload = payload || 'x' WHERE revision = 3 AND place = 1", True),
        ("DELETE FROM log WHERE revision = 3 AND place = 1", True),
        ("DELETE FROM log WHERE revision = 3 AND place = 0", True),
        ("DELETE FROM log WHERE revision = 3", True),
        ("DELETE FROM sessions", False),
        ("UPDATE sessions SET hash = 'x', root = 'x'", False),
        ("UPDATE sessions SET revision = 2", False),
    ],
)
def test_damage_is_noticed(
    postgres: Any, damage: str, loses: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """
    What is not what was written is told, the newest whole snapshot is what comes back, and the
    session goes on from it.
    """
    url = postgres.url()
    session = Session.open("a", store=url)
    for number in range(3):
        say(session, number)
    with rows(url) as connection:
        connection.execute(damage)

    again = Session.open("a", store=url)
    assert said(again) == ["0", "1"] if loses else ["0", "1", "2"]
    assert "is damaged" in caplog.text
    assert not verify(url).ok
    say(again, "on")
    assert said(Session.open("a", store=url)) == [*said(again)]


def test_a_damaged_page_takes_only_what_is_on_it(postgres: Any) -> None:
    """
    Where PostgreSQL itself cannot read a page, what rests on none of it comes back.
    """
    url = postgres.url()
    session = Session.open("a", store=url)
    for number in range(60):
        say(session, f"{number} " + os.urandom(500).hex())
    with rows(url) as connection:
        connection.execute("CHECKPOINT")
        file, size = connection.execute(
            "SELECT pg_relation_filepath('log'), pg_relation_size('log')"
        ).fetchone()
    postgres.stop()
    try:
        with Path(postgres.data, file).open("r+b") as pages:
            pages.seek(size // 8192 // 2 * 8192 + 5000)
            pages.write(os.urandom(64))
    finally:
        postgres.start()

    left = said(Session.open("a", store=url))
    assert left == said(session)[: len(left)]
    assert 10 < len(left) < 60
    assert not verify(url).ok


def test_damage_of_everything_is_an_error(postgres: Any) -> None:
    """
    Where nothing is whole an error says so.
    """
    url = postgres.url()
    say(Session.open("a", store=url), 1)
    with rows(url) as connection:
        connection.execute("UPDATE log SET hash = ''")

    with pytest.raises(StoreDamagedError, match="whole"):
        Session.open("a", store=url)


def test_the_run_log_is_kept(postgres: Any) -> None:
    """
    Rows of the run log are there after a close, a name with a NUL too, and once each.
    """
    url = postgres.url()
    session = Session.open("a", store=url)

    @managed_agent(name="nul\0inside")
    def work(session: Session) -> None:
        session.history.append({"role": "user", "content": "hello\0"})

    for _ in range(3):
        work(session)
    session.close()

    found = Session.open("a", store=url)
    assert [run.name for run in found.run_log()] == ["nul\ufffdinside"] * 3
    assert said(found) == ["hello\0"] * 3
    assert verify(url).ok


def test_a_branch_goes_its_own_way(postgres: Any) -> None:
    """
    A branch has what the session had, and neither sees what the other does then.
    """
    session = Session.open("a", store=postgres.url())
    say(session, 1)
    branch = session.branch("b")
    say(branch, 2)
    say(session, 3)

    assert (said(branch), said(session)) == (["1", "2"], ["1", "3"])


def test_what_is_acknowledged_is_durable_whatever_the_servers_default(postgres: Any) -> None:
    """
    A server that would acknowledge before it writes is told not to.
    """
    store = open_store(postgres.url() + "&options=-csynchronous_commit%3Doff")
    shown = store._pool.run(lambda c: c.execute("SHOW synchronous_commit").fetchone())  # type: ignore[attr-defined]
    assert shown == ("on",)
    store.close()
