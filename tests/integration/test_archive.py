"""Archives in object stores, and what happens to them when something fails on the way."""

from __future__ import annotations

import gc
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from memtrace import Session, StoreDamagedError, StoreError, archive, checkpoint, verify
from memtrace.archiving import is_away
from memtrace.stores import ColdError, cold, open_store

PATIENCE_S = 60.0
KILLS = 150 if os.environ.get("MEMTRACE_TORTURE") else 4


# --- object stores --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of a server that speaks S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a folder in an empty bucket, whose server the environment names."""
    name = f"bucket{random.SystemRandom().randrange(10**9)}"
    urlopen(Request(f"{s3}/{name}", method="PUT"), timeout=PATIENCE_S).close()
    for variable, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)
    return f"s3://{name}/some prefix"


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of cold storage of each kind."""
    if request.param == "file":
        return f"file://{tmp_path}/cold storage"
    if request.param == "memory":
        return f"memory:///{tmp_path.name}"
    found: str = request.getfixturevalue("bucket")
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A new store of each kind."""
    target = tmp_path / "memory.db"
    if request.param == "postgres":
        target = request.getfixturevalue("postgres").url()
    made = open_store(target)
    yield made
    made.close()


def filled(store: Any, name: str = "support-42") -> Session:
    """A session with a hundred messages."""
    session = Session.open(name, store=store, token_budget=100_000)
    for number in range(100):
        session.history.append({"role": "user", "content": f"question {number}: which path?"})
    session.agent("planner").state = {"step": 3}
    with checkpoint(session):
        pass
    return session


def objects(folder: str) -> list[str]:
    """Names of the objects in a folder of cold storage."""
    found, prefix = cold._at(folder)
    return [str(each["path"]) for page in found.list(prefix or None) for each in page]


def test_cold_sessions_come_back(store: Any, url: str) -> None:
    """
    An archive moves to an object store, its chunks are there alone, and it opens as any other;
    its objects are deleted once nothing needs them.
    """
    session = filled(store)
    before = session.history.messages()
    session.close()

    report = archive(store, idle_s=0, to=url)
    assert (report.archived, report.moved) == (("support-42",), ("support-42",))
    state = store.archives.state("support-42")
    assert state.moved
    assert len(objects(state.cold)) == 1
    assert verify(store).ok
    with pytest.raises(ColdError):
        store.load("support-42")
    assert [head.name for _, head in store.heads("support-42", 1)] == ["close"]

    back = Session.open("support-42", store=store)
    assert back.history.messages() == before
    assert back.agents["planner"].state == {"step": 3}
    assert store.archives.leftovers() == ["support-42"]
    store.archives.purge("support-42")
    assert objects_left(state.cold) == []
    assert store.archives.state("support-42").cold is None


def objects_left(folder: str) -> list[str]:
    """The same of a folder that may be gone."""
    try:
        return objects(folder)
    except StoreError:
        return []


def test_a_session_in_memory_comes_back_from_there(store: Any, url: str) -> None:
    """
    One that this process holds is fetched at its next use, and can be moved again.
    """
    session = filled(store)
    for _ in range(2):
        assert archive(session, to=url).outcome == "effective"
        assert store.archives.state("support-42").moved
        assert len(session.history) == 100
    session.history.append({"role": "user", "content": "last"})
    assert archive(session).outcome == "effective"
    assert archive(session, to=url).outcome == "no_op"
    assert store.archives.state("support-42").moved
    assert session.history[-1]["content"] == "last"


def test_a_writer_brings_it_back(store: Any, url: str) -> None:
    """
    Who has a session open that was moved elsewhere writes on.
    """
    session = filled(store)
    store.archives.archive("support-42")
    store.archives.move("support-42", url)
    session.history.append({"role": "user", "content": "again"})
    with checkpoint(session):
        pass

    assert Session.open("support-42", store=store).history[-1]["content"] == "again"
    assert verify(store).ok


# --- what fails -----------------------------------------------------------------------------------


def test_where_cold_storage_is_gone_nothing_is_lost(store: Any, tmp_path: Path) -> None:
    """
    The error says which URL, the session stays as it is, and is back once that is.
    """
    session = filled(store)
    url = f"file://{tmp_path}/cold"
    archive(session, to=url)
    (tmp_path / "cold").rename(tmp_path / "elsewhere")

    for _ in range(2):
        with pytest.raises(StoreError, match=f"file://{tmp_path}/cold.*nothing of it is lost"):
            Session.open("support-42", store=store)
        with pytest.raises(StoreError, match=f"file://{tmp_path}/cold"):
            session.messages()
    assert is_away(session)
    assert any(f"{tmp_path}/cold" in str(damage) for damage in verify(store).damages)
    (tmp_path / "elsewhere").rename(tmp_path / "cold")
    assert len(session.messages()) == 100
    assert verify(store).ok


def test_a_changed_object_is_refused(store: Any, tmp_path: Path) -> None:
    """
    An object that is not what was written is named, and never read as a session.
    """
    filled(store).close()
    archive(store, idle_s=0, to=f"file://{tmp_path}/cold")
    (found,) = (tmp_path / "cold").glob("*/*")
    content = found.read_bytes()
    found.write_bytes(content[:-1] + b"x")

    with pytest.raises(StoreDamagedError, match=found.name):
        Session.open("support-42", store=store)
    assert not verify(store).ok
    found.write_bytes(content)
    assert len(Session.open("support-42", store=store).history) == 100


