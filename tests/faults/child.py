"""Processes to be killed, starved, forked and fed damaged files: run as a script, it serves them.

Started once, it imports memtrace, then forks a process for each job that it reads from its
standard input. So a process to be killed costs milliseconds, and a fault that takes the
interpreter down, loops for ever or eats memory takes down nothing else. What jobs have to tell
they write to the one standard output, a line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import resource
import select
import signal
import threading
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from memtrace import (
    MemtraceError,
    Session,
    StaleSessionError,
    checkpoint,
    compress_memory,
    managed_agent,
    verify,
)
from memtrace.stores import open_store

ROLES: dict[str, Callable[..., None]] = {}


class Letters:
    """Counts four letters as a token, and is ready at once."""

    name = "letters"
    exact = True

    def count_text(self, text: str) -> int:
        return -(-len(text) // 4)


LETTERS = Letters()


def role(fn: Callable[..., None]) -> Callable[..., None]:
    ROLES[fn.__name__] = fn
    return fn


def say(**message: Any) -> None:
    """One line, in one write: as atomic as a pipe's writes are."""
    os.write(1, json.dumps({"job": JOB, **message}).encode() + b"\n")


JOB = 0


def opened(name: str, store: Any, **options: Any) -> Session:
    return Session.open(name, store=store, counter=LETTERS, **options)


# --- what a session holds, to be compared ---------------------------------------------------------


def digest(value: Any) -> str:
    return sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def state_of(session: Session) -> list[Any]:
    """All that a session holds, as plain data."""
    held: list[Any] = [session.token_budget]
    for layer in (session.active_contexts, session.archived_contexts, session.cache):
        held.append([(*_item(item), layer.layer.value) for item in layer.items])
    held.append([_item(item) for item in session.history.items])
    held.append(list(session.cache))
    held.append([(agent.name, agent.state) for agent in session.agents])
    held.append([session.active_contexts.touches(item.id) for item in session.active_contexts])
    return held


def _item(item: Any) -> tuple[Any, ...]:
    return (
        item.id,
        item.kind,
        item.content,
        item.tokens,
        item.pinned,
        item.priority,
        item.created_at,
        item.last_used_at,
        item.expires_at,
        item.agent,
        item.run_id,
        item.derived_from,
        item.key,
    )


def facts_of(snapshot: Any) -> list[Any]:
    return [snapshot.id, snapshot.name, snapshot.created_at, snapshot.tokens, snapshot.items]


def runs_of(session: Session) -> list[str]:
    return [digest(run) for run in session.run_log()]


# --- killing --------------------------------------------------------------------------------------


def step(session: Session, number: int) -> str:
    """Change every layer to say the same number; gives the new message's id."""
    session.history.append({"role": "user", "content": f"{number}" + " word" * (number % 40)})
    session.active_contexts.add(f"document {number}", key="document", pinned=True)
    session.cache.put("number", number)
    session.agent("counter").state = {"number": number}
    return session.history.items[-1].id


def number_of(session: Session) -> int:
    """The number that every layer says.

    Raises:
        AssertionError: They do not agree: this is no snapshot that ever was.
    """
    history = list(session.history)
    if not history:
        assert len(session.agents) == 0, "agents without a history"
        return 0
    number = int(history[-1]["content"].split()[0])
    assert session.agents["counter"].state == {"number": number}
    assert session.active_contexts.get("document").content == f"document {number}"  # type: ignore[union-attr]
    cached = session.cache.get("number")
    if session.id.startswith("pressed"):  # a cleanup may have taken it
        assert cached in (number, None), f"{session.id} caches {cached} at {number}"
    else:
        assert cached == number, f"{session.id} caches {cached} at {number}"
        numbers = [int(message["content"].split()[0]) for message in history]
        assert numbers == list(range(1, number + 1)), f"{session.id} holds {numbers}"
    return number


def endless(names: list[str], store: str) -> list[Session]:
    sessions = []
    for name in names:
        budget = 2_000 if name.startswith("pressed") else 1_000_000
        session = opened(name, store, token_budget=budget)
        say(opened=name, number=number_of(session))
        sessions.append(session)
    return sessions


