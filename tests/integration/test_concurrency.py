"""Many threads and tasks on one session and on many: nothing is lost, and totals are exact."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memtrace import (
    MemoryProfile,
    Policy,
    Session,
    checkpoint,
    compress_memory,
    consolidate_memory,
    create_memory_snapshot,
    managed_agent,
    plan,
    propagate,
    trigger_cleanup,
)
from memtrace.actions.pairs import faults
from memtrace.messages import facts

Message = dict[str, Any]

TASK: Message = {"role": "user", "content": "Find out why the build fails, and fix it."}
THREADS = 16
TASKS = 1_000


class Quarters:
    """Four characters a token: quick, and exact by its own word."""

    name, exact = "quarters", True

    def count_text(self, text: str) -> int:
        return (len(text) + 3) // 4


def pair(name: str, lines: int = 12) -> list[Message]:
    """A tool call and its result, whose id and text no other has."""
    text = "".join(f"src/{name}/line_{n}.py was read and kept for later. " for n in range(lines))
    function = {"name": "read", "arguments": f'{{"path": "{name}.py"}}'}
    return [
        {"role": "assistant", "content": None, "tool_calls": [{"id": name, "function": function}]},
        {"role": "tool", "tool_call_id": name, "content": text},
    ]


def fresh(budget: int = 20_000, **policy: Any) -> Session:
    session = Session(token_budget=budget, policy=Policy(**policy), counter=Quarters())
    session.history.append(TASK)
    return session


def everything(session: Session) -> list[Any]:
    """Every message that is shown, or stood for by what is shown."""
    found: list[Any] = []
    for item in session.history.items:
        if item.derived_from:
            found += [session.original(source) for source in item.derived_from]
        else:
            found.append(item.content)
    return found


def assert_whole(session: Session, received: list[Message]) -> None:
    """Totals are exact, pairs whole, and every message is there once, shown or stood for."""
    assert session.profile() == session.recount()
    assert Counter(map(id, everything(session))) == Counter(map(id, received))
    assert faults([facts(message) for message in session.history.messages()]) == []
    assert session.history[0] is TASK


def at_once(count: int, work: Callable[[int], object]) -> None:
    """Run ``work`` with each number from 0 in as many threads, all starting together."""
    start = threading.Barrier(count)

    def begin(number: int) -> object:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(begin, number) for number in range(count)]:
            done.result()


@managed_agent
def agent(session: Session, messages: list[Message]) -> None:
    session.messages()
    session.history.extend(messages)


# --- threads --------------------------------------------------------------------------------------


def test_threads_on_one_session_lose_no_message() -> None:
    """
    Sixteen threads append, run, compress, clean up and take snapshots of one session; every
    message is there afterwards, and every total is what a recount gives.
    """
    session = fresh()
    turns = {(t, n): pair(f"t{t}_{n}") for t in range(THREADS) for n in range(12)}

    def work(thread: int) -> None:
        for n in range(12):
            agent(session, turns[thread, n])
            if n % 4 == 1:
                compress_memory(session, 0.6)
            elif n % 4 == 2:
                trigger_cleanup(session, 0.5)
            elif n % 4 == 3:
                session.active_contexts.add(f"note {thread} {n} " * 20, key=f"k{thread}")
                create_memory_snapshot(session)
                consolidate_memory(session)

    at_once(THREADS, work)

    assert_whole(session, [TASK, *(message for turn in turns.values() for message in turn)])
    assert any(item.derived_from for item in session.history.items)


def test_threads_on_sessions_of_their_own_do_not_meet() -> None:
    """
    Sixteen threads with a session each: every session has its own messages, and exact totals.
    """
    sessions = [fresh(2_000) for _ in range(THREADS)]
    turns = {(t, n): pair(f"t{t}_{n}") for t in range(THREADS) for n in range(20)}

    def work(thread: int) -> None:
        for n in range(20):
            agent(sessions[thread], turns[thread, n])

    at_once(THREADS, work)

    for thread, session in enumerate(sessions):
        assert_whole(session, [TASK, *(m for n in range(20) for m in turns[thread, n])])
        assert session.reports
        assert session.profile().total_tokens <= 2_000


def test_all_layers_stay_exact_under_threads() -> None:
    """
    Contexts, cache and agents' states too: all totals equal a recount after sixteen threads.
    """
    session = fresh(30_000)

    def work(thread: int) -> None:
        for n in range(30):
            session.active_contexts.add(f"document {thread} {n} " * 10, key=f"{n % 7}")
            session.cache.put((thread, n % 5), f"value {n} " * 5)
            session.cache.get((thread, (n + 1) % 5))
            session.agent(f"a{thread % 4}").state = {"step": n}
            if n % 10 == 9:
                trigger_cleanup(session, 0.2)
                consolidate_memory(session)

    at_once(THREADS, work)

    profile = session.profile()
    assert profile == session.recount()
    assert profile.cache_lookups == THREADS * 30
    for layer in session.layers:
        assert layer.tokens == sum(item.tokens for item in layer.items)


def test_checkpoints_of_two_threads_roll_back_without_breaking_memory() -> None:
    """
    Threads whose checkpoints fail and roll back leave a memory that is exact and valid.
    """
    session = fresh()

    def work(thread: int) -> None:
        for n in range(10):
            try:
                with checkpoint(session, f"{thread}", rollback=True):
                    session.history.extend(pair(f"t{thread}_{n}"))
                    if n % 2:
                        raise KeyError
            except KeyError:
                pass

    at_once(4, work)

    assert session.profile() == session.recount()
    assert faults([facts(message) for message in session.history.messages()]) == []
    assert session.history[0] is TASK


class Pausing(Quarters):
    """Lets somebody in, once, while a pass counts its first short form."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] | None = None

    def count_text(self, text: str) -> int:
        if "set aside" in text and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super().count_text(text)


