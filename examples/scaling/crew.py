"""Workers as processes: started, listened to, killed, and replaced."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from .turns import Turns

ROOT = Path(__file__).parents[2]

_numbers = count(1)  # a name is never used again: by it a turn is given back, and an answer known


class Said(NamedTuple):
    """What a worker said of a turn.

    Args:
        outcome: ``answered``: it is durable. ``refused``: another one's was. ``known``: it had
            been answered before.
        session: Id of the session.
        number: Of the question.
        signed: What the answer is known by.
    """

    outcome: str
    session: str
    number: int
    signed: str


class Crew:
    """Worker processes on one store, for as long as a ``with`` block.

    Args:
        url: The store's address.
        size: How many there are at a time.
        every: Turns after which a worker takes a session that another is at; 0: it never does.

    Attributes:
        running: The processes, by name.
    """

    def __init__(self, url: str, size: int, every: int = 0) -> None:
        self._url, self._every = url, every
        self._selector = selectors.DefaultSelector()
        self._heard: dict[str, bytes] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for _ in range(size):
            self.hire()

    def hire(self) -> None:
        """One more."""
        name = f"w{next(_numbers)}"
        command = [sys.executable, "-m", "examples.scaling.worker", self._url, name]
        process = self.running[name] = subprocess.Popen(
            [*command, str(self._every)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        self._heard[name] = b""
        self._selector.register(process.stdout, selectors.EVENT_READ, name)

    def listen(self) -> Iterator[Said]:
        """What they say, until none is left.

        Raises:
            RuntimeError: One failed.
        """
        while self.running:
            for key, _ in self._selector.select():
                process = self.running.get(key.data)
                if process is None:  # killed by whoever listens
                    continue
                data = os.read(key.fd, 65536)
                if data:
                    yield from self._lines(key.data, data)
                elif self._gone(key.data).wait():
                    raise RuntimeError(f"worker {key.data} failed: {process.returncode}")

    def kill(self, name: str) -> list[Said]:
        """End one as a power cut would; what it had said that nobody had heard yet."""
        process = self.running[name]
        process.kill()
        assert process.stdout is not None
        rest = list(self._lines(name, process.stdout.read()))
        self._gone(name).wait()
        with Turns(self._url, name) as turns:
            turns.give_back()  # else its session would wait until its time is over
        return rest

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_error: object) -> None:
        for name in list(self.running):  # who is left
            self.kill(name)
        self._selector.close()

    def _gone(self, name: str) -> subprocess.Popen[bytes]:
        process = self.running.pop(name)
        assert process.stdout is not None
        self._selector.unregister(process.stdout)
        process.stdout.close()
        return process

    def _lines(self, name: str, data: bytes) -> Iterator[Said]:
        *lines, self._heard[name] = (self._heard[name] + data).split(b"\n")
        for line in lines:
            outcome, session, number, signed = line.decode().split("|")
            yield Said(outcome, session, int(number), signed)
