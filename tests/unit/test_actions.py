"""What each action does to memory, and what it must leave as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from memtrace import (
    ActionReport,
    ConfigurationError,
    Item,
    Policy,
    Session,
    TokenBudget,
    VocabularyError,
    checkpoint,
    cleanup_expired_items,
    compress_memory,
    consolidate_memory,
    create_memory_snapshot,
    managed_agent,
    trigger_cleanup,
    update_cache,
)
from memtrace.actions.caps import cap
from memtrace.actions.shorten import extract, gist
from memtrace.memory import now

Message = dict[str, Any]

TASK: Message = {"role": "user", "content": "Find out why the build fails, and fix it."}
SYSTEM: Message = {"role": "system", "content": "You are careful. Never touch production."}
LAST: Message = {"role": "user", "content": "Go on with the next file, please."}


def asks(identity: str, name: str = "read", **arguments: Any) -> Message:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": identity, "type": "function", "function": function}],
    }


def answers(identity: str, text: str) -> Message:
    return {"role": "tool", "tool_call_id": identity, "content": text}


def output(number: int, lines: int = 40) -> str:
    """A tool output with names that no other has, among words that all have."""
    said = "The quick brown fox jumps over the lazy dog and then sleeps for a while. "
    return "".join(f"src/module_{number}/line_{line}.py: {said}\n" for line in range(lines))


def calls(count: int, lines: int = 40) -> list[Message]:
    """So many answered calls, each of another file."""
    pairs = (
        (asks(f"c{n}", path=f"file_{n}.py"), answers(f"c{n}", output(n, lines)))
        for n in range(count)
    )
    return [message for pair in pairs for message in pair]


def full(messages: list[Message], share: float = 1.0, **policy: Any) -> Session:
    """A session that these messages fill to a share of its budget."""
    measure = Session()
    measure.history.extend(messages)
    session = Session(token_budget=int(measure.history.tokens / share), policy=Policy(**policy))
    session.history.extend(messages)
    return session


def working(session: Session) -> float:
    return session.profile().working_memory_utilization


def prose(number: int, sentences: int = 30) -> str:
    """A document of which some sentences say more than others."""
    plain = "It was a long and quiet day and nothing much was said about it. "
    telling = f"On 3 May 20{number:02} Ann Lee moved build_{number} to host-{number}.example.org. "
    return "\n".join(plain if n % 6 else telling for n in range(sentences))


def assert_exact(session: Session) -> None:
    assert session.profile() == session.recount()


def outlived(item: Item | None) -> Item:
    """The item, once its time is over."""
    assert item is not None
    while item.expires_at is not None and now() < item.expires_at:
        pass
    return item


# --- trigger_cleanup ------------------------------------------------------------------------------


def test_a_cleanup_gets_down_to_its_target() -> None:
    """
    After a cleanup the whole is at its target, by the report and by a recount.
    """
    session = full([SYSTEM, TASK, *calls(30), LAST])

    report = trigger_cleanup(session, 0.5)

    assert report.outcome == "effective"
    assert report.tokens_after == session.recount().total_tokens <= 0.5 * session.token_budget
    assert report.tokens_before - report.tokens_after == report.tokens_freed > 0
    assert report.items > 0
    assert_exact(session)


@pytest.mark.parametrize("act", [trigger_cleanup, compress_memory])
def test_nothing_is_removed_while_under_target(act: Callable[..., ActionReport]) -> None:
    """
    At its target exactly, memory keeps every message, context and cached value.
    """
    session = full([TASK, *calls(10), LAST], 0.70)
    before = session.history.messages(), session.profile()

    report = act(session, 0.71)

    assert (report.outcome, report.items, report.tokens_freed) == ("no_op", 0, 0)
    assert (session.history.messages(), session.profile()) == before
    assert session.reports == ()


@pytest.mark.parametrize("act", [trigger_cleanup, compress_memory])
@pytest.mark.parametrize("target", [0, -0.5, 1.01, float("nan"), "0.7", None, True])
def test_a_target_is_a_share(act: Callable[..., ActionReport], target: Any) -> None:
    """
    A target that is no share of the budget is refused in one sentence.
    """
    with pytest.raises(ConfigurationError) as caught:
        act(Session(), target)

    assert str(caught.value) == f"target must be a share above 0 and up to 1, got {target!r}"


def test_a_cleanup_takes_expired_contexts_first() -> None:
    """
    Where what has expired suffices, nothing else is touched.
    """
    session = Session(token_budget=1000)
    outlived(session.active_contexts.add(output(1, 20), key="old", ttl_s=0.001))
    session.history.extend([TASK, *calls(1, 5)])
    shown = session.history.messages()

    trigger_cleanup(session, session.history.tokens / 1000 + 0.01)

    assert session.active_contexts.items == ()
    assert session.history.messages() == shown


def test_a_cleanup_takes_the_cold_cache_before_the_conversation() -> None:
    """
    Cached values, which can be made again, go before anything is compressed.
    """
    session = full([TASK, *calls(3), LAST], 0.9)
    session.cache.put("cold", output(7, 5))
    session.cache.put("warm", output(8, 5))
    session.cache.get("cold")
    target = (session.profile().total_tokens - 10) / session.token_budget

    trigger_cleanup(session, target)

    assert list(session.cache) == ["cold"]
    assert session.history.messages()[:7] == [TASK, *calls(3)]


def test_a_cleanup_may_store_and_drop_in_one_pass() -> None:
    """
    A context that goes to long-term memory, and out of it, in the same pass is gone: the report
    says what is left.
    """
    session = Session(token_budget=2_000)
    items = [session.active_contexts.add(prose(n, 12), key=f"doc{n}") for n in range(8)]

    report = trigger_cleanup(session, 0.05)

    assert report.outcome == "effective"
    assert session.recount().total_tokens == report.tokens_after <= 100
    assert all(session.original(item.id) is item.content for item in items)


def test_a_cleanup_takes_long_term_memory_when_all_else_is_not_enough() -> None:
    """
    What was consolidated is dropped last, oldest first, and stays reachable.
    """
    session = Session(token_budget=2000)
    for number in range(8):
        session.archived_contexts.add(prose(number), key=f"doc{number}")
    items = session.archived_contexts.items

    trigger_cleanup(session, 0.5)

    left = session.archived_contexts.items
    assert 0 < len(left) < 8
    assert left == items[-len(left) :]
    assert session.original(items[0].id) is items[0].content


# --- cleanup_expired_items ------------------------------------------------------------------------


def test_what_has_expired_is_dropped_and_nothing_else() -> None:
    """
    Contexts and cached values past their time go; others stay whatever memory holds.
    """
    session = Session(token_budget=100)
    session.active_contexts.add("gone " * 30, key="gone", ttl_s=0.001)
    session.active_contexts.add("kept " * 300, key="kept", ttl_s=1000)
    outlived(session.cache.put("gone", "gone", ttl_s=0.001))
    session.cache.put("kept", "kept")

    report = cleanup_expired_items(session)

    assert [item.key for item in session.active_contexts.items] == ["kept"]
    assert list(session.cache) == ["kept"]
    assert (report.action, report.outcome) == ("cleanup_expired", "effective")
    assert_exact(session)


def test_an_expired_cached_value_alone_is_reported() -> None:
    """
    Where only the cache held something past its time, the report counts it, and its tokens.
    """
    session = Session()
    item = outlived(session.cache.put("gone", "gone " * 9, ttl_s=0.05))

    report = cleanup_expired_items(session)

    assert (report.outcome, report.items, report.tokens_freed) == ("effective", 1, item.tokens)


def test_with_nothing_expired_nothing_is_done() -> None:
    """
    Where nothing is past its time the report is a no-op, and is not kept.
    """
    session = Session()
    session.active_contexts.add("kept", ttl_s=1000)

    assert cleanup_expired_items(session).outcome == "no_op"
    assert session.reports == ()


def test_a_pinned_context_does_not_expire() -> None:
    """
    A pin holds: neither its time to live nor a cleanup takes a pinned context.
    """
    session = Session(token_budget=100)
    pinned = outlived(session.active_contexts.add("rules " * 30, pinned=True, ttl_s=0.001))

    cleanup_expired_items(session)
    trigger_cleanup(session, 0.1)

    assert session.active_contexts.items == (pinned,)


# --- compress_memory ------------------------------------------------------------------------------


def test_a_compression_gets_both_to_its_target() -> None:
    """
    The whole and working memory, each where it is over, are at the target afterwards.
    """
    session = full([TASK, *calls(20), LAST])
    for number in range(20):
        session.active_contexts.add(prose(number), key=f"doc{number}")
    assert working(session) > 0.7

    report = compress_memory(session, 0.7)

    assert report.outcome == "effective"
    assert session.profile().utilization_rate <= 0.7
    assert working(session) <= 0.7
    assert_exact(session)


def test_working_memory_over_leaves_the_conversation_alone() -> None:
    """
    Where the whole is under its target, only contexts are moved: no message is touched.
    """
    messages = [TASK, *calls(2), asks("again", path="file_0.py"), answers("again", output(0)), LAST]
    session = Session(token_budget=40_000, policy=Policy(keep_recent=0))
    session.history.extend(messages)
    while working(session) <= 0.8:
        session.active_contexts.add(prose(len(session.active_contexts), 200))
    assert session.profile().utilization_rate < 0.7

    compress_memory(session, 0.7)

    assert working(session) <= 0.7
    assert all(a is b for a, b in zip(session.history.messages(), messages, strict=True))


def test_contexts_go_to_long_term_memory_in_short_form() -> None:
    """
    A compressed context is found under its key in long-term memory, with the facts in it.
    """
    session = Session(token_budget=2_000)
    for number in range(4):
        session.active_contexts.add(prose(number), key=f"doc{number}")

    compress_memory(session, 0.4)

    item = session.archived_contexts.get("doc0")
    assert item is not None
    assert session.active_contexts.get("doc0") is None
    assert "host-0.example.org" in item.content
    assert len(item.content) <= len(prose(0)) * 0.3


def test_contexts_go_by_priority_and_then_the_longest_unused() -> None:
    """
    Of contexts no run uses, the unimportant go first, then the one that was used longest ago.
    """
    session = Session(token_budget=4_000)
    for key, priority in (("low", 0), ("high", 1), ("used", 0)):
        session.active_contexts.add(prose(1, 40), key=key, priority=priority)
    session.active_contexts.touch("low")
    order = []
    for target in (0.8, 0.55, 0.3):
        compress_memory(session, target)
        held = {item.key for item in session.active_contexts.items}
        order.append({"low", "high", "used"} - held)

    assert order[0] <= order[1] <= order[2]
    assert "used" in (order[0] or order[1])
    assert "high" not in order[1]


def test_pins_stay_the_same_objects() -> None:
    """
    Pinned contexts, system prompt, first task and latest user turn are the caller's own objects
    after the hardest of passes.
    """
    session = full([SYSTEM, TASK, *calls(30), LAST], 1.0)
    pinned = session.active_contexts.add(prose(1), pinned=True)
    tools = session.active_contexts.add({"name": "read"}, kind="tools")

    compress_memory(session, 0.05)
    trigger_cleanup(session, 0.01)

    assert session.active_contexts.items == (pinned, tools)
    assert session.active_contexts.items[0].content is pinned.content
    shown = session.history.messages()
    assert all(any(kept is one for one in shown) for kept in (SYSTEM, TASK, LAST))


# --- the five outcomes ----------------------------------------------------------------------------


def test_effective_is_fewer_tokens_and_the_target_reached() -> None:
    """
    An action that freed what it should says so, with what it freed.
    """
    report = trigger_cleanup(full([TASK, *calls(20), LAST]), 0.7, reason="to test it")

    assert (report.action, report.outcome, report.reason) == ("cleanup", "effective", "to test it")
    assert report.duration_s >= 0


def test_ineffective_names_what_stands_in_the_way() -> None:
    """
    A target out of reach is reported with the figures of what must stay.
    """
    session = Session(token_budget=200)
    pinned = session.active_contexts.add("rules " * 300, pinned=True)

    report = trigger_cleanup(session, 0.5)

    assert report.outcome == "ineffective"
    assert report.tokens_after == pinned.tokens
    assert report.reason.startswith("unreachable: ")
    assert f"pinned {pinned.tokens}," in report.reason
    assert "target of 100" in report.reason


@pytest.mark.parametrize(
    "act",
    [trigger_cleanup, cleanup_expired_items, compress_memory, consolidate_memory, update_cache],
)
def test_no_op_is_nothing_to_do(act: Callable[[Session], ActionReport]) -> None:
    """
    On an empty session every action reports that it did nothing.
    """
    session = Session()

    report = act(session)

    assert (report.outcome, report.items) == ("no_op", 0)
    assert (report.tokens_before, report.tokens_after) == (0, 0)


def test_failed_changes_nothing_and_is_not_raised() -> None:
    """
    An action that fails reports why, and memory is as it was.
    """

    class Broken:
        name, exact = "broken", True

        def count_text(self, text: str) -> int:
            if "left out" in text or "set aside" in text:
                raise VocabularyError("the vocabulary is gone")
            return len(text)

    session = Session(token_budget=20_000, counter=Broken())
    messages = [TASK, *calls(20), LAST]
    session.history.extend(messages)

    report = trigger_cleanup(session, 0.5)

    assert (report.outcome, report.reason) == ("failed", "VocabularyError: the vocabulary is gone")
    assert session.history.messages() == messages
    assert report.tokens_before == report.tokens_after


def test_by_hand_nothing_is_declined() -> None:
    """
    A call by hand is done even where the loop would let it be: under a policy that only
    observes, and after the loop has stopped.
    """
    session = full([TASK, *calls(20), LAST], acts=False)

    assert trigger_cleanup(session).outcome == "effective"


# --- consolidate_memory ---------------------------------------------------------------------------


def test_consolidation_moves_what_no_recent_run_used() -> None:
    """
    Contexts of an open run or of the last three stay; the others go to long-term memory.
    """
    session = Session()

    @managed_agent
    def work(session: Session, key: str) -> None:
        session.active_contexts.add(prose(1), key=key)

    for number in range(5):
        work(session, f"run{number}")

    report = consolidate_memory(session)

    assert [item.key for item in session.active_contexts.items] == ["run2", "run3", "run4"]
    assert [item.key for item in session.archived_contexts.items] == ["run0", "run1"]
    assert (report.outcome, report.items) == ("effective", 2)
    assert_exact(session)


def test_consolidation_leaves_pins_and_keeps_the_much_used_whole() -> None:
    """
    A pinned context stays where it is; one touched three times is moved whole.
    """
    session = Session()
    pinned = session.active_contexts.add(prose(1), key="pinned", pinned=True)
    session.active_contexts.add(used := prose(2), key="used")
    session.active_contexts.add(prose(3), key="unused")
    for _ in range(3):
        session.active_contexts.touch("used")

    consolidate_memory(session)

    assert session.active_contexts.items == (pinned,)
    stored = {item.key: item.content for item in session.archived_contexts.items}
    assert stored["used"] is used
    assert len(stored["unused"]) < len(prose(3)) / 2


def test_consolidation_keeps_values_that_are_no_text() -> None:
    """
    A JSON-like context is consolidated in short form too, and its original comes back.
    """
    session = Session()
    rows = {"rows": [{"host": f"web-{n}.example.org", "load": n} for n in range(100)]}
    item = session.active_contexts.add(rows, key="rows")

    consolidate_memory(session)

    (stored,) = session.archived_contexts.items
    assert stored.tokens < item.tokens
    assert session.original(stored.id) is session.original(item.id) is rows


# --- update_cache ---------------------------------------------------------------------------------


def test_the_cache_is_swept_stretched_and_loaded() -> None:
    """
    Expired values go, the often used live longer, and loaders whose keys are missing run.
    """
    session = Session()
    expired = session.cache.put("expired", "x " * 9, ttl_s=0.001)
    often = session.cache.put("often", "y", ttl_s=100)
    for _ in range(3):
        session.cache.get("often")
    session.cache.loader("made")(lambda: "z")
    gone = outlived(expired).tokens

    report = update_cache(session)

    assert report.reason == "1 expired, 1 given longer to live, 1 loaded"
    assert (report.outcome, report.items) == ("effective", 3)
    assert report.tokens_freed == gone - session.cache._held["made"].tokens
    assert set(session.cache) == {"often", "made"}
    stretched = next(item for item in session.cache.items if item.key == "often")
    assert often is not None
    assert stretched.expires_at > often.expires_at + 50  # type: ignore[operator]


def test_a_value_whose_time_is_over_at_once_is_not_counted() -> None:
    """
    A value put with less time to live than putting it takes leaves nothing behind.
    """
    session = Session()

    session.cache.put("gone", "gone " * 9, ttl_s=1e-12)

    assert (len(session.cache), session.cache.tokens) == (0, 0)
    assert session.cache.items == ()
    assert_exact(session)


def test_a_value_is_stretched_once_for_its_uses() -> None:
    """
    Updating again without new uses gives no more time to live.
    """
    session = Session()
    session.cache.put("often", "y", ttl_s=100)
    for _ in range(3):
        session.cache.get("often")

    update_cache(session)

    assert update_cache(session).outcome == "no_op"


def test_a_value_that_stays_in_use_never_lives_longer_than_twice_its_life() -> None:
    """
    Stretched again and again, a value has at most twice the life it was put with before it.
    """
    session = Session()
    session.cache.put("often", "y", ttl_s=100)

    for _ in range(5):
        for _ in range(3):
            session.cache.get("often")
        update_cache(session)

        (item,) = session.cache.items
        assert item.expires_at is not None
        assert item.expires_at <= now() + 200


def test_a_loader_that_fails_is_reported_and_the_others_run() -> None:
    """
    One loader's error fails the report, and keeps no other loader from running.
    """
    session = Session()
    session.cache.loader("broken")(lambda: 1 / 0)
    session.cache.loader("made")(lambda: "z")

    report = update_cache(session)

    assert report.outcome == "failed"
    assert "ZeroDivisionError" in report.reason
    assert session.cache.get("made") == "z"


# --- snapshots ------------------------------------------------------------------------------------


def test_a_restored_session_is_what_it_was() -> None:
    """
    All five layers come back as they were at the snapshot: items, order, totals, pins.
    """
    session = Session(token_budget=10_000)
    session.history.extend([TASK, *calls(2)])
    session.active_contexts.add("rules", key="rules", pinned=True)
    session.archived_contexts.add("old", key="old")
    session.cache.put("k", "v")
    session.agent("a").state = {"step": 1}
    before = session.profile(), [layer.items for layer in session.layers[:3]]
    shown = session.history.messages()
    report = create_memory_snapshot(session, "here")

    session.history.clear()
    session.active_contexts.clear()
    session.archived_contexts.remove("old")
    session.cache.put("k", "other")
    session.agent("a").state["step"] = 2
    session.agent("b").state = "new"
    session.restore(session.snapshots()[-1])

    assert (report.action, report.outcome) == ("snapshot", "effective")
    after = session.profile(), [layer.items for layer in session.layers[:3]]
    assert after[0].layer_tokens == before[0].layer_tokens
    assert after[0].pinned_tokens == before[0].pinned_tokens > 0
    assert after[1] == before[1]
    assert all(a is b for a, b in zip(session.history, shown, strict=True))
    assert [(a.name, a.state) for a in session.agents] == [("a", {"step": 1})]
    assert_exact(session)


def test_a_snapshot_is_not_reached_by_later_changes() -> None:
    """
    Restoring twice gives the same, whatever was done to the states in between.
    """
    session = Session()
    agent = session.agent("a")
    agent.state = {"list": [1]}
    create_memory_snapshot(session)
    (snapshot,) = session.snapshots()

    for _ in range(2):
        agent.state["list"].append(2)
        session.restore(snapshot)

        assert agent.state == {"list": [1]}


def test_snapshots_are_named_and_the_oldest_go() -> None:
    """
    The last ten snapshots are kept, oldest first, under the names given or ids of their own.
    """
    session = Session(policy=Policy(keep_snapshots=3))
    create_memory_snapshot(session)
    for name in ("a", "b", "c"):
        create_memory_snapshot(session, name)

    assert [snapshot.name for snapshot in session.snapshots()] == ["a", "b", "c"]
    assert session.latest_snapshot is session.snapshots()[-1]
    create_memory_snapshot(session)
    assert session.snapshots()[-1].name == session.snapshots()[-1].id


def test_only_a_snapshot_can_be_restored() -> None:
    """
    Anything else is refused in a sentence, and memory stays.
    """
    session = Session()
    session.history.append(TASK)

    with pytest.raises(ConfigurationError, match=r"restore takes one of session\.snapshots\(\)"):
        session.restore("here")  # type: ignore[arg-type]
    assert list(session.history) == [TASK]


def test_what_was_compressed_is_whole_again_after_a_restore() -> None:
    """
    A snapshot from before a compression gives back the caller's own messages.
    """
    messages = [TASK, *calls(20), LAST]
    session = full(messages)
    create_memory_snapshot(session)
    compress_memory(session, 0.3)
    assert session.history.messages() != messages

    session.restore(session.snapshots()[-1])

    assert all(a is b for a, b in zip(session.history.messages(), messages, strict=True))
    assert_exact(session)


# --- originals ------------------------------------------------------------------------------------


def test_every_original_is_the_callers_own_object() -> None:
    """
    Whatever was replaced or dropped comes back by its id as the very object that came in.
    """
    messages = [TASK, *calls(40), LAST]
    session = full(messages)
    ids = [item.id for item in session.history.items]

    for target in (0.6, 0.3, 0.1):
        compress_memory(session, target)

    assert len(session.history) < len(messages)
    assert all(session.original(i) is m for i, m in zip(ids, messages, strict=True))


def test_what_stands_in_a_place_leads_to_its_originals() -> None:
    """
    A stub's id gives the output it stands for; a digest's the messages it stands for, in order.
    """
    messages = [TASK, *calls(40), LAST]
    session = full(messages)
    for target in (0.6, 0.2):
        compress_memory(session, target)

    gone = [item for item in session.history.items if item.derived_from]
    stood_for: list[Any] = []
    for item in gone:
        original = session.original(item.id)
        stood_for += original if isinstance(original, list) else [original]
    shown = session.history.messages()
    missing = [m for m in messages if not any(m is one for one in shown)]
    assert gone
    assert all(a is b for a, b in zip(stood_for, missing, strict=True))


def test_a_stub_names_the_id_that_gives_its_original() -> None:
    """
    The id that a stub shows to the model is one that ``session.original`` takes.
    """
    session = full([TASK, *calls(20), LAST])
    compress_memory(session, 0.6)

    stubs = [m for m in session.history if "set aside" in str(m["content"])]
    assert stubs
    for message in stubs:
        identity = message["content"].partition(" id ")[2].partition("]")[0]
        assert session.original(identity)["tool_call_id"] == message["tool_call_id"]


def test_an_original_that_is_unknown_is_a_key_error() -> None:
    """
    An id that names nothing here is refused by name.
    """
    with pytest.raises(KeyError, match="no item 'm99' in session 's'"):
        Session("s").original("m99")


# --- reducers, one by one -------------------------------------------------------------------------


def replies(session: Session) -> list[str]:
    """What the tool messages say, in order."""
    return [str(m["content"]) for m in session.history if m["role"] == "tool"]


def test_only_the_last_of_equal_outputs_is_shown_whole() -> None:
    """
    Of three equal outputs, the first two are notes of one line and the last is whole.
    """
    same = output(1)
    pairs = [(asks(f"c{n}", path=f"{n}.py"), answers(f"c{n}", same)) for n in range(3)]
    session = full([TASK, *(m for pair in pairs for m in pair), *calls(6, 3), LAST], keep_recent=0)

    compress_memory(session, 0.6)

    first, second, third, *rest = replies(session)
    assert first.startswith("[same output as a later one, set aside: ")
    assert second.startswith("[same output as a later one, set aside: ")
    assert third == same
    assert rest == [output(n, 3) for n in range(6)]


def test_an_earlier_read_gives_way_to_a_later_one() -> None:
    """
    Where the same call is made again, the earlier result is superseded, though it differs.
    """
    early = [asks("a", path="x.py", lines=9), answers("a", output(1, 30))]
    late = [asks("b", lines=9, path="x.py"), answers("b", output(2, 30))]
    session = full([TASK, *early, *calls(6, 2), *late, LAST], keep_recent=0)

    compress_memory(session, 0.8)

    assert replies(session)[0].startswith("[same call as a later one, set aside: ")
    assert replies(session)[1:] == [*(output(n, 2) for n in range(6)), output(2, 30)]


def test_a_reused_id_never_supersedes_another_call() -> None:
    """
    A result is taken for its own call's: an unanswered call of the same id lends it no name.
    """
    orphan = asks("c", path="x.py")
    mine = [asks("c", path="y.py"), answers("c", output(1, 20))]
    other = [asks("d", path="x.py"), answers("d", output(2, 20))]
    session = full([TASK, orphan, LAST, *mine, *other, LAST], keep_recent=0, keep_tool_outputs=9)

    compress_memory(session, 0.95)

    assert not any(reply.startswith("[same call") for reply in replies(session))


def results_message(**texts: str) -> Message:
    blocks = [
        {"type": "tool_result", "tool_use_id": i, "content": text} for i, text in texts.items()
    ]
    return {"role": "user", "content": blocks}


def uses_message(**paths: str) -> Message:
    blocks = [
        {"type": "tool_use", "id": i, "name": "read", "input": {"path": path}}
        for i, path in paths.items()
    ]
    return {"role": "assistant", "content": blocks}


def test_parallel_results_in_one_message_are_no_duplicates_of_each_other() -> None:
    """
    A message with two results is not taken for a repetition of itself.
    """
    parallel = [uses_message(a="a.py", b="b.py"), results_message(a=output(1), b=output(2))]
    old = calls(8, 30)
    session = full([TASK, *old, *parallel, LAST], keep_recent=0, keep_tool_outputs=2)

    compress_memory(session, 0.9)

    assert session.history.messages()[-2] is parallel[1]


def test_a_message_with_several_results_is_superseded_only_as_a_whole() -> None:
    """
    A later read of one of two files leaves the message with both results as it is.
    """
    parallel = [uses_message(a="a.py", b="b.py"), results_message(a=output(1), b=output(2))]
    again = [uses_message(c="a.py"), results_message(c=output(1) + "changed")]
    session = full([TASK, *parallel, *again, LAST], keep_recent=0, keep_tool_outputs=9)

    compress_memory(session, 0.95)

    shown = session.history.messages()
    assert not any("same call" in str(message) for message in shown)


def test_no_block_is_left_empty() -> None:
    """
    A result of several blocks that is superseded keeps no empty text, which providers refuse.
    """
    blocks = [{"type": "text", "text": output(1, 20)}, {"type": "text", "text": output(2, 20)}]
    first = {"type": "tool_result", "tool_use_id": "a", "content": blocks}
    second = {**first, "tool_use_id": "b"}
    pairs = [
        uses_message(a="a.py"),
        {"role": "user", "content": [first]},
        uses_message(b="a.py"),
        {"role": "user", "content": [second]},
    ]
    session = full([TASK, *pairs, LAST], keep_recent=0)

    compress_memory(session, 0.7)

    shown = session.history.messages()
    assert "same output" in str(shown[2])
    assert all(block["text"] for block in shown[2]["content"][0]["content"])


def test_a_stub_keeps_names_that_stand_nowhere_else() -> None:
    """
    An old output gives way to a line with its size, its id and names that only it had.
    """
    session = full([TASK, *calls(12), LAST], keep_recent=0)

    compress_memory(session, 0.75)

    oldest = replies(session)[0]
    assert oldest.startswith("[output set aside: ")
    assert "src/module_0/line_0.py" in oldest
    assert len(oldest) <= len(output(0)) * 0.3
    assert replies(session)[-5:] == [output(n) for n in range(7, 12)]


def test_the_oldest_outputs_are_set_aside_first_and_no_more_than_needed() -> None:
    """
    Outputs become stubs from the oldest on, and it stops once the target is reached.
    """
    session = full([TASK, *calls(20), LAST], keep_recent=0)

    compress_memory(session, 0.8)

    aside = [reply.startswith("[output set aside") for reply in replies(session)]
    assert aside == sorted(aside, reverse=True)
    assert 0 < sum(aside) < 15
    assert session.profile().utilization_rate > 0.8 - 1 / 20


def test_a_huge_fresh_output_is_capped() -> None:
    """
    One output larger than the budget shows its beginning, its end, and the id of the whole.
    """
    huge = "".join(f"line {n} of many\n" for n in range(30_000))
    session = Session(token_budget=8_000)
    session.history.extend([TASK, asks("c", path="log"), answers("c", huge)])
    identity = session.history.items[-1].id

    report = compress_memory(session)

    shown = session.history.messages()[-1]["content"]
    assert report.outcome == "effective"
    assert shown.startswith("line 0 of many\n")
    assert shown.endswith("line 29999 of many\n")
    assert f"id {identity}" in shown
    assert session.original(identity)["content"] is huge


HUGE_ROWS = [f"row {n}" for n in range(20_000)]
HUGE_FORMS: dict[str, list[Any]] = {
    "many blocks": [
        uses_message(c="log"),
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c",
                    "content": [{"type": "text", "text": row} for row in HUGE_ROWS],
                }
            ],
        },
    ],
    "a JSON value of many strings": [
        {"role": "model", "parts": [{"functionCall": {"name": "read", "args": {}}}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "read", "response": {"rows": HUGE_ROWS}}}],
        },
    ],
    "a JSON value of numbers": [
        {"role": "model", "parts": [{"functionCall": {"name": "read", "args": {}}}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "read", "response": {"n": [*range(20_000)]}}}],
        },
    ],
    "a Responses output": [
        {"type": "function_call", "call_id": "c", "name": "read", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "\n".join(HUGE_ROWS)},
    ],
    "many parallel results": [
        uses_message(**{f"c{n}": f"{n}.py" for n in range(300)}),
        results_message(**{f"c{n}": output(n, 3) for n in range(300)}),
    ],
}


@pytest.mark.parametrize("form", HUGE_FORMS)
def test_a_huge_output_of_any_form_can_be_reduced(form: str) -> None:
    """
    Whatever form a huge result has, the session gets under its target.
    """
    session = Session(token_budget=8_000)
    session.history.extend([TASK, *HUGE_FORMS[form]])

    report = compress_memory(session)

    assert report.outcome == "effective", report.reason
    assert session.history.messages()[0] is TASK


def test_old_turns_become_one_digest_that_says_what_they_were_about() -> None:
    """
    Whole old groups are folded into one message that names their calls.
    """
    session = full([TASK, *calls(40, 3), LAST])

    compress_memory(session, 0.4)

    digest = next(item for item in session.history.items if item.kind == "digest")
    text, count = digest.content["content"], len(digest.derived_from)
    assert count > 10
    assert text.startswith(f"[{count} earlier messages")
    assert digest.content["role"] == "user"
    assert f'read {{"path": "file_{count // 2 - 1}.py"}}' in text


def test_a_digest_has_the_conversations_form() -> None:
    """
    Among Google's contents and Bedrock's messages, a digest is one of them.
    """
    google = [
        {"role": r, "parts": [{"text": prose(n)}]} for n in range(9) for r in ("user", "model")
    ]
    bedrock = [
        {"role": r, "content": [{"text": prose(n)}]}
        for n in range(9)
        for r in ("user", "assistant")
    ]
    for messages, key in ((google, "parts"), (bedrock, "content")):
        session = full(messages, keep_recent=2)
        compress_memory(session, 0.1)

        digest = next(item.content for item in session.history.items if item.kind == "digest")
        assert digest["role"] == "user"
        assert list(digest[key][0]) == ["text"]


def test_recent_messages_stay_while_older_ones_suffice() -> None:
    """
    The last ten messages are the caller's own as long as the target is reached without them.
    """
    messages = [TASK, *calls(40, 10), LAST]
    session = full(messages)

    compress_memory(session, 0.4)

    shown = session.history.messages()
    assert all(a is b for a, b in zip(shown[-10:], messages[-10:], strict=True))


def thinking_call(number: int) -> list[Message]:
    thinking = {"type": "thinking", "thinking": prose(number), "signature": f"sig{number}"}
    use = {"type": "tool_use", "id": f"t{number}", "name": "read", "input": {"n": number}}
    said = {"type": "text", "text": prose(number)}
    return [
        {"role": "assistant", "content": [thinking, said, use]},
        results_message(**{f"t{number}": output(number)}),
    ]


def test_signed_thinking_is_kept_whole_or_dropped_whole() -> None:
    """
    A message with a signed thought is the caller's own object wherever it is still shown.
    """
    signed = [m for n in range(20) for m in thinking_call(n)]
    for target in (0.8, 0.5, 0.2):
        session = full([TASK, *signed, LAST])
        compress_memory(session, target)

        shown = [m for m in session.history if "signature" in str(m)]
        assert all(any(m is one for one in signed) for m in shown)
        assert len(shown) < 20 or target > 0.5


# --- twice, and again -----------------------------------------------------------------------------


def test_a_second_compression_at_the_same_target_does_nothing() -> None:
    """
    What reached its target is left alone when the same is asked again.
    """
    session = full([TASK, *calls(40), LAST])
    compress_memory(session, 0.5)
    shown = session.history.messages()

    assert compress_memory(session, 0.5).outcome == "no_op"
    assert all(a is b for a, b in zip(session.history, shown, strict=True))


def test_no_step_works_on_its_own_outcome() -> None:
    """
    What stands for an output is not stubbed or capped again by later, harder passes.
    """
    huge = answers("huge", "".join(f"line {n}\n" for n in range(9_000)))
    session = full([TASK, asks("huge", path="log"), huge, *calls(30), LAST])
    seen: dict[str, int] = {}
    for target in (0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1):
        compress_memory(session, target)
        for item in session.history.items:
            if item.derived_from and item.kind == "tool":
                (source,) = item.derived_from
                assert seen.setdefault(source, id(item.content)) == id(item.content)


_PROGRAM = """
import json
from memtrace import Session, compress_memory
session = Session("s", token_budget=6_000)
words = ["alpha_1 is set", "see src/b.py now", "C3PO went 4 km", "nothing much was said"]
session.history.append({"role": "user", "content": "Do it."})
for n in range(40):
    call = {"id": f"c{n % 7}", "function": {"name": "read", "arguments": '{"p": "%d"}' % (n % 9)}}
    text = " ".join(f"{words[(n + i) % 4]} name_{n}_{i}." for i in range(60))
    session.history.append({"role": "assistant", "content": None, "tool_calls": [call]})
    session.history.append({"role": "tool", "tool_call_id": f"c{n % 7}", "content": text})
    session.active_contexts.add(text, key=f"k{n}")
