"""Cancellation at any moment of a checkpoint: the next one works, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import random
from pathlib import Path

import pytest
from child import LETTERS, number_of, step
from faults import many
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memtrace import Session, checkpoint, managed_agent, verify
from memtrace.stores import open_store

CANCELS = many(500, 80)


async def test_cancelled_at_any_point_the_next_checkpoint_has_all(
    tmp_path: Path, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A task is cancelled before, in, after and while entering its checkpoint, at any turn of the
    loop: each acknowledged message is there, every span has ended, nothing warns.
    """
    rng = random.Random("cancel")
    store = tmp_path / "m.db"
    session = Session.open("a", store=store, counter=LETTERS, token_budget=1_000_000)
    acknowledged = begun = through = cancelled = 0
    entered = asyncio.Event()

    @managed_agent
    async def work(number: int, session: Session) -> None:
        nonlocal acknowledged, begun, through
        begun += 1
        step(session, number)
        async with checkpoint(session, f"step {number}"):
            acknowledged = number
            entered.set()
            for _ in range(3):
                await asyncio.sleep(0)
            through += 1

    for attempt in range(CANCELS):
        entered.clear()
        task = asyncio.ensure_future(work(number_of(session) + 1, session))
        if attempt % 3 == 0:
            await entered.wait()
        for _ in range(rng.choice([0, 1, 2, 3, 4, 5, 6, 8, 20, 50])):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
        if attempt % 10 == 0:
            again = Session.open("a", store=store, counter=LETTERS)
            assert number_of(again) >= acknowledged
    async with checkpoint(session, "at the end"):
        held = number_of(Session.open("a", store=store, counter=LETTERS))
        assert held == number_of(session) >= acknowledged
    named = [span.name for span in spans.get_finished_spans()]
    assert named.count("invoke_agent work") == begun
    assert sum(" step " in name for name in named) == begun
    assert len(session.active_runs()) <= session.policy.keep_runs
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    assert verify(store).ok
    gc.collect()  # what was never awaited or never retrieved would be said now
    print(f"{CANCELS} tasks, {cancelled} cancelled, {begun} begun, {through} through their blocks")
    assert 0 < cancelled < CANCELS
    open_store(store).close()


async def test_a_time_out_while_a_thousand_wait_loses_none_of_the_others(tmp_path: Path) -> None:
    """Of many tasks in one group commit some give up: the others are acknowledged, all is there."""
    store = open_store(tmp_path / "m.db")
    rng = random.Random("group")
    sessions = [Session.open(f"{n}", store=store, counter=LETTERS) for n in range(many(300, 60))]
    acknowledged: set[str] = set()

    async def one(session: Session) -> None:
        step(session, 1)
        async with checkpoint(session, "once"):
            acknowledged.add(session.id)

    tasks = [asyncio.ensure_future(one(session)) for session in sessions]
    await asyncio.sleep(0)
    gone = rng.sample(tasks, len(tasks) // 3)
    for task in gone:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(acknowledged) >= len(tasks) - len(gone)
    for session in sessions:
        held = number_of(Session.open(session.id, store=store, counter=LETTERS))
        assert held == 1 or session.id not in acknowledged
        async with checkpoint(session, "again"):
            pass
        assert number_of(Session.open(session.id, store=store, counter=LETTERS)) == len(
            session.history
        )
    assert verify(store).ok
    store.close()