@role
def checkpoint_for_ever(names: list[str], store: str, how: str) -> None:
    """Checkpoint after checkpoint until the process is killed; each is told once it was entered."""
    sessions = endless(names, store)
    if how == "tasks":
        asyncio.run(_tasks(sessions))
    elif how == "threads":
        for session in sessions[1:]:
            threading.Thread(target=_told, args=(_loop, session, store), daemon=True).start()
        _loop(sessions[0], store)
    else:
        while True:
            for session in sessions:
                _once(session)


def _told(work: Callable[..., None], *args: Any) -> None:
    """Run something in a thread, and tell what it fails with."""
    try:
        work(*args)
    except BaseException:
        say(failed=traceback.format_exc())


def _loop(session: Session, store: str) -> None:
    while True:
        number = _once(session)
        if number % 9 == 0:  # somebody else's turn: closed, and opened again
            session.close()
            session = opened(session.id, store, token_budget=session.token_budget)


@managed_agent
def _once(session: Session) -> int:
    number = number_of(session) + 1
    item = step(session, number)
    with checkpoint(session, f"step {number}"):
        say(ack=session.id, number=number, item=item)
    return number


async def _tasks(sessions: list[Session]) -> None:
    async def loop(session: Session) -> None:
        while True:
            number = number_of(session) + 1
            item = step(session, number)
            async with checkpoint(session, f"step {number}"):
                say(ack=session.id, number=number, item=item)

    await asyncio.gather(*map(loop, sessions))


# --- damage ---------------------------------------------------------------------------------------


@role
def tell_story(store: str, told: str, close: bool) -> None:
    """Fill a store with sessions of every kind; what they held at each snapshot goes to a file.

    With ``close`` false the process is gone without closing anything, so the WAL stays.
    """
    known: dict[str, Any] = {}
    for part in (1, 2):
        for name in ("plain", "pressed", "rich", "branched"):
            _chapter(known, name, store, part)
        if part == 1 or close:
            open_store(store).close()
    Path(told).write_text(json.dumps(known))


def _chapter(known: dict[str, Any], name: str, store: str, part: int) -> None:
    budget = 2_500 if name == "pressed" else 100_000
    session = opened(name, store, token_budget=budget)
    mine = known.setdefault(name, {"states": [], "snapshots": {}, "originals": {}})
    for number in range(12):
        _paragraph(session, name, part, number)
        item = session.history.items[-1]
        mine["originals"][item.id] = digest(item.content)
        if number % 3 == 2:
            before = digest(state_of(session))
            with checkpoint(session, f"{name} {part} {number}"):
                _remember(mine, session, before)
        if name == "branched" and number == 8:
            if part == 1:
                _branch(known, session)
            session.history.append({"role": "user", "content": "to be undone"})
            session.restore(session.snapshots()[-2])
            for taken in [id for id in mine["originals"] if not _has(session, id)]:
                del mine["originals"][taken]
    if name == "pressed":
        compress_memory(session, 0.3)
    session.close()
    _remember(mine, session, digest(state_of(session)))
    mine["runs"] = runs_of(opened(name, store))


def _paragraph(session: Session, name: str, part: int, number: int) -> None:
    session.history.append({"role": "user", "content": f"{name} {part} {number} " + "w " * 90})
    if name == "rich":
        content = {"part": part, "number": number, "pi": 3.14}
        session.active_contexts.add(content, key=f"key {number % 5}")
        session.active_contexts.touch(f"key {number % 5}")
        session.cache.put(("key", number % 3), ["v"] * number, ttl_s=1e6)
        session.agent(f"agent {number % 2}").state = {"part": part, "list": [number] * number}


def _branch(known: dict[str, Any], session: Session) -> None:
    branch = session.branch("a branch")
    mine = known["branched"]
    _remember(mine, session, digest(state_of(session)))
    known["a branch"] = {
        "states": [*mine["states"], digest(state_of(branch))],
        "snapshots": dict(mine["snapshots"]),
        "originals": dict(mine["originals"]),
        "runs": [],
    }
    branch.close()
    _remember(known["a branch"], branch, digest(state_of(branch)))


def _has(session: Session, item: str) -> bool:
    return any(item == held.id for held in session.history.items)


def _remember(mine: dict[str, Any], session: Session, state: str) -> None:
    snapshot = session.snapshots()[-1]
    mine["states"].append(state)
    mine["snapshots"][snapshot.id] = [digest(facts_of(snapshot)), state]


