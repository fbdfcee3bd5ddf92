"""Other people's ways to keep a conversation, behind one face; each peer in a process of its own.

A peer is installed into a virtual environment of the benchmark's own, the first time it is asked
for. `python -m benchmarks._stores NAME` runs there and is driven through its pipes, one JSON line
a call; so nothing here may import memtrace, or anything else that is not the standard library's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

PEERS_VENV = Path(__file__).parent / "results" / ".peers-venv"
PEERS = {
    "langgraph": "langgraph-checkpoint-sqlite",
    "openai-agents": "openai-agents",
}
"""What :func:`serving` knows them by, and what they are installed by."""

INSTALL_S = 600


class Engine(Protocol):
    """A way to keep conversations, in a folder."""

    def grow(self, texts: Sequence[str], copies: int) -> None:
        """Make so many conversations, each of messages with these texts."""

    def step(self, text: str, copy: int) -> float:
        """Seconds in which a conversation is durable after one new message."""

    def restore(self) -> float:
        """Seconds in which the first conversation is read back, from a file that is opened."""

    def disk(self) -> float:
        """Bytes of a conversation that was kept after each message."""

    def close(self) -> None:
        """Let go of the files."""


def message(text: str) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": text}


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# --- without a library ----------------------------------------------------------------------------


class BareCommit:
    """One INSERT of a message's bytes in one transaction; WAL, ``synchronous=FULL``."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, payload BLOB)")

    def step(self, text: str) -> float:
        """Seconds of one."""
        payload = json.dumps(message(text)).encode()
        execute = self._connection.execute
        start = time.perf_counter()
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO log (payload) VALUES (?)", (payload,))
        execute("COMMIT")
        return time.perf_counter() - start

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class FullJson:
    """Every message as JSON into a new file, fsync, and a rename over the last one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[list[dict[str, Any]]] = []

    def _path(self, copy: int) -> Path:
        return self._folder / f"{copy}.json"

    def _write(self, copy: int) -> None:
        path = self._path(copy)
        new = path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._held[copy]))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def grow(self, texts: Sequence[str], copies: int) -> None:
        """Written once each: every snapshot replaces the one before."""
        self._held = [[message(text) for text in texts] for _ in range(copies)]
        for copy in range(copies):
            self._write(copy)

    def step(self, text: str, copy: int) -> float:
        """Dumped, written, on disk, renamed."""
        self._held[copy].append(message(text))
        return timed(lambda: self._write(copy))

    def restore(self) -> float:
        """Read and decoded."""
        return timed(lambda: json.loads(self._path(0).read_text(encoding="utf-8")))

    def disk(self) -> float:
        """Of the newest snapshot alone: no other is kept."""
        return self._path(0).stat().st_size

    def close(self) -> None:
        """Nothing is open."""


# --- peers: these run in their own environment ----------------------------------------------------


class LangGraph:
    """``SqliteSaver.put`` of a checkpoint whose channel ``messages`` is the whole list.

    Called as a graph of ``MessagesState`` calls it after a node: messages are langchain's, each
    checkpoint follows the one before, and the saver sets up its own database. The writes that a
    graph stores besides (``put_writes``) are left out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[list[Any]] = []
        self._configs: list[Any] = []
        self._steps = 0
        self._written = 0.0
        self._length = 0
        self._open()

    def _open(self) -> None:
        from langgraph.checkpoint.sqlite import SqliteSaver

        self._connection = sqlite3.connect(self._folder / "saver.db", check_same_thread=False)
        self._saver: Any = SqliteSaver(self._connection)
        self._saver.setup()

    def _message(self, text: str) -> Any:
        from langchain_core.messages import HumanMessage

        self._steps += 1
        return HumanMessage(content=text, id=f"{self._steps:036d}")

    def grow(self, texts: Sequence[str], copies: int) -> None:
        """One checkpoint each: one after each message would be a hundred gigabytes."""
        self._length = len(texts)
        self._held = [[self._message(text) for text in texts] for _ in range(copies)]
        self._configs = [
            {"configurable": {"thread_id": f"t{copy}", "checkpoint_ns": ""}}
            for copy in range(copies)
        ]
        for copy in range(copies):
            self._put(copy)

    def step(self, text: str, copy: int) -> float:
        """The list is one message longer, and put whole."""
        self._held[copy].append(self._message(text))
        return self._put(copy)

    def _put(self, copy: int) -> float:
        from langgraph.checkpoint.base import empty_checkpoint

        held = self._held[copy]
        number = f"{len(held):032}.0.5"
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": list(held)}
        checkpoint["channel_versions"] = versions = {"__start__": number, "messages": number}
        checkpoint["versions_seen"] = {"__input__": {}, "agent": {"branch:to:agent": number}}
        checkpoint["updated_channels"] = ["messages"]
        metadata: Any = {"source": "loop", "step": len(held), "parents": {}}
        self._written += len(held)
        start = time.perf_counter()
        self._configs[copy] = self._saver.put(self._configs[copy], checkpoint, metadata, versions)
        return time.perf_counter() - start

    def restore(self) -> float:
        """The newest checkpoint of a thread, as a graph asks for it."""
        self._connection.close()
        config = {"configurable": {"thread_id": "t0", "checkpoint_ns": ""}}

        def call() -> None:
            self._open()
            found = self._saver.get_tuple(config)
            assert len(found.checkpoint["channel_values"]["messages"]) >= self._length

        return timed(call)

    def disk(self) -> float:
        """Computed: bytes for each message of a checkpoint, times those of all checkpoints."""
        self._connection.close()
        for_each = size(self._folder) / self._written
        self._open()
        return for_each * self._length * (self._length + 1) / 2

    def pragmas(self) -> str:
        """How durable it makes its own connection."""
        return _pragmas(self._connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class OpenAIAgents:
    """``SQLiteSession.add_items`` of the new message: a plain log of messages, no snapshots."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "agents.db"
        self._sessions: list[Any] = []
        self._loop = asyncio.new_event_loop()
        self._length = self._copies = 0
        self._disk = 0.0

    def _open(self) -> None:
        from agents import SQLiteSession

        self._sessions = [SQLiteSession(f"s{n}", self._path) for n in range(self._copies)]

    def _run(self, coroutine: Any) -> Any:
        return self._loop.run_until_complete(coroutine)

    def grow(self, texts: Sequence[str], copies: int) -> None:
        """Added together: they are the rows that adding one by one makes."""
        self._length, self._copies = len(texts), copies
        self._open()
        for session in self._sessions:
            self._run(session.add_items([message(text) for text in texts]))
        self._close_sessions()
        self._disk = size(self._folder) / copies
        self._open()
        for session in self._sessions:
            self._run(session.get_items(1))  # its thread's connection is there

    def step(self, text: str, copy: int) -> float:
        """One item added."""
        item = message(text)
        return timed(lambda: self._run(self._sessions[copy].add_items([item])))

    def restore(self) -> float:
        """All items, by a session that is opened."""
        from agents import SQLiteSession

        def call() -> Any:
            session = SQLiteSession("s0", self._path)
            items = self._run(session.get_items())
            assert len(items) >= self._length
            return session

        start = time.perf_counter()
        session = call()
        took = time.perf_counter() - start
        session.close()
        return took

    def disk(self) -> float:
        """Of the file once it had grown, for each conversation in it."""
        return self._disk

    def pragmas(self) -> str:
        """How durable it makes its own connections."""
        return _pragmas(self._sessions[0]._get_connection())

    def _close_sessions(self) -> None:
        for session in self._sessions:
            session.close()

    def close(self) -> None:
        """Let go of the file."""
        self._close_sessions()
        self._run(self._loop.shutdown_default_executor())
        self._loop.close()


def _pragmas(connection: sqlite3.Connection) -> str:
    mode, level = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    )
    return f"{version(PEERS[sys.argv[1]])} on SQLite {sqlite3.sqlite_version}, {mode}, " + (
        {1: "synchronous=NORMAL", 2: "synchronous=FULL"}.get(level, f"synchronous={level}")
    )


def serving(name: str) -> None:
    """Answer calls until the pipe ends: ``[folder, method, arguments]``, a line each."""
    kind: Any = {"langgraph": LangGraph, "openai-agents": OpenAIAgents}[name]
    engines: dict[str, Any] = {}
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        folder, method, arguments = json.loads(line)
        if folder not in engines:
            engines[folder] = kind(Path(folder))
        answers.write(json.dumps(getattr(engines[folder], method)(*arguments)) + "\n")
        answers.flush()


# --- the other end of the pipe --------------------------------------------------------------------


def peers_python() -> str | None:
    """The interpreter that has the peers, installed if need be; None: they cannot be."""
    python = PEERS_VENV / ("Scripts" if os.name == "nt" else "bin") / "python"
    found = "import agents, langgraph.checkpoint.sqlite"
    if python.exists() and _runs([str(python), "-c", found]):
        return str(python)
    print(f"Installing {', '.join(PEERS.values())} into {PEERS_VENV}", flush=True)
    shutil.rmtree(PEERS_VENV, ignore_errors=True)
    pip = "-m pip --disable-pip-version-check install --quiet".split()
    made = _runs([sys.executable, "-m", "venv", str(PEERS_VENV)])
    if made and _runs([str(python), *pip, *PEERS.values()]) and _runs([str(python), "-c", found]):
        return str(python)
    return None


def _runs(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


class Worker:
    """A process that has one of the peers."""

    def __init__(self, python: str, name: str) -> None:
        self._name = name
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks._stores", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )

    def call(self, folder: Path, method: str, *arguments: Any) -> Any:
        """Have one of its engines do something.

        Raises:
            RuntimeError: The process is gone; its own error is on stderr.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), method, arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {self._name} ended")
        return json.loads(answer)

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Remote:
    """An engine in a worker."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self._worker, self._folder = worker, folder

    def grow(self, texts: Sequence[str], copies: int) -> None:
        """As the engine's own."""
        self._worker.call(self._folder, "grow", list(texts), copies)

    def step(self, text: str, copy: int) -> float:
        """As the engine's own."""
        return float(self._worker.call(self._folder, "step", text, copy))

    def restore(self) -> float:
        """As the engine's own."""
        return float(self._worker.call(self._folder, "restore"))

    def disk(self) -> float:
        """As the engine's own."""
        return float(self._worker.call(self._folder, "disk"))

    def pragmas(self) -> str:
        """As the engine's own."""
        return str(self._worker.call(self._folder, "pragmas"))

    def close(self) -> None:
        """As the engine's own."""
        self._worker.call(self._folder, "close")


if __name__ == "__main__":
    serving(sys.argv[1])
