"""What the loop costs, and what it does: `python -m benchmarks.loop [--json PATH]`.

- *Nothing to do*: the added time of a managed call under the default policy / that under
  ``Policy.observe()``, which measures and alerts and never acts; memory is far below every
  threshold. *Once it acted*: the same in sessions that had a checkpoint before.
- *Acting pass*: one synchronous ``session.messages()`` on 128,000 tokens of conversation against a
  budget of 140,000, so that it must make room; the 99th percentile over many fresh sessions / the
  median of tiktoken alone counting those 128,000 tokens. *CPU time*: the same without what others
  took of the machine. *Tools*: file reads and their outputs. *Talk*: users and assistants alone.
- *Stall*: how much later than asked a task that sleeps 1 ms at a time woke while four sessions of
  100,000 tokens were worked on in the same loop: tool outputs appended, ``amessages()``, managed
  runs, checkpoints. The longest in each of several rounds, and of these the median. *Idle*: the
  same with nobody at work, in turn: what the machine itself adds. *Garbage collection*: the
  longest pause of the collector meanwhile, which is in the stall.

The figures of recorded sessions are in `benchmarks.replay`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import memtrace
from benchmarks._agents import (
    code,
    full_session,
    tiktoken_counter,
    tiktoken_function,
    tracing,
)
from benchmarks._rounds import Row, report, rounds
from benchmarks.calls import CALLS, bare, functions, managed
from benchmarks.tokens import prose
from memtrace import Policy, Session, Snapshot, checkpoint, create_memory_snapshot, managed_agent
from memtrace.counters import Counter
from memtrace.vocabulary import CountFunction

RESULTS = Path(__file__).parent / "results" / "loop.json"
PASS_TOKENS, PASS_BUDGET = 128_000, 140_000
WORKED_TOKENS, WORKED_BUDGET = 100_000, 120_000
SESSIONS = 4
TICK_S = 0.001

Message = dict[str, Any]


# --- conversations ------------------------------------------------------------------------------


def tools_talk() -> list[Message]:
    """One task, then many reads of files, each a call with its result; endless in effect."""
    talk: list[Message] = [{"role": "user", "content": "Find out why the second test fails."}]
    lines = code().splitlines(keepends=True)
    parts = ["".join(lines[start : start + 120]) for start in range(0, len(lines), 120)]
    for number in range(400):
        part = parts[number % len(parts)]
        arguments = f'{{"path": "src/module_{number}.py"}}'
        call = {"id": f"c{number}", "type": "function"}
        call["function"] = {"name": "read", "arguments": arguments}  # type: ignore[assignment]
        talk.append({"role": "assistant", "content": None, "tool_calls": [call]})
        output = f"src/module_{number}.py, part {number}\n{part}"
        talk.append({"role": "tool", "tool_call_id": f"c{number}", "content": output})
    return talk


def plain_talk() -> list[Message]:
    """Users and assistants in turn."""
    text = prose(1_500_000)
    starts = range(0, len(text), 1_000)
    return [
        {"role": "assistant" if n % 2 else "user", "content": text[start : start + 1_000]}
        for n, start in enumerate(starts)
    ]


def filled(talk: list[Message], tokens: int, counter: Counter) -> Snapshot:
    """A snapshot of a session that took in a conversation up to so many tokens."""
    session = Session(token_budget=10**9, counter=counter)
    for message in talk:
        if session.history.tokens >= tokens:
            break
        session.history.append(message)
    create_memory_snapshot(session)
    snapshot = session.latest_snapshot
    assert snapshot is not None
    return snapshot


def restored(snapshot: Snapshot, budget: int, counter: Counter) -> Session:
    """A fresh session that holds what the snapshot holds, with nothing to be counted."""
    session = Session(token_budget=budget, counter=counter)
    session.restore(snapshot)
    return session


# --- nothing to do ------------------------------------------------------------------------------


def idle_rows(count: int) -> list[Row]:
    """Managed calls that find nothing to do, against those that only watch."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    memtrace.configure(tracer_provider=tracing(), meter_provider=meters)

    def acted(policy: Policy) -> Session:
        session = full_session(policy=policy)
        with checkpoint(session):
            pass
        return session

    sessions = {
        "acts": full_session(),
        "watches": full_session(policy=Policy.observe()),
        "acted": acted(Policy()),
        "watched": acted(Policy.observe()),
    }
    batches = {name: functions(managed, session) for name, session in sessions.items()}
    batches["bare"] = functions(bare, full_session())
    took = rounds(batches, count, between=reader.collect, collecting=True)
    added = {name: took[name] - took["bare"] for name in sessions}
    label = "managed call with nothing to do / watching only"
    return [
        Row(label, added["acts"] / added["watches"], 1.15),
        Row(f"{label}, once it acted", added["acted"] / added["watches"], 1.15),
        Row("watching only, once it acted / before", added["watched"] / added["watches"]),
        Row("added by a managed call with nothing to do", added["acts"] / CALLS * 1e6, unit="µs"),
    ]


# --- one pass -----------------------------------------------------------------------------------