@role
def read_all(store: str, names: list[str], originals: dict[str, list[str]]) -> None:
    """Verify a store that may be damaged, then read all of it; what came of each is told."""
    limit_memory(700)
    signal.alarm(60)
    before = grown_mb()
    say(verified=_outcome(lambda: verify(store).ok))
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("memtrace").addHandler(handler)
    for name in names:
        warnings.clear()
        found: dict[str, Any] = {}
        session: list[Session] = []
        found["opened"] = _outcome(lambda: session.append(opened(name, store)))  # noqa: B023
        if session:
            found["warned"] = bool(warnings)
            found |= _contents(session[0], originals[name], warnings)
        say(session=name, **found)
    warnings.clear()
    listed = _outcome(lambda: sorted(open_store(store).sessions()))
    say(sessions=listed, warned=bool(warnings), grown_mb=grown_mb() - before)


def _contents(session: Session, originals: list[str], warnings: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"state": _outcome(lambda: digest(state_of(session)))}
    found["originals"] = {
        item: _outcome(lambda: digest(session.original(item)), KeyError)  # noqa: B023
        for item in originals
    }
    found["runs"] = _outcome(lambda: runs_of(session))
    found["snapshots"] = {}
    for snapshot in session.snapshots():

        def restored() -> str:
            session.restore(snapshot)  # noqa: B023
            return digest(state_of(session))

        found["snapshots"][snapshot.id] = [digest(facts_of(snapshot)), _outcome(restored)]
    found["goes_on"] = _outcome(lambda: _goes_on(session, warnings))
    return found


def _goes_on(session: Session, warnings: list[str]) -> str:
    """Whether what is checkpointed now is read back; if not, whether that is said."""
    session.history.append({"role": "user", "content": "after the damage"})
    state = digest(state_of(session))
    snapshot(session, "after the damage")
    warnings.clear()
    if digest(state_of(opened(session.id, session.journal.store))) == state:
        return "yes"
    return "lost, and said to be" if warnings else "lost"


def _outcome(work: Callable[[], Any], *allowed: type[Exception]) -> Any:
    """What something gives; of a typed error its name, and any other kind as what it is."""
    try:
        return work()
    except (MemtraceError, *allowed) as error:
        return {"error": type(error).__name__}
    except Exception:
        return {"untyped": traceback.format_exc()}


def grown_mb() -> float:
    """The most memory that this process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def limit_memory(more_mb: int) -> None:
    """Let this process have so much address space more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


# --- a disk without room, and places that are no place for a store --------------------------------


