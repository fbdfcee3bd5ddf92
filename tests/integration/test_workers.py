"""Processes that servers and pools make, and contexts that tasks, threads and requests carry."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memtrace import Session, current_session, from_baggage, managed_agent, propagate

REQUESTS = 40
HELLO = {"role": "user", "content": "hello"}

# An application, and what a worker of its does as it begins and as it ends. One call is made before
# the worker has its provider: no worker counts it.
_APP = """
import json, os
from pathlib import Path
import memtrace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

session = memtrace.Session("before the fork")

@memtrace.managed_agent
def answer(session):
    session.history.append({"role": "user", "content": "hello"})
    return "ok"

answer(session)
reader = None

def begin():
    global reader
    reader = InMemoryMetricReader()
    memtrace.configure(
        tracer_provider=TracerProvider(shutdown_on_exit=False),
        meter_provider=MeterProvider([reader], shutdown_on_exit=False),
    )
    Path(os.environ["COUNTS"], f"{os.getpid()} begun").touch()

def end():
    metrics = [
        metric
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    runs = [m for m in metrics if m.name == "gen_ai.invoke_agent.duration"]
    count = sum(point.count for metric in runs for point in metric.data.data_points)
    Path(os.environ["COUNTS"], f"{os.getpid()} ended").write_text(json.dumps(count))

def wsgi(environ, start_response):
    said = answer(memtrace.Session()).encode()
    start_response("200 OK", [("Content-Length", str(len(said)))])
    return [said]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        end()
        await send({"type": "lifespan.shutdown.complete"})
        return
    said = answer(memtrace.Session()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said})
"""

_GUNICORN = """
def post_worker_init(worker):
    import app
    app.begin()

def worker_exit(server, worker):
    import app
    app.end()
"""


def _served(command: list[str], folder: Path, port: int) -> list[int]:
    """What each worker counted, after so many requests from eight clients at once."""
    counts = folder / "counts"
    counts.mkdir()
    environment = {**os.environ, "COUNTS": str(counts), "PYTHONPATH": str(folder)}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/"

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return len(list(counts.glob("* begun"))) == 2

    def request(_: int) -> bytes:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return bytes(answer.read())

    try:
        _wait_for(listens, folder / "log")
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(request, range(REQUESTS))) == {b"ok"}
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    finally:
        server.kill()
        server.wait()
    return [json.loads(file.read_text()) for file in counts.glob("* ended")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(ready: Callable[[], bool], log: Path) -> None:
    give_up = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.02)


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["each imports", "preload"])
def test_gunicorn_workers_count_each_call_once(tmp_path: Path, options: list[str]) -> None:
    """
    Forked workers with providers of their own count what they served, and nothing of before.
    """
    (tmp_path / "app.py").write_text(_APP)
    (tmp_path / "conf.py").write_text(_GUNICORN)
    port = _free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "conf.py", "-w", "2", *options]
    counts = _served([*command, "-b", f"127.0.0.1:{port}", "app:wsgi"], tmp_path, port)
    assert len(counts) == 2
    assert sum(counts) == REQUESTS, (tmp_path / "log").read_text()


def test_uvicorn_workers_count_each_call_once(tmp_path: Path) -> None:
    """
    Spawned workers that make their providers at startup count what they served.
    """
    (tmp_path / "app.py").write_text(_APP)
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "app:asgi", "--workers", "2", "--port", str(port)]
    counts = _served([*command, "--log-level", "warning"], tmp_path, port)
    assert len(counts) == 2
    assert sum(counts) == REQUESTS, (tmp_path / "log").read_text()


_POOL = """
import multiprocessing, sys, threading
import memtrace
from app import answer, begin, end
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

def child():
    begin()
    session = memtrace.Session()
    for _ in range(3):
        answer(session)
    end()

if __name__ == "__main__":
    memtrace.configure(meter_provider=MeterProvider([InMemoryMetricReader()]))
    stop = threading.Event()

    def busy():
        session = memtrace.Session()
        while not stop.is_set():
            answer(session)

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    method = multiprocessing.get_context(sys.argv[1])
    children = [method.Process(target=child) for _ in range(int(sys.argv[2]))]
    for process in children:
        process.start()
    for process in children:
        process.join(30)
    stop.set()
    for thread in threads:
        thread.join()
    print(*(process.exitcode for process in children))