def test_messages_asked_for_during_a_pass_are_within_the_budget() -> None:
    """
    A thread that asks while another's pass is under way is not sent more than the budget.
    """
    counter = Pausing()
    session = Session(token_budget=10_000, counter=counter)
    session.history.extend([TASK, *(m for n in range(120) for m in pair(f"c{n}"))])
    sent: list[int] = []

    def ask() -> None:
        sent.append(sum(map(len, map(str, session.messages()))) // 4)

    other = threading.Thread(target=ask)

    def let_in() -> None:
        other.start()
        other.join(0.2)  # it may return at once, or wait for this very pass

    counter.meanwhile = let_in
    session.messages()
    other.join()

    assert session.profile().total_tokens <= 10_000
    assert sent[0] <= 12_000  # of the whole messages' text, frames and all


# --- tasks ----------------------------------------------------------------------------------------


async def test_tasks_on_one_session_lose_no_message() -> None:
    """
    A thousand asyncio tasks run agents on one session; nothing is lost, totals are exact.
    """
    session = fresh(40_000)
    turns = [pair(f"t{n}", 4) for n in range(TASKS)]

    @managed_agent
    async def step(session: Session, turn: list[Message]) -> None:
        await session.amessages()
        session.history.extend(turn)
        await asyncio.sleep(0)

    await asyncio.gather(*(step(session, turn) for turn in turns))

    assert_whole(session, [TASK, *(message for turn in turns for message in turn)])
    assert session.reports
    await session.amessages()
    assert session.profile().total_tokens <= 40_000


async def test_tasks_on_sessions_of_their_own_do_not_meet() -> None:
    """
    A thousand tasks with a session each: every one keeps its own messages within its budget.
    """
    sessions = [fresh(500) for _ in range(TASKS)]

    @managed_agent
    async def step(session: Session, number: int) -> list[Message]:
        received = []
        for n in range(3):
            turn = pair(f"t{number}_{n}")
            received += turn
            await session.amessages()
            session.history.extend(turn)
        return received

    all_received = await asyncio.gather(*(step(s, n) for n, s in enumerate(sessions)))

    for session, received in zip(sessions, all_received, strict=True):
        assert_whole(session, [TASK, *received])
        assert session.profile().total_tokens <= 500


async def test_messages_appended_during_a_pass_are_not_lost() -> None:
    """
    What the event loop appends while passes run in worker threads comes last, and whole.
    """
    session = fresh()
    session.history.extend(old := [m for n in range(100) for m in pair(f"old_{n}", 20)])
    late = [pair(f"late_{n}") for n in range(200)]

    async def pass_after_pass() -> None:
        for target in (0.9, 0.7, 0.5, 0.3):
            await asyncio.to_thread(compress_memory, session, target)

    passing = asyncio.ensure_future(pass_after_pass())
    for turn in late:
        session.history.extend(turn)
        await asyncio.sleep(0)
    await passing

    assert_whole(session, [TASK, *old, *(m for turn in late for m in turn)])


# --- runs within runs -----------------------------------------------------------------------------


def test_an_inner_run_takes_its_own_groups_before_the_outers() -> None:
    """
    Under pressure within an inner run, what it brought itself is made shorter first: what the
    outer run still uses stays as it is while that suffices.
    """
    session = fresh(10_000, keep_recent=2, keep_tool_outputs=0)
    outer_turns = [m for n in range(8) for m in pair(f"outer_{n}", 12)]
    inner_turns = [m for n in range(60) for m in pair(f"inner_{n}", 12)]

    @managed_agent
    def inner(session: Session) -> None:
        session.history.extend(inner_turns)
        session.messages()

        shown = {id(message) for message in session.history.messages()}
        assert all(id(message) in shown for message in outer_turns)

    @managed_agent
    def outer(session: Session) -> None:
        session.history.extend(outer_turns)
        inner(session)

    outer(session)

    assert session.reports[0].outcome == "effective"
    assert_whole(session, [TASK, *outer_turns, *inner_turns])


def test_a_finished_runs_messages_go_before_those_of_an_open_one() -> None:
    """
    What no recent run used is made shorter before what the open run brought.
    """
    session = fresh(10_000, keep_runs=0, keep_recent=2, keep_tool_outputs=0)
    old = [m for n in range(40) for m in pair(f"old_{n}", 10)]
    own = [m for n in range(25) for m in pair(f"own_{n}", 10)]
    agent(session, old)

    @managed_agent
    def later(session: Session) -> None:
        session.history.extend(own)
        session.messages()

        shown = {id(message) for message in session.history.messages()}
        assert all(id(message) in shown for message in own)

    later(session)

    assert session.reports


def test_parallel_tool_calls_of_one_run_belong_to_it() -> None:
    """
    What a run's own worker threads append belongs to the run, and is not taken for inactive.
    """
    session = fresh(50_000)

    @managed_agent
    def run(session: Session) -> None:
        with ThreadPoolExecutor(8) as pool:
            append = propagate(session.history.extend)
            list(pool.map(append, [pair(f"p{n}") for n in range(8)]))

    run(session)

    owners = {item.run_id for item in session.history.items[1:]}
    assert len(owners) == 1
    assert None not in owners


# --- a plan, and what then happens ----------------------------------------------------------------


def many(share: float, stored: float = 0.0, contexts: float = 0.0) -> Session:
    """A session with this share of its budget in each of three places."""
    session = fresh(10_000, consolidate_above=1.0)
    for layer, part, key in (
        (session.active_contexts, contexts, "doc"),
        (session.archived_contexts, stored, "old"),
    ):
        while layer.tokens < part * 10_000:
            name = f"{key}_{len(layer)}"
            layer.add(f"{name} went to host-7 on 3 May. It was quiet. " * 12, key=name)
    number = 0
    while session.history.tokens < share * 10_000:
        session.history.extend(pair(f"c{number}"))
        number += 1
    return session


@pytest.mark.parametrize(
    ("share", "stored", "contexts"),
    [
        (0.3, 0, 0),
        (0.78, 0, 0),
        (0.83, 0, 0),
        (0.9, 0, 0),
        (2.0, 0, 0),
        (0.2, 0, 0.35),
        (0.2, 0.3, 0.33),
        (0.45, 0.35, 0.05),
    ],
)
@pytest.mark.parametrize(
    "policy",
    [
        Policy(consolidate_above=1.0),
        Policy(cleanup_above=0.5, cleanup_target=0.4, compress_above=0.5, compress_target=0.4),
        Policy(compress_above=1.0, cleanup_above=1.0),
    ],
)
def test_a_plan_gives_what_then_happens(
    share: float, stored: float, contexts: float, policy: Policy
) -> None:
    """
    What ``plan`` says of a profile under a policy is what a run under it then does, in order;
    where the first action suffices, what was planned after it is not needed any more.
    """
    session = many(share, stored, contexts)
    profile = session.profile()
    planned = [action.name for action in plan(profile, policy)]
    done: list[str] = []

    @managed_agent(policy=policy)
    def run(session: Session) -> MemoryProfile:
        done.extend(report.action for report in session.reports)
        return session.profile()

    after = run(session)

    assert done[:1] == planned[:1]
    assert done == planned[: len(done)]
    still = [action.name for action in plan(after, policy)]
    assert still == []
