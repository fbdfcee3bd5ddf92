"""Where faults come from: a server of processes to be killed, and how many faults there are."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `child`, which tests and processes share

PATIENCE_S = 120.0
"""A process that says nothing for so long hangs."""


class Job:
    """One process."""

    def __init__(self, nursery: Nursery, number: int) -> None:
        self.nursery = nursery
        self.number = number
        self.pid = 0
        self.status: int | None = None
        self.said: deque[dict[str, Any]] = deque()

    def read(self) -> dict[str, Any] | None:
        """What it says next; None: it has ended."""
        while not self.said:
            if self.status is not None:
                return None
            self.nursery.listen()
        message = self.said.popleft()
        assert "failed" not in message, message["failed"]
        return message

    def rest(self) -> list[dict[str, Any]]:
        """All that it says until it ends."""
        return list(iter(self.read, None))

    def result(self) -> list[dict[str, Any]]:
        """The same of one that is to end well."""
        said = self.rest()
        assert self.status == 0, f"a process ended with status {self.status}"
        return said

    def kill(self) -> None:
        """End it as `kill -9` does."""
        while not self.pid:
            self.nursery.listen()
        if self.status is None:
            with suppress(ProcessLookupError):  # it ended, and that is not heard yet
                os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """Starts processes, in milliseconds each."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(HERE / "child.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._jobs: dict[int, Job] = defaultdict(lambda: Job(self, 0))
        self._heard = b""
        self._number = 0

    def start(self, role: str, **args: Any) -> Job:
        self._number += 1
        job = self._jobs[self._number] = Job(self, self._number)
        order = {"job": self._number, "role": role, "args": args}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order).encode() + b"\n")
        self._server.stdin.flush()
        return job

    def run(self, role: str, **args: Any) -> list[dict[str, Any]]:
        """What a process says from its beginning to its good end."""
        return self.start(role, **args).result()

    def listen(self) -> None:
        """Take in what processes have said, waiting for it."""
        assert self._server.stdout is not None
        said = self._server.stdout.fileno()
        end = time.monotonic() + PATIENCE_S
        while b"\n" not in self._heard:
            if not select.select([said], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no process said anything for {PATIENCE_S:.0f} s")
            heard = os.read(said, 1 << 20)
            assert heard, "the server of processes is gone"
            self._heard += heard
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            message = json.loads(line)
            job = self._jobs[message.get("of", message["job"])]
            if "pid" in message:
                job.pid = message["pid"]
            elif "end" in message:
                job.status = message["end"]
                del self._jobs[job.number]
            else:
                job.said.append(message)

    def close(self) -> None:
        for job in list(self._jobs.values()):
            if job.number:
                job.kill()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(PATIENCE_S)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Processes to be killed."""
    made = Nursery()
    try:
        made.listen()  # that it is ready
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session", params=["closed", "with a WAL"])
def story(nursery: Any, request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store as it is closed, and as a killed process leaves it."""
    folder = tmp_path_factory.mktemp("story") / "store"
    folder.mkdir()
    told = folder.parent / "told.json"
    closed = request.param == "closed"
    nursery.run("tell_story", store=str(folder / "m.db"), told=str(told), close=closed)
    assert (folder / "m.db-wal").exists() is not closed
    from faults import Story

    return Story(folder, json.loads(told.read_text()), closed)
