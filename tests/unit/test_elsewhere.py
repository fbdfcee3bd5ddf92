"""What went wrong in other context managers, by their issues, does not go wrong here."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from memtrace import (
    Policy,
    Session,
    VocabularyError,
    checkpoint,
    checkpoints,
    compress_memory,
    create_memory_snapshot,
    managed_agent,
    measure_tokens,
    trigger_cleanup,
)
from memtrace.actions.pairs import faults
from memtrace.messages import facts

Message = dict[str, Any]

SYSTEM: Message = {"role": "system", "content": "You are careful. Never touch production."}
TASK: Message = {"role": "user", "content": "Find out why the build fails, and fix it."}


def call(identity: str, **arguments: Any) -> Message:
    function = {"name": "read", "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": identity, "type": "function", "function": function}],
    }


def result(identity: str, number: int = 0, lines: int = 20) -> Message:
    said = "the quick brown fox jumps over the lazy dog"
    text = "\n".join(f"src/module_{number}/line_{n}.py {said}" for n in range(lines))
    return {"role": "tool", "tool_call_id": identity, "content": text}


def pairs(count: int) -> list[Message]:
    held = ([call(f"c{n}", path=f"{n}.py"), result(f"c{n}", n)] for n in range(count))
    return [message for pair in held for message in pair]


def problems(session: Session) -> list[str]:
    return faults([facts(message) for message in session.history.messages()])


def same(ours: Any, theirs: Any) -> bool:
    return len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True))


# --- pairs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.8, 0.6, 0.4, 0.2, 0.05, 0.01])
def test_langchain_38352_orphaned_tool_results(target: float) -> None:
    """
    However much is cut away, no tool result is left without the call it answers.
    """
    session = Session(token_budget=10_000)
    session.history.extend([SYSTEM, TASK, *pairs(40)])

    compress_memory(session, target)

    assert problems(session) == []


@pytest.mark.parametrize("target", [0.8, 0.6, 0.4, 0.2, 0.05, 0.01])
def test_openai_agents_python_2317_reasoning_and_calls_parted(target: float) -> None:
    """
    Responses items move as whole groups: reasoning, parallel calls and outputs together.
    """
    session = Session(token_budget=6_000)
    session.history.append(TASK)
    for n in range(20):
        session.history.append({"type": "reasoning", "id": f"rs{n}", "summary": []})
        for side in "ab":
            item = {"type": "function_call", "call_id": f"{side}{n}", "name": "read"}
            session.history.append({**item, "arguments": json.dumps({"path": f"{n}.py"})})
        for side in "ab":
            text = result("", n)["content"]
            item = {"type": "function_call_output", "call_id": f"{side}{n}", "output": text}
            session.history.append(item)

    compress_memory(session, target)

    shown = session.history.messages()
    assert problems(session) == []
    kinds = [message.get("type") for message in shown]
    for place, kind in enumerate(kinds):
        if kind == "reasoning":
            assert (
                kinds[place + 1 : place + 5] == ["function_call"] * 2 + ["function_call_output"] * 2
            )


def test_adk_python_7236_orphan_call_disables_compaction() -> None:
    """
    A call that was never answered keeps nothing else from being compressed, now or later.
    """
    session = Session(token_budget=6_000)
    session.history.extend([TASK, call("orphan", path="lost.py"), {**TASK, "content": "go on"}])
    for n in range(100):
        session.history.extend([call(f"c{n}", path=f"{n}.py"), result(f"c{n}", n)])
        shown = session.messages()

        assert measure_tokens(shown) <= 6_000
    assert "effective" in {report.outcome for report in session.reports[-20:]}


def test_adk_python_7236_many_orphan_calls() -> None:
    """
    Old calls that nothing will answer any more are given up as others are.
    """
    session = Session(token_budget=4_000)
    session.history.append(TASK)
    for n in range(60):
        session.history.append(call(f"c{n}", text="write this down, word for word " * 20))
        session.history.append({"role": "user", "content": f"never mind, {n}"})
        session.messages()

    assert session.profile().total_tokens <= 4_000
    assert session.history[-1]["content"] == "never mind, 59"


def test_a_reused_tool_call_id_never_pairs_with_the_wrong_result() -> None:
    """
    Where every call has the same id, whole pairs go, and what stays is in order.
    """
    session = Session(token_budget=6_000)
    session.history.append(TASK)
    for n in range(30):
        session.history.extend([call("call_1", path=f"{n}.py"), result("call_1", n)])

    compress_memory(session, 0.3)

    shown = session.history.messages()
    assert problems(session) == []
    for asked, answered in pairwise(shown):
        if asked.get("tool_calls") and "module_" in str(answered["content"]):
            number = json.loads(asked["tool_calls"][0]["function"]["arguments"])["path"][:-3]
            assert f"module_{number}/" in answered["content"]


# --- what must stay -------------------------------------------------------------------------------


def test_llama_index_23144_system_message_evicted() -> None:
    """
    System messages stay where they are, the first and later ones, at any target.
    """
    later: Message = {"role": "developer", "content": "From now on answer in French."}
    session = Session(token_budget=8_000)
    session.history.extend([SYSTEM, TASK, *pairs(20), later, *pairs(20)])

    for target in (0.5, 0.1, 0.01):
        trigger_cleanup(session, target)

        shown = session.history.messages()
        assert shown[0] is SYSTEM
        assert shown[1] is TASK
        assert sum(message is later for message in shown) == 1


def test_strands_4087_pins_lost_on_restore() -> None:
    """
    What was pinned when a snapshot was taken is pinned after it is restored, and stays.
    """
    session = Session(token_budget=2_000)
    session.active_contexts.add("rules " * 300, key="rules", pinned=True)
    session.active_contexts.add({"name": "read"}, key="tools", kind="tools")
    create_memory_snapshot(session)
    before = session.active_contexts.items
    session.active_contexts.clear()
    session.restore(session.snapshots()[-1])

    trigger_cleanup(session, 0.01)

    assert session.active_contexts.items == before
    assert all(item.pinned for item in before)
    assert session.profile().pinned_tokens == sum(item.tokens for item in before)


def test_openclaw_85717_edited_thinking_block() -> None:
    """
    A message with signed thinking is never rewritten: it is there as it came, or not at all.
    """
    session = Session(token_budget=10_000)
    signed = []
    session.history.append(TASK)
    for n in range(20):
        thinking = {"type": "thinking", "thinking": f"Step {n}. " * 40, "signature": f"s{n}"}
        use = {"type": "tool_use", "id": f"t{n}", "name": "read", "input": {"n": n}}
        answer = {
            "type": "tool_result",
            "tool_use_id": f"t{n}",
            "content": result("", n)["content"],
        }
        signed.append({"role": "assistant", "content": [thinking, use]})
        session.history.extend([signed[-1], {"role": "user", "content": [answer]}])

    for target in (0.7, 0.4, 0.1):
        compress_memory(session, target)
        kept = [m for m in session.history if m["role"] == "assistant"]
        assert all(any(message is one for one in signed) for message in kept)
        assert problems(session) == []


# --- a failure is no replacement ------------------------------------------------------------------


class Failing:
    """Counts characters, and fails where it meets what only a short form has."""

    name, exact = "failing", True

    def count_text(self, text: str) -> int:
        if "set aside" in text or "left out" in text:
            raise VocabularyError("context_length_exceeded")
        return len(text)


@pytest.mark.parametrize("act", [trigger_cleanup, compress_memory])
def test_langchain_38867_history_replaced_by_error(act: Callable[..., Any]) -> None:
    """
    Where shortening fails, the history is what it was: no error text stands in its place.
    """
    session = Session(token_budget=10_000, counter=Failing())
    messages = [SYSTEM, TASK, *pairs(20)]
    session.history.extend(messages)

    report = act(session)

    assert report.outcome == "failed"
    assert same(session.history.messages(), messages)
    assert session.profile() == session.recount()


def test_langchain_39261_history_replaced_by_a_failed_summary() -> None:
    """
    A replaced action that fails half way, or gives back rubbish, leaves a whole history.
    """
    messages = [SYSTEM, TASK, *pairs(20)]

    def half(session: Session, *, target: float) -> str:
        raise RuntimeError("the summariser is down")

    def rubbish(session: Session, *, target: float) -> str:
        return "Error: the summariser is down"

    for replacement in (half, rubbish):
        policy = Policy(actions={"cleanup": replacement, "compress": replacement})
        session = Session(token_budget=4_000, policy=policy)
        session.history.extend(messages)

        assert same(session.messages(), messages)


# --- meanwhile ------------------------------------------------------------------------------------


class Slow:
    """Counts characters, and lets somebody in while a pass counts its first short form."""

    name, exact = "slow", True

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] | None = None

    def count_text(self, text: str) -> int:
        if "set aside" in text and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            other = threading.Thread(target=meanwhile)
            other.start()
            other.join()
        return len(text)


def passing(meanwhile: Callable[[Session], None]) -> Session:
    """A session in which this happened while a pass was under way."""
    counter = Slow()
    session = Session(token_budget=20_000, counter=counter)
    session.history.extend([SYSTEM, TASK, *pairs(40)])
    counter.meanwhile = lambda: meanwhile(session)
    compress_memory(session, 0.5)
    assert counter.meanwhile is None
    return session


def test_openai_agents_python_4679_writes_lost_during_compaction() -> None:
    """
    Messages appended while a pass is under way are there after it, last and whole.
    """
    late = [call("late", path="z.py"), result("late"), {"role": "user", "content": "and now?"}]

    session = passing(lambda session: session.history.extend(late))

    assert same(session.history.messages()[-3:], late)
    assert session.profile() == session.recount()
    assert problems(session) == []


def test_what_is_cleared_meanwhile_does_not_come_back() -> None:
    """
    A history that was cleared while a pass was under way stays cleared.
    """

    def clear(session: Session) -> None:
        session.history.clear()
        session.history.append(TASK)

    session = passing(clear)

    assert same(session.history.messages(), [TASK])
    assert session.profile() == session.recount()


def test_what_is_replaced_meanwhile_stays_replaced() -> None:
    """
    A message that its owner replaced while a pass was under way is the owner's.
    """
    mine = result("c0", 99)

    session = passing(lambda session: session.history.replace(3, mine))

    assert any(message is mine for message in session.history)
    assert session.profile() == session.recount()


def test_what_is_restored_meanwhile_is_whole() -> None:
    """
    Restoring a snapshot while a pass is under way leaves valid pairs and exact totals.
    """

    def restore(session: Session) -> None:
        create_memory_snapshot(session)
        session.history.clear()
        session.restore(session.snapshots()[-1])

    session = passing(restore)

    assert session.profile() == session.recount()
    assert problems(session) == []
    assert session.history[1] is TASK


# --- reducible, and ending ------------------------------------------------------------------------


def test_strands_sdk_981_one_huge_tool_result() -> None:
    """
    One fresh result larger than the whole budget is capped, and the call goes on.
    """
    huge = result("big", 1, lines=20_000)
    session = Session(token_budget=8_000)
    session.history.extend([SYSTEM, TASK, call("big", path="log"), huge])

    shown = session.messages()

    assert measure_tokens(shown) <= 8_000
    assert shown[-1]["tool_call_id"] == "big"
    assert "src/module_1/line_0.py" in shown[-1]["content"]
    assert session.original(session.history.items[-1].id) is huge


def test_hermes_agent_53008_endless_loop() -> None:
    """
    Where what must stay exceeds the threshold, the loop tries twice, says why, and ends.
    """
    session = Session(token_budget=1_000)
    session.active_contexts.add({"tools": "schema " * 900}, kind="tools")
    session.history.append(TASK)

    for _ in range(20):
        session.messages()

    assert 1 <= len(session.reports) <= 2
    (alert,) = session.alerts
    assert alert.threshold == "unreachable_target"
    assert f"pinned {session.active_contexts.tokens}" in alert.message


def test_langgraphjs_1138_checkpoints_that_only_grow() -> None:
    """
    A thousand checkpoints keep the last ten snapshots and no more.
    """
    session = Session()
    for n in checkpoints(session, range(1000)):
        session.history.append({"role": "assistant", "content": f"step {n}"})

    assert len(session.snapshots()) == 10
    assert session.snapshots()[-1].name == "step 999"


async def test_langgraph_7857_deadlock_on_a_synchronous_write_in_the_loop() -> None:
    """
    Appending from the event loop while a pass runs in a worker thread waits for nothing.
    """
    session = Session(token_budget=20_000)
    session.history.extend([TASK, *pairs(60)])

    @managed_agent
    async def body(session: Session) -> None:
        sending = asyncio.ensure_future(session.amessages())
        for n in range(100):
            session.history.append({"role": "assistant", "content": f"note {n}"})
            await asyncio.sleep(0)
        await sending

    await asyncio.wait_for(body(session), 60)

    assert session.profile() == session.recount()
    assert session.history[-1]["content"] == "note 99"


def test_a_boundary_only_moves_forward() -> None:
    """
    What was compressed is not received anew when a framework sends its list whole again.
    """
    session, messages = Session(token_budget=10_000), [SYSTEM, TASK, *pairs(40)]
    session.history.sync(messages)
    session.messages()
    shown = session.history.messages()

    session.history.sync([*messages, {"role": "user", "content": "go on"}])

    assert same(session.history.messages()[:-1], shown)
    assert session.profile() == session.recount()


def test_a_list_that_changed_within_what_was_folded_stays_valid() -> None:
    """
    A framework that sends an old result anew, shortened by itself, orphans no result.
    """
    session, messages = Session(token_budget=10_000), [SYSTEM, TASK, *pairs(40)]
    session.history.sync(messages)
    trigger_cleanup(session, 0.2)

    changed = [*messages[:7], {**messages[7], "content": "[trimmed]"}, *messages[8:]]
    assert faults([facts(message) for message in changed]) == []
    session.history.sync(changed)

    assert problems(session) == []
    assert session.profile() == session.recount()


def test_what_rolled_back_is_compressed_again_only_from_the_originals() -> None:
    """
    After a rollback the next pass finds the caller's own messages, not the short forms.
    """
    session, messages = Session(token_budget=10_000), [SYSTEM, TASK, *pairs(18)]
    session.history.extend(messages)

    with pytest.raises(KeyError), checkpoint(session, rollback=True):  # noqa: PT012
        compress_memory(session, 0.2)
        raise KeyError

    assert same(session.history.messages(), messages)
    compress_memory(session, 0.3)
    for item in session.history.items:
        for source in item.derived_from:
            assert any(session.original(source) is message for message in messages)