for target in (.8, .5, .2):
    compress_memory(session, target)
    print(json.dumps([session.history.messages(), [i.content for i in session.archived_contexts]]))
"""


def test_the_outcome_does_not_depend_on_the_hash_seed() -> None:
    """
    The same session is compressed to the same bytes in processes of different hash seeds.
    """
    outcomes = set()
    for seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, check=True
        )
        outcomes.add(done.stdout)

    assert len(outcomes) == 1
    assert len(outcomes.pop()) > 10_000


def test_a_changed_message_stays_as_it_was_given() -> None:
    """
    The caller's message is never changed: what is shown instead is another object.
    """
    messages = [TASK, *calls(20), LAST]
    before = json.dumps(messages)
    session = full(messages)

    compress_memory(session, 0.2)

    assert json.dumps(messages) == before


# --- short forms ----------------------------------------------------------------------------------


def test_an_extract_is_spans_of_its_text() -> None:
    """
    Every line of an extract stands in the text, and all of it fits its share.
    """
    text = prose(7, 60)

    short = extract(text, 0.2)

    assert all(line in text for line in short.splitlines())
    assert "host-7.example.org" in short
    assert len(short) <= len(text) * 0.2


def test_an_extract_of_what_has_no_sentences_is_its_beginning() -> None:
    """
    A text without a place to cut gives its first characters.
    """
    assert extract("x" * 100, 0.25) == "x" * 25
    assert extract("", 0.25) == ""


def test_a_cap_keeps_the_beginning_and_the_end() -> None:
    """
    A capped text is as long as allowed, and says how much was left out.
    """
    text = "a" * 500 + "b" * 500

    short = cap(text, 300, "m7")

    assert len(short) <= 300
    assert short.startswith("aaa")
    assert short.endswith("bbb")
    assert "700 characters left out, id m7" in short
    assert cap("short", 300, "m7") == "short"


def test_a_gist_is_one_line() -> None:
    """
    A gist has no line breaks, and ends where it is cut with an ellipsis.
    """
    assert gist("one\n two\tthree", 20) == "one two three"
    assert gist("one two three", 8) == "one two…"


# --- many budgets ---------------------------------------------------------------------------------


def test_a_budget_with_other_allocations_is_compressed_by_them() -> None:
    """
    Working memory's target is a share of its own allocation, whatever that is.
    """
    session = Session(token_budget=TokenBudget(10_000, working_memory=0.1))
    for number in range(6):
        session.active_contexts.add(prose(number))
    assert working(session) > 0.8

    compress_memory(session)

    assert working(session) <= 0.7


def test_a_snapshot_taken_by_hand_in_a_checkpoint_is_not_the_one_rolled_back_to() -> None:
    """
    A checkpoint that fails goes back to what it was on entering, whatever was kept within it.
    """
    session = Session()
    session.history.append(TASK)

    with pytest.raises(KeyError), checkpoint(session, "step", rollback=True):  # noqa: PT012
        session.history.append(LAST)
        create_memory_snapshot(session, "inside")
        raise KeyError

    assert list(session.history) == [TASK]