class FileLimit:
    """No file may grow past what the WAL has now: as portable as a full disk gets."""

    def __init__(self, store: str) -> None:
        self._wal = Path(f"{store}-wal")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(self) -> None:
        size = self._wal.stat().st_size if self._wal.exists() else 0
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, most))

    def free(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


class FullDisk:
    """A small file system, filled to its last byte with a file of ours."""

    def __init__(self, store: str) -> None:
        self._ballast = Path(store).with_name("ballast")

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def free(self) -> None:
        self._ballast.unlink()


@managed_agent
def answer(session: Session, question: str) -> str:
    session.history.append({"role": "user", "content": question})
    return question.upper()


def refusal(work: Callable[[], Any]) -> str:
    """Name of the typed error that something raises; any other is passed on."""
    try:
        work()
    except MemtraceError as error:
        return type(error).__name__
    return ""


def snapshot(session: Session, name: str) -> None:
    with checkpoint(session, name):
        pass


async def async_snapshot(session: Session, name: str) -> None:
    async with checkpoint(session, name):
        pass


@role
def fill_the_disk(store: str, disk: str) -> None:
    """Checkpoint until the disk is full, go on without it, and again when there is room."""
    session = opened("full", store)
    other = opened("other", store)
    place: Any = FileLimit(store) if disk == "limit" else FullDisk(store)
    step(session, 1)
    snapshot(session, "before")
    place.fill()
    number, refused = 1, ""
    while not refused:
        number += 1
        step(session, number)
        assert number < 10_000, "the disk does not get full"
        refused = refusal(lambda: snapshot(session, "on a full disk"))
    refusals = [refused]
    for _ in range(3):
        refusals.append(refusal(lambda: snapshot(session, "again")))
        refusals.append(refusal(lambda: asyncio.run(async_snapshot(session, "again"))))
    other.history.append({"role": "user", "content": "x" * 50_000})
    refusals.append(refusal(lambda: snapshot(other, "another session")))
    number += 1
    step(session, number)  # memory goes on
    answered = answer(session, "does it run?")
    session.history.pop()
    place.free()
    snapshot(session, "there is room")
    snapshot(other, "there is room")
    say(refusals=refusals, answered=answered, number=number_of(session))


@role
def open_on_full_disk(store: str, disk: str) -> None:
    """A store that is to be made where there is no room."""
    place: Any = FileLimit(store) if disk == "limit" else FullDisk(store)
    if disk == "limit":
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    else:
        place.fill()
    refused = refusal(lambda: snapshot(opened("new", store), "new"))
    place.free()
    session = opened("new", store)
    step(session, 1)
    snapshot(session, "there is room")
    say(refused=refused)


@role
def open_as_nobody(store: str) -> None:
    """Open a store as a user without rights to its folder."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    say(refused=refusal(lambda: opened("a", store)), verified=refusal(lambda: verify(store)))


@role
def open_there(store: str) -> None:
    """Open a store where none can be."""
    signal.alarm(60)
    say(refused=refusal(lambda: opened("a", store)), verified=refusal(lambda: verify(store)))


# --- several processes, and forks -----------------------------------------------------------------


@role
def checkpoint_often(store: str, names: list[str], times: int) -> None:
    """Checkpoint sessions of its own so many times, in turns, in threads and as tasks."""
    sessions = [opened(name, store) for name in names]

    def in_turns(session: Session, count: int) -> None:
        for _ in range(count):
            _once(session)

    failed: list[BaseException] = []

    def told(session: Session) -> None:
        try:
            in_turns(session, times // 2)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=told, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]

    async def tasks() -> None:
        async def one(session: Session) -> None:
            for _ in range(times - times // 2):
                number = number_of(session) + 1
                step(session, number)
                await async_snapshot(session, f"step {number}")

        await asyncio.gather(*map(one, sessions))

    asyncio.run(tasks())
    for session in sessions:
        say(name=session.id, number=number_of(session))


@role
def make_together(folder: str, mine: str, stores: int) -> None:
    """Make store after store, each at the same moment as other processes do."""
    for number in range(stores):
        session = opened(mine, f"{folder}/{number}.db")
        step(session, 1)
        snapshot(session, "first")
        session.journal.store.close()


@role
def compete(store: str, name: str, mine: str, wins: int) -> None:
    """Checkpoint a session that others checkpoint too; what is refused is done anew."""
    won = stale = 0
    session = opened(name, store)
    while won < wins:
        session.history.append({"role": "user", "content": f"{mine} {won}"})
        try:
            snapshot(session, f"{mine} {won}")
            won += 1
            say(won=[mine, won], revision=session.journal.revision)
        except StaleSessionError:
            stale += 1
            session = opened(name, store)
    say(stale=stale)


@role
def fork_while_writing(store: str, rounds: int) -> None:
    """Fork with sessions open and writes in flight; parent and child both go on."""
    signal.alarm(100)
    shared = opened("parent", store)
    step(shared, 1)
    snapshot(shared, "begun")
    busy = [opened(f"busy {number}", store) for number in range(3)]
    stop = threading.Event()
    failed: list[str] = []

    def write(session: Session) -> None:
        try:
            while not stop.is_set():
                number = number_of(session) + 1
                step(session, number)
                snapshot(session, f"step {number}")
        except BaseException:
            failed.append(traceback.format_exc())

    threads = [threading.Thread(target=write, args=(session,), daemon=True) for session in busy]
    for thread in threads:
        thread.start()
    for number in range(rounds):
        shared.history.append({"role": "user", "content": f"{number + 2}"})
        pid = os.fork()
        if not pid:
            _forked(shared, store, number)
        step_number = number_of_history(shared)
        assert step_number == number + 2
        shared.active_contexts.add(f"document {number + 2}", key="document", pinned=True)
        shared.cache.put("number", number + 2)
        shared.agent("counter").state = {"number": number + 2}
        snapshot(shared, f"round {number}")  # the parent goes on
        status = os.waitpid(pid, 0)[1]
        assert status == 0, f"the child of round {number} ended with {status}"
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]
    for session in (shared, *busy):
        say(name=session.id, number=number_of(session))


def number_of_history(session: Session) -> int:
    return int(session.history[-1]["content"].split()[0])


def _forked(shared: Session, store: str, number: int) -> None:
    """A child: a session of its own works, its parent's is the parent's as soon as that writes."""
    code = 1
    try:
        own = opened(f"child {number}", store)
        for count in range(1, 4):
            step(own, count)
            snapshot(own, f"step {count}")
        asyncio.run(async_snapshot(own, "as a task"))
        assert number_of(opened(f"child {number}", store)) == 3
        revision = shared.journal.revision
        while opened("parent", store).journal.revision == revision:
            pass  # until the parent has written: from then on this copy is stale
        shared.history.append({"role": "user", "content": "from the child"})
        assert refusal(lambda: snapshot(shared, "from the child")) == "StaleSessionError"
        own.close()
        say(name=own.id, number=3)
        code = 0
    except BaseException:
        say(failed=traceback.format_exc())
    finally:
        os._exit(code)


@role
def fork_while_it_is_written(store: str, rounds: int) -> None:
    """Fork while another thread checkpoints the very session that the child then uses."""
    signal.alarm(100)
    shared = opened("shared", store)
    step(shared, 1)
    snapshot(shared, "begun")
    stop = threading.Event()
    failed: list[str] = []

    def write() -> None:
        try:
            while not stop.is_set():
                step(shared, number_of(shared) + 1)
                snapshot(shared, "more")
        except BaseException:
            failed.append(traceback.format_exc())

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    for _ in range(rounds):
        pid = os.fork()
        if not pid:
            _use(shared)
        status = os.waitpid(pid, 0)[1]
        assert status == 0, f"a child ended with {status}"
    stop.set()
    thread.join()
    assert not failed, failed[0]
    say(name=shared.id, number=number_of(shared))


def _use(shared: Session) -> None:
    """A child reads, changes and puts back its copy of a session."""
    signal.alarm(30)
    code = 1
    try:
        shared.history.append({"role": "user", "content": "from the child"})
        shared.restore(shared.snapshots()[0])
        shared.profile()
        assert len(shared.messages()) == len(shared.history)
        code = 0
    except BaseException:
        say(failed=traceback.format_exc())
    finally:
        os._exit(code)


@role
def fork_in_memory(rounds: int) -> None:
    """Fork with a session that no file keeps: both have it, with its snapshots."""
    signal.alarm(100)
    session = Session("plain", counter=LETTERS)
    for number in range(1, rounds + 1):
        step(session, number)
        snapshot(session, f"step {number}")
        pid = os.fork()
        if not pid:
            code = 1
            try:
                session.restore(session.snapshots()[0])
                step(session, number_of(session) + 1)
                snapshot(session, "of the child")
                number_of(session)
                code = 0
            except BaseException:
                say(failed=traceback.format_exc())
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert number_of(session) == number
    say(number=number_of(session))


# --- serving --------------------------------------------------------------------------------------


def serve() -> None:
    """Fork a process for each line of standard input, and tell when it has ended, and how."""
    alive: dict[int, tuple[int, int]] = {}
    waiting = b""
    say(ready=True)
    while True:
        for ready in select.select([0, *alive], [], [])[0]:
            if ready in alive:
                os.close(ready)
                job, pid = alive.pop(ready)
                say(end=os.waitpid(pid, 0)[1], of=job)
                continue
            read = os.read(0, 65_536)
            if not read:
                return
            *lines, waiting = (waiting + read).split(b"\n")
            for line in lines:
                reading, pid, job = _spawn(json.loads(line))
                alive[reading] = job, pid


def _spawn(order: dict[str, Any]) -> tuple[int, int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        say(pid=pid, of=order["job"])
        return reading, pid, order["job"]
    global JOB
    JOB = order["job"]
    code = 1
    try:
        os.close(reading)
        random.seed(JOB)
        ROLES[order["role"]](**order["args"])
        code = 0
    except BaseException:
        say(failed=traceback.format_exc())
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