def pass_rows(kind: str, talk: list[Message], passes: int, count: CountFunction) -> list[Row]:
    """One acting pass against tiktoken counting what it acts on."""
    counter = tiktoken_counter(count)
    snapshot = filled(talk, PASS_TOKENS, counter)
    texts = [
        text
        for received, _ in snapshot.state[-1]
        for item in received
        for text in _counted(item.content)
    ]
    acting: list[tuple[float, float]] = []
    counting: list[tuple[float, float]] = []
    for turn in range(passes + 1):
        session = restored(snapshot, PASS_BUDGET, counter)
        took = timed(session.messages)
        assert session.history.tokens < PASS_TOKENS
        counted = timed(lambda: [count(text) for text in texts])
        if turn:
            acting.append(took)
            counting.append(counted)
    wall, cpu = (sorted(times) for times in zip(*acting, strict=True))
    base, cpu_base = (statistics.median(times) for times in zip(*counting, strict=True))
    rank = math.ceil(len(acting) * 0.99) - 1
    label = f"acting pass on 128,000 tokens, {kind}"
    return [
        Row(f"{label}: 99th percentile / tiktoken alone", wall[rank] / base, 1.5),
        Row(f"{label}: the same in CPU time", cpu[rank] / cpu_base),
        Row(f"{label}: median / tiktoken alone", statistics.median(wall) / base),
    ]


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that a call takes: by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.thread_time()
    call()
    return time.perf_counter() - wall, time.thread_time() - cpu


def _counted(message: Message) -> list[str]:
    calls = [call["function"]["arguments"] for call in message.get("tool_calls", ())]
    return [message["content"] or "", *calls]


# --- stalls -------------------------------------------------------------------------------------


async def lag(seconds: float, work: Callable[[], Any]) -> float:
    """The most that a ticking task was late while work went on, in seconds."""
    loop = asyncio.get_running_loop()
    tasks = [asyncio.ensure_future(coro) for coro in work()]
    longest = 0.0
    end = loop.time() + seconds
    while loop.time() < end:
        due = loop.time() + TICK_S
        await asyncio.sleep(TICK_S)
        longest = max(longest, loop.time() - due)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()
    return longest


class Pauses:
    """Seconds of the garbage collector's longest pause within a block."""

    def __init__(self) -> None:
        self.longest = self._started = 0.0

    def __call__(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.perf_counter()
        else:
            self.longest = max(self.longest, time.perf_counter() - self._started)

    def __enter__(self) -> Pauses:
        gc.callbacks.append(self)
        return self

    def __exit__(self, *_error: object) -> None:
        gc.callbacks.remove(self)


@managed_agent
async def agent(session: Session, talk: list[Message]) -> None:
    """A run: tool outputs come in, and a model is asked after each."""
    for start in range(0, len(talk), 2):
        await session.amessages()
        for message in talk[start : start + 2]:
            session.history.append(message)
        await asyncio.sleep(0)


async def worker(session: Session, talk: list[Message], passes: list[str]) -> None:
    """Runs in checkpoints, without end."""
    for stage in ("cleanup", "compress"):
        session.on(stage)(lambda event: passes.append(event.stage))
    for place in range(1, len(talk) * 1_000, 10):
        start = place % (len(talk) - 10)
        async with checkpoint(session, "step"):
            await agent(session, talk[start : start + 10])


def stall_rows(seconds: float, turns: int, count: CountFunction) -> list[Row]:
    """The longest stalls of an event loop."""
    counter = tiktoken_counter(count)
    talk = tools_talk()
    snapshot = filled(talk, WORKED_TOKENS, counter)
    passes: list[str] = []

    def work() -> list[Any]:
        sessions = [restored(snapshot, WORKED_BUDGET, counter) for _ in range(SESSIONS)]
        return [worker(session, talk, passes) for session in sessions]

    busy: list[float] = []
    idle: list[float] = []
    with Pauses() as pauses:
        for _ in range(turns):
            idle.append(asyncio.run(lag(seconds, list)))
            busy.append(asyncio.run(lag(seconds, work)))
    label = "longest stall of an event loop"
    return [
        Row(f"{label}, {SESSIONS} sessions", statistics.median(busy) * 1e3, 20, "ms"),
        Row(f"{label}, {SESSIONS} sessions, worst round", max(busy) * 1e3, unit="ms"),
        Row(f"{label}, idle", statistics.median(idle) * 1e3, unit="ms"),
        Row("longest garbage collection meanwhile", pauses.longest * 1e3, unit="ms"),
        Row("passes that acted meanwhile", len(passes), unit="passes"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=501, help="of calls")
    parser.add_argument("--passes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="a round of stalls")
    options = parser.parse_args(arguments)
    logging.getLogger("memtrace").setLevel(logging.CRITICAL)  # alerts are what is expected here
    count = tiktoken_function()
    rows = [
        *idle_rows(options.rounds),
        *pass_rows("tools", tools_talk(), options.passes, count),
        *pass_rows("talk", plain_talk(), options.passes, count),
        *stall_rows(options.seconds, 5, count),
    ]
    return 0 if report("The loop (o200k_base)", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
