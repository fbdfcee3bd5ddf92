"""A backend that is down costs the application no more than a bounded end of the block."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from memtrace import Session, export_to, managed_agent

DEADLINE_S = 5.0
"""What the README promises: a block ends within it, whatever the backend does."""


@managed_agent
def answer(session: Session) -> None:
    session.history.append({"role": "user", "content": "why?"})


@pytest.fixture
def refused() -> str:
    """The address of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of a backend that takes connections and what is sent, and never answers."""
    with ExitStack() as held, socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # closed: the test is over
                    return
                held.enter_context(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def ended_within(target: str, runs: int = 3, **options: float) -> float:
    """Seconds that the end of a block takes."""
    session = Session("s")
    with export_to(target, **options):  # type: ignore[arg-type]
        for _ in range(runs):
            answer(session)
        started = time.monotonic()
    return time.monotonic() - started


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_refused(scheme: str, refused: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    Where nobody listens the block ends in time, and one line says what was lost.
    """
    assert ended_within(f"{scheme}://{refused}") < DEADLINE_S

    (line,) = lines(caplog)
    assert line.startswith("memtrace: 3 of 3 spans and the last metrics did not reach http://127")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_black_hole(scheme: str, black_hole: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    Where nobody answers the block ends in time, and one line says what was lost.
    """
    assert ended_within(f"{scheme}://{black_hole}") < DEADLINE_S

    (line,) = lines(caplog)
    assert line.startswith("memtrace: 3 of 3 spans and the last metrics did not reach http://127")


def test_black_hole_with_a_full_queue(black_hole: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    More spans than the queue holds lengthen nothing, and every lost one is counted.
    """
    assert ended_within(f"http://{black_hole}", runs=5000) < DEADLINE_S

    assert "5,000 of 5,000 spans" in lines(caplog)[-1]


def test_the_deadline_is_the_callers(black_hole: str) -> None:
    """
    `timeout_s` bounds the end of the block even where one export takes longer.
    """
    assert ended_within(f"http://{black_hole}", timeout_s=0.5) < 2.0


async def test_the_event_loop_goes_on(black_hole: str) -> None:
    """
    With `async with` other tasks run while the block's end waits for a backend.
    """
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    async with export_to(f"http://{black_hole}", timeout_s=1.0):
        answer(Session())
        before = ticks
    ticking.cancel()

    assert ticks > before + 5


def test_an_outage_is_told_when_it_begins(
    refused: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In a long block one warning tells of the first failure; attempts after it are not logged.
    """
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    told = threading.Event()

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    handler = Listening()
    logging.getLogger("memtrace").addHandler(handler)
    try:
        with export_to(f"http://{refused}", metrics=False):
            answer(Session())
            assert told.wait(30)
    finally:
        logging.getLogger("memtrace").removeHandler(handler)

    first, last = lines(caplog)
    assert first.startswith(f"memtrace: telemetry does not reach http://{refused}")
    assert last.startswith("memtrace: 1 of 1 spans did not reach")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_the_process_ends_too(scheme: str, black_hole: str) -> None:
    """
    What was left behind at a black hole keeps no process alive.
    """
    program = f"""
import memtrace, time
session = memtrace.Session()
@memtrace.managed_agent
def answer(session): session.history.append({{"role": "user", "content": "why?"}})
with memtrace.export_to("{scheme}://{black_hole}", timeout_s=1.0):
    answer(session)
print("done", time.monotonic())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    ended = time.monotonic()

    assert done.returncode == 0, done.stderr
    word, moment = done.stdout.split()
    assert word == "done"
    assert ended - float(moment) < DEADLINE_S


def test_the_example_runs_without_a_backend(root: Path, refused: str) -> None:
    """
    `examples/otlp.py` does its work where no backend listens, and says what was lost.
    """
    done = subprocess.run(
        [sys.executable, str(root / "examples" / "otlp.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{refused}"},
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "Within a day.\n"
    assert "3 of 3 spans" in done.stderr