@pytest.mark.parametrize("url", ["s3://no-such-bucket/x", "file:///dev/null/x"])
def test_a_move_that_fails_loses_nothing(store: Any, bucket: str, url: str) -> None:
    """
    The archive stays in its store, the report says why, and it can be moved elsewhere.
    """
    filled(store).close()
    report = archive(store, idle_s=0, to=url)

    assert report.moved == ()
    assert url in report.failed["support-42"]
    assert not store.archives.state("support-42").moved
    assert len(Session.open("support-42", store=store).history) == 100


def test_a_move_is_overtaken_by_a_use(store: Any, tmp_path: Path) -> None:
    """
    A session that is used while it is moved stays where it is used, and no object is left.
    """
    filled(store).close()
    archives = store.archives
    archives.archive("support-42")
    shelf, calls = archives._shelf, []

    class Meanwhile:
        name, ready = shelf.name, True

        def run(self, work: Callable[[Any], Any], *, writes: bool = False) -> Any:
            calls.append(writes)
            if calls.count(True) == 2 and writes:
                store.archives.wake("support-42")
            return shelf.run(work, writes=writes)

    moving = type(archives)(Meanwhile())
    assert moving.move("support-42", f"file://{tmp_path}/cold") is None
    assert list((tmp_path / "cold").glob("*/*")) == []
    assert len(Session.open("support-42", store=store).history) == 100


def test_cold_storage_needs_a_url_it_knows(tmp_path: Path) -> None:
    """
    What is no address is refused before anything is done.
    """
    from memtrace import ConfigurationError

    with pytest.raises(ConfigurationError, match="no cold storage at nowhere://x"):
        cold.check("nowhere://x")
    with pytest.raises(ConfigurationError, match="three slashes"):
        cold.check("file://")


# --- kills and forks ------------------------------------------------------------------------------

LOOP = """
import sys
from memtrace import Session, archive, create_memory_snapshot
store, to = sys.argv[1], sys.argv[2]
session = Session.open("support-42", store=store)
while True:
    assert archive(session, to=to or None).outcome in ("effective", "no_op")
    number = len(session.history)
    session.history.append({"role": "user", "content": f"{number}: " + "which path? " * 40})
    create_memory_snapshot(session)
    print(number + 1, flush=True)
"""


@pytest.mark.parametrize("moves", [False, True])
def test_killed_at_any_point_a_session_is_whole(tmp_path: Path, moves: bool) -> None:
    """
    `kill -9` while a session is put away, moved and brought back leaves all that was acknowledged.
    """
    path, to = str(tmp_path / "memory.db"), f"file://{tmp_path}/cold" if moves else ""
    rng, acknowledged = random.Random(f"kills {moves}"), 0
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", LOOP, path, to], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(rng.choice([1, 2, 5])):
            acknowledged = int(child.stdout.readline())
        spins = rng.randrange(200_000)
        while spins:
            spins -= 1
        child.kill()
        acknowledged = max([acknowledged, *map(int, child.stdout.read().split())])
        child.wait()
        child.stdout.close()
        assert verify(path).damages == ()
        if rng.random() < 0.5:
            found = [
                message["content"] for message in Session.open("support-42", store=path).history
            ]
            assert len(found) >= acknowledged
            assert [int(text.split(":")[0]) for text in found] == list(range(len(found)))
        open_store(path).close()


def test_a_fork_goes_on_in_both(tmp_path: Path) -> None:
    """
    The thread that sweeps is not there while the process forks, and goes on in the parent.
    """
    program = f"""
import os, sys, threading, warnings
warnings.simplefilter("error")
from memtrace import Session, archive, create_memory_snapshot
session = Session.open("a", store={str(tmp_path / "memory.db")!r})
session.history.append({{"role": "user", "content": "hello"}})
archive(session)
def sweeping():
    return "memtrace-archive" in [thread.name for thread in threading.enumerate()]
assert sweeping()
from memtrace.stores import writer
writer.drain()
child = os.fork()
if not child:
    ok = not sweeping() and session.history[0]["content"] == "hello"
    Session.open("b", store={str(tmp_path / "memory.db")!r})
    os._exit(0 if ok and sweeping() else 1)
status = os.waitpid(child, 0)[1]
assert sweeping()
assert session.history[0]["content"] == "hello"
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")


class Told(SpanProcessor):
    """Tells of the first session that was put away."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def on_end(self, span: ReadableSpan) -> None:
        if span.name == "memtrace.archive":
            self.done.set()


def test_opening_a_session_has_the_idle_ones_put_away(
    tmp_path: Path, tracer_provider: TracerProvider
) -> None:
    """
    The thread puts away what is idle in a store that is opened, and nobody waits for it.
    """
    path, told = tmp_path / "memory.db", Told()
    tracer_provider.add_span_processor(told)
    filled(path, "old").close()
    gc.collect()  # the store goes with the last session
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sessions SET used_at = used_at - 90000")

    session = Session.open("new", store=path)
    assert told.done.wait(PATIENCE_S)
    archives = session.journal.store.archives
    assert archives.asleep() == ["old"]
    assert len(Session.open("old", store=path).history) == 100


def test_the_documentation_runs(root: Path) -> None:
    """
    The blocks of docs/archive.md, one after another.
    """
    text = (root / "docs" / "archive.md").read_text("utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")