"""


@pytest.mark.parametrize(("method", "children"), [("fork", 12), ("spawn", 2)])
def test_multiprocessing_neither_hangs_nor_counts_twice(
    tmp_path: Path, method: str, children: int
) -> None:
    """
    Children made while four threads are in the middle of runs end, and count their own three.
    """
    (tmp_path / "app.py").write_text(_APP)
    (tmp_path / "pool.py").write_text(_POOL)
    counts = tmp_path / "counts"
    counts.mkdir()
    # From Python 3.12 on a fork beside threads is warned of: that it works is what is tested.
    command = [sys.executable, "-W", "ignore", "pool.py", method, str(children)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "COUNTS": str(counts)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["0"] * children, done.stderr
    assert [json.loads(file.read_text()) for file in counts.glob("* ended")] == [3] * children


# --- contexts within a process --------------------------------------------------------------------


async def _in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


async def _gathered(work: Callable[[], Any]) -> Any:
    async def one() -> Any:
        return work()

    return (await asyncio.gather(one(), one()))[0]


async def _grouped(work: Callable[[], Any]) -> Any:
    async def one() -> Any:
        return work()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(one())
    return task.result()


async def _pooled(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.wrap_future(pool.submit(propagate(work)))


_WAYS = [_in_thread, _gathered, _pooled]
if sys.version_info >= (3, 11):
    _WAYS.append(_grouped)


@pytest.mark.parametrize("way", _WAYS, ids=lambda way: way.__name__.strip("_"))
async def test_a_run_is_found_in_what_it_starts(
    way: Callable[[Callable[[], Any]], Awaitable[Any]], spans: InMemorySpanExporter
) -> None:
    """
    An agent that is started elsewhere has the outer one's session, and its span as parent.
    """

    @managed_agent
    def inner() -> Session | None:
        return current_session()

    @managed_agent
    async def outer(session: Session) -> Any:
        return await way(inner)

    session = Session()
    assert await outer(session) is session
    *below, above = spans.get_finished_spans()
    assert above.name == "invoke_agent outer"
    assert {span.parent.span_id for span in below if span.parent} == {above.context.span_id}
    assert below[0].attributes is not None
    assert below[0].attributes["gen_ai.conversation.id"] == session.id


# --- to a remote agent ----------------------------------------------------------------------------


class _Remote(BaseHTTPRequestHandler):
    """A remote agent: tells what it was told, as a server's instrumentation would find it."""

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = from_baggage(extract(headers))
        said = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def remote() -> Iterator[Callable[[], list[Any]]]:
    """Asks a remote agent what it was told, with the headers that OpenTelemetry writes."""
    server = HTTPServer(("127.0.0.1", 0), _Remote)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def ask() -> list[Any]:
        headers: dict[str, str] = {}
        inject(headers)
        request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return list(json.load(answer))

    yield ask
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_remote_agent_is_told_what_is_left_when_it_is_asked(remote: Any) -> None:
    """
    With baggage=True a request carries the conversation's id and the budget left at that moment.
    """
    session = Session("ticket 7, β", token_budget=1_000)

    @managed_agent(baggage=True)
    def agent(session: Session) -> list[list[Any]]:
        before = remote()
        session.history.append({"role": "user", "content": "hello " * 100})
        return [before, remote()]

    before, after = agent(session)
    assert before == [session.id, 1_000]
    assert after == [session.id, 1_000 - session.history.tokens]
    assert after[1] < 900


def test_a_remote_agent_is_told_nothing_unless_asked_for(remote: Any) -> None:
    """
    Without baggage=True, and after the run, no header is written.
    """
    told = [managed_agent(lambda session: remote())(Session())]
    managed_agent(baggage=True)(lambda session: None)(Session())
    told.append(remote())
    assert told == [[None, None], [None, None]]


async def test_every_kind_of_agent_carries_it() -> None:
    """
    Coroutines, generators and async generators carry it while their bodies run, and only then.
    """
    session = Session("s", token_budget=1_000)

    @managed_agent(baggage=True)
    async def coroutine(session: Session) -> Any:
        await asyncio.sleep(0)
        return from_baggage()

    @managed_agent(baggage=True)
    def generator(session: Session) -> Iterator[Any]:
        yield from_baggage()

    @managed_agent(baggage=True)
    async def async_generator(session: Session) -> AsyncIterator[Any]:
        yield from_baggage()

    assert await coroutine(session) == ("s", 1_000)
    steps = generator(session)
    assert next(steps) == ("s", 1_000)
    assert from_baggage() == (None, None)
    steps.close()  # type: ignore[attr-defined]
    assert [told async for told in async_generator(session)] == [("s", 1_000)]


def test_an_observed_list_carries_what_it_leaves() -> None:
    """
    An agent that owns its messages has no conversation's id, and a budget all the same.
    """

    @managed_agent(messages="messages", token_budget=100, baggage=True)
    def agent(messages: list[Any]) -> Any:
        return from_baggage()

    assert agent([HELLO]) == (None, 96)


@pytest.mark.parametrize("tokens", ["", "-1", "many", "1.5", "٣", "9" * 40, "1;x=y"])
def test_nonsense_from_the_network_is_none(tokens: str) -> None:
    """
    What a remote agent is sent in place of a number of tokens says nothing.
    """
    context = baggage.set_baggage("memtrace.budget.remaining_tokens", tokens)
    context = baggage.set_baggage("gen_ai.conversation.id", "x" * 10_000, context)
    assert from_baggage(context) == (None, None)
