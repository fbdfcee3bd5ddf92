"""The loop runs by itself: before runs, before model calls, after runs, at checkpoints."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import memtrace
from memtrace import (
    ActionReport,
    Event,
    Policy,
    Session,
    checkpoint,
    checkpoints,
    compress_memory,
    create_memory_snapshot,
    managed_agent,
    plan,
    profile_memory_usage,
    trigger_cleanup,
    update_cache,
)
from memtrace.testing import Captured, assert_no_failures, assert_within_budget, capture

Message = dict[str, Any]

TASK: Message = {"role": "user", "content": "Find out why the build fails, and fix it."}


def pair(number: int, lines: int = 40) -> list[Message]:
    """A tool call and its result, with names that no other has."""
    said = "The quick brown fox jumps over the lazy dog and then sleeps for a while. "
    text = "".join(f"src/module_{number}/line_{n}.py: {said}\n" for n in range(lines))
    function = {"name": "read", "arguments": f'{{"path": "file_{number}.py"}}'}
    call = {"id": f"c{number}", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": text},
    ]


def filled(share: float, id: str = "s", **policy: Any) -> Session:
    """A session whose conversation holds this share of its budget, of tool calls mostly."""
    messages = [TASK, *(message for n in range(30) for message in pair(n))]
    measure = Session()
    measure.history.extend(messages)
    session = Session(
        id, token_budget=round(measure.history.tokens / share), policy=Policy(**policy)
    )
    session.history.extend(messages)
    return session


def crowd(session: Session, share: float) -> None:
    """Fill working memory to a share of its allocation with contexts of no run."""
    while profile_memory_usage(session).working_memory_utilization < share:
        name = f"doc_{len(session.active_contexts)}"
        session.active_contexts.add(f"{name} was moved to host-7 and stayed. " * 20, key=name)


@managed_agent
def agent(session: Session, *messages: Message) -> str:
    session.history.extend(messages)
    return "done"


def actions(session: Session) -> list[str]:
    return [report.action for report in session.reports]


def utilization(session: Session) -> float:
    return session.profile().utilization_rate


# --- before a run ---------------------------------------------------------------------------------


def test_a_run_above_85_percent_is_cleaned_up_to_70_first() -> None:
    """
    A run that finds more than 85% of the budget in use begins with at most 70%.
    """
    session, found = filled(0.9), []

    @managed_agent
    def look(session: Session) -> None:
        found.append(utilization(session))

    look(session)

    assert actions(session) == ["cleanup"]
    assert 0.6 < found[0] <= 0.70


def test_a_run_above_80_percent_is_compressed_to_70_first() -> None:
    """
    Between 80% and 85% of the budget a compression is enough, and no cleanup runs.
    """
    session = filled(0.82)

    agent(session)

    assert actions(session) == ["compress"]
    assert utilization(session) <= 0.70


def test_working_memory_above_80_percent_is_compressed_first() -> None:
    """
    With working memory full and the whole half empty, working memory alone is compressed.
    """
    session = Session(token_budget=8_000, policy=Policy(consolidate_above=1.0))
    session.history.append(TASK)
    crowd(session, 0.85)

    agent(session)

    assert actions(session) == ["compress"]
    assert session.profile().working_memory_utilization <= 0.70
    assert list(session.history) == [TASK]


@pytest.mark.parametrize("share", [0.3, 0.79])
def test_a_run_that_is_not_under_pressure_does_nothing(share: float) -> None:
    """
    At 80% of the budget and below, the loop measures and leaves everything as it is.
    """
    session = filled(share)
    before = session.history.messages()

    agent(session)
    session.messages()

    assert session.reports == ()
    assert all(a is b for a, b in zip(session.history, before, strict=True))


def test_the_body_runs_once_and_its_result_is_its_own() -> None:
    """
    Whatever the loop does around it, the function runs once and its return value comes back.
    """
    session, result, called = filled(1.2), object(), []

    @managed_agent
    def body(session: Session) -> object:
        called.append(session)
        return result

    assert body(session) is result
    assert called == [session]


async def test_a_coroutine_finds_room_made_off_the_event_loop() -> None:
    """
    Before a coroutine's body the pass runs in another thread than the event loop's.
    """
    session, threads = filled(0.95), []
    session.on("cleanup")(lambda event: threads.append(threading.get_ident()))

    @managed_agent
    async def body(session: Session) -> float:
        return utilization(session)

    assert await body(session) <= 0.70
    assert threads
    assert threading.get_ident() not in threads


# --- within a run ---------------------------------------------------------------------------------


def test_a_run_of_two_hundred_tool_calls_stays_under_its_budget() -> None:
    """
    One run that only appends, and asks for its messages before each model call, never sends
    more than the budget.
    """
    session = Session(token_budget=16_000)
    sent = []

    @managed_agent
    def long_run(session: Session) -> None:
        session.history.append(TASK)
        for number in range(200):
            shown = session.messages()
            sent.append(memtrace.measure_tokens(shown))
            assert shown[0] is TASK
            assert_within_budget(session)
            session.history.extend(pair(number, lines=20))

    long_run(session)

    assert max(sent) <= 16_000
    assert min(sent[30:]) > 4_000
    assert session.profile() == session.recount()


@pytest.mark.parametrize("budget", [6_000, 16_000])
def test_a_long_run_of_what_can_be_reduced_raises_no_alarm(budget: int) -> None:
    """
    Where nothing but tool calls fills memory, every target can be reached, and no alert says
    that it cannot.
    """
    session = Session(token_budget=budget)

    @managed_agent
    def long_run(session: Session) -> None:
        session.history.append(TASK)
        for number in range(200):
            session.messages()
            session.history.extend(pair(number, lines=20))

    long_run(session)

    assert "unreachable_target" not in {alert.threshold for alert in session.alerts}


async def test_amessages_keep_a_long_run_under_its_budget() -> None:
    """
    The asynchronous way does the same.
    """
    session = Session(token_budget=16_000)

    @managed_agent
    async def long_run(session: Session) -> None:
        session.history.append(TASK)
        for number in range(60):
            shown = await session.amessages()
            assert memtrace.measure_tokens(shown) <= 16_000
            session.history.extend(pair(number, lines=20))

    await long_run(session)

    assert_within_budget(session)


def test_messages_outside_any_run_are_kept_under_the_budget_too() -> None:
    """
    ``session.messages()`` acts wherever it is called.
    """
    session = filled(1.5)

    shown = session.messages()

    assert memtrace.measure_tokens(shown) <= 0.7 * session.token_budget
    assert shown[0] is TASK


def test_with_memtrace_disabled_messages_are_as_they_came() -> None:
    """
    Switched off, the session gives back what it was given.
    """
    session = filled(1.5)
    memtrace.configure(enabled=False)

    agent(session)

    assert len(session.messages()) == 61
    assert session.reports == ()


# --- after a run ----------------------------------------------------------------------------------


def test_a_run_that_ends_above_the_budget_is_cleaned_up() -> None:
    """
    What a run leaves above the budget is brought down to 70% of it at once.
    """
    session = Session(token_budget=10_000)

    agent(session, TASK, *(message for n in range(30) for message in pair(n)))

    assert actions(session) == ["cleanup"]
    assert session.reports[0].reason == "the run ended above the budget"
    assert utilization(session) <= 0.70


def test_contexts_that_no_recent_run_used_are_consolidated_after_a_run() -> None:
    """
    With working memory above 70% of its allocation, what is inactive goes to long-term memory.
    """
    session = Session(token_budget=8_000)
    crowd(session, 0.75)
    count = len(session.active_contexts)

    agent(session)

    assert actions(session) == ["consolidate"]
    assert len(session.archived_contexts) == count
    assert len(session.active_contexts) == 0


def test_a_missing_value_is_loaded_after_a_run() -> None:
    """
    A cache loader whose key is not held runs by itself after a run.
    """
    session = Session()
    session.cache.loader("rates")(lambda: {"EUR": 1.08})

    agent(session)

    assert session.cache.get("rates") == {"EUR": 1.08}
    assert actions(session) == ["update_cache"]


def test_a_value_used_often_lives_longer_after_a_run() -> None:
    """
    The time to live of what a run looked up again and again is stretched by itself.
    """
    session = Session()
    item = session.cache.put("often", "value", ttl_s=100)

    @managed_agent
    def body(session: Session) -> None:
        for _ in range(5):
            session.cache.get("often")

    body(session)

    assert item is not None
    assert session.cache.items[0].expires_at > item.expires_at + 50  # type: ignore[operator]


def test_a_body_that_raises_is_profiled_and_nothing_more() -> None:
    """
    After an error memory is left as the body left it: no consolidation, no cleanup.
    """
    session = Session(token_budget=8_000)
    crowd(session, 0.75)

    @managed_agent
    def broken(session: Session) -> None:
        session.history.extend([TASK, *pair(1, 600)])
        raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        broken(session)

    assert session.reports == ()
    assert utilization(session) > 1
    assert [alert.threshold for alert in session.alerts] == ["token_budget_usage"]


def test_a_runs_own_policy_holds_for_its_model_calls() -> None:
    """
    Constants given to ``managed_agent`` are those by which ``messages`` acts in its runs.
    """
    session = filled(0.3)

    @managed_agent(policy=Policy(compress_above=0.4, compress_target=0.3))
    def body(session: Session) -> None:
        session.history.extend(m for n in range(50, 65) for m in pair(n))
        assert utilization(session) > 0.4
        session.messages()

    body(session)

    assert actions(session) == ["compress"]
    assert utilization(session) <= 0.3


def test_a_runs_own_policy_holds_after_it() -> None:
    """
    They are those by which it is tidied up after its runs, too.
    """
    session = Session()
    session.active_contexts.add("word " * 20_000)

    @managed_agent(policy=Policy(consolidate_above=0.1))
    def body(session: Session) -> None: ...

    body(session)

    assert actions(session) == ["consolidate"]


def test_an_abandoned_generators_run_waits_for_the_next_one() -> None:
    """
    A generator that is collected leaves memory alone; the next run makes room.
    """
    session = Session(token_budget=2_000)

    @managed_agent
    def steps(session: Session) -> Any:
        session.history.extend([TASK, *pair(1, 200)])
        yield 1

    started = steps(session)
    next(started)
    del started

    assert session.reports == ()
    agent(session)
    assert actions(session)[0] == "cleanup"
    assert_within_budget(session)


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_takes_a_snapshot_and_makes_room() -> None:
    """
    On entering: a snapshot of memory as it is, then what has expired, then a compression.
    """
    session = filled(0.82)
    held = session.profile().total_tokens

    with checkpoint(session, "step"):
        assert utilization(session) <= 0.70

    assert actions(session) == ["snapshot", "compress"]
    assert session.latest_snapshot is not None
    assert (session.latest_snapshot.name, session.latest_snapshot.tokens) == ("step", held)


def test_a_checkpoint_that_fails_rolls_back_where_asked() -> None:
    """
    With ``rollback=True`` an error passes, and memory is what it was on entering.
    """
    session = filled(0.5)
    before = session.profile(), session.history.messages()
    error = KeyError("the step's own")

    with pytest.raises(KeyError) as caught, checkpoint(session, rollback=True):  # noqa: PT012
        session.history.clear()
        session.active_contexts.add("new")
        raise error

    assert caught.value is error
    assert session.profile().layer_tokens == before[0].layer_tokens
    assert all(a is b for a, b in zip(session.history, before[1], strict=True))
    assert session.profile() == session.recount()


def test_a_checkpoint_that_fails_keeps_memory_where_not_asked() -> None:
    """
    Without ``rollback`` an error passes, and memory stays as the block left it.
    """
    session = Session()

    with pytest.raises(ValueError, match="own"), checkpoint(session):  # noqa: PT012
        session.history.append(TASK)
        raise ValueError("own")

    assert list(session.history) == [TASK]


def test_checkpoints_nest_and_roll_back_each_to_its_own_beginning() -> None:
    """
    The inner block's failure puts back what the inner one began with, and no more.
    """
    session = Session()
    with checkpoint(session, "outer", rollback=True):
        session.history.append({"role": "user", "content": "outer"})
        with pytest.raises(KeyError), checkpoint(session, "inner", rollback=True):  # noqa: PT012
            session.history.append({"role": "user", "content": "inner"})
            raise KeyError
        session.history.append({"role": "user", "content": "after"})

    assert [message["content"] for message in session.history] == ["outer", "after"]


def test_a_snapshot_of_somebody_elses_is_not_rolled_back_to() -> None:
    """
    A checkpoint goes back to its own snapshot, though a hook has taken a later one on entering.
    """
    session = filled(0.82)
    session.on("compress")(lambda event: create_memory_snapshot(session, "the hook's"))
    before = session.history.messages()

    with pytest.raises(KeyError), checkpoint(session, "step", rollback=True):
        raise KeyError

    assert all(a is b for a, b in zip(session.history, before, strict=True))


def test_each_step_of_checkpoints_has_a_snapshot_of_its_own() -> None:
    """
    ``checkpoints`` takes one snapshot a step, numbered from 0.
    """
    session = Session()

    assert list(checkpoints(session, "ab", "read")) == ["a", "b"]
    assert [snapshot.name for snapshot in session.snapshots()] == ["read 0", "read 1"]


async def test_an_async_checkpoint_does_the_same() -> None:
    """
    ``async with checkpoint`` makes room off the loop, and rolls back.
    """
    session = filled(0.82)

    with pytest.raises(ValueError, match="own"):  # noqa: PT012
        async with checkpoint(session, "step", rollback=True):
            assert utilization(session) <= 0.70
            raise ValueError("own")

    assert utilization(session) == pytest.approx(0.82, abs=0.001)


# --- stopping where it does not help --------------------------------------------------------------


def pinned_full() -> Session:
    """A session that pinned contexts alone fill to 95% of its budget."""
    session = Session("s", token_budget=1_000)
    session.active_contexts.add("word " * 950, pinned=True)
    return session


def test_two_passes_without_effect_stop_the_loop_with_the_cause() -> None:
    """
    After two passes that did not reach the target there is no third, and one alert names what
    stands in the way, with its figure.
    """
    session = pinned_full()
    pinned = session.active_contexts.tokens

    for _ in range(5):
        session.messages()

    assert 1 <= len(session.reports) <= 2
    assert {report.outcome for report in session.reports} <= {"ineffective", "declined"}
    (alert,) = session.alerts
    assert alert.threshold == "unreachable_target"
    assert f"pinned {pinned}" in alert.message
    assert (alert.value, alert.observed) == (700, pinned)


def test_a_stopped_loop_resumes_when_something_changes() -> None:
    """
    Tokens that came in or went out let the loop try again, and it acts where it can now.
    """
    session = pinned_full()
    for _ in range(3):
        session.messages()
    stopped = len(session.reports)

    session.history.extend([TASK, *pair(1), *pair(2)])
    session.messages()

    assert len(session.reports) > stopped
    assert len(session.alerts) == 1


def test_a_loop_that_reached_its_target_may_stop_anew_with_a_new_alert() -> None:
    """
    After a pass that helped, two that do not are told of again.
    """
    session = pinned_full()
    for _ in range(3):
        session.messages()
    (item,) = session.active_contexts.items
    session.active_contexts.remove(item.id)
    session.history.extend([TASK, *(m for n in range(3) for m in pair(n, 15))])
    session.messages()
    assert utilization(session) <= 0.70

    session.active_contexts.add("word " * 950, pinned=True)
    for _ in range(3):
        session.messages()

    assert [alert.threshold for alert in session.alerts] == ["unreachable_target"] * 2


def test_an_ineffective_compression_goes_on_as_a_cleanup() -> None:
    """
    Where a compression falls short, the same pass cleans up what it may not touch.
    """
    session = Session(token_budget=1_000)
    for number in range(8):
        session.archived_contexts.add("word " * 102, key=f"old_{number}")
    assert 0.80 < utilization(session) <= 0.85

    session.messages()

    first, second = session.reports
    assert first.action == "compress"
    assert first.outcome in ("ineffective", "declined")
    assert (second.action, second.outcome) == ("cleanup", "effective")
    assert second.reason == "compression fell short"
    assert utilization(session) <= 0.70


# --- observing ------------------------------------------------------------------------------------


def test_observing_changes_nothing_and_tells_the_plan() -> None:
    """
    Under ``Policy.observe()`` memory stays as it is; the span says what would have run, and why.
    """
    session = filled(0.9, acts=False)
    crowd(session, 0.9)
    before = session.history.messages(), session.active_contexts.items, session.profile()
    planned = plan(session.profile(), session.policy)

    with capture() as captured:
        agent(session)
        session.messages()

    assert (session.history.messages(), session.active_contexts.items) == before[:2]
    assert session.profile() == before[2]
    assert session.reports == ()
    span = captured.span("invoke_agent agent")
    assert span.attributes["memtrace.plan.actions"] == ["cleanup", "compress"]
    assert [
        event.attributes for event in span.events if event.name == "memtrace.action.planned"
    ] == [
        {"memtrace.operation": action.name, "memtrace.action.reason": action.reason}
        for action in planned
    ]
    assert captured.tree() == ["invoke_agent agent"]


def test_observing_still_alerts() -> None:
    """
    Under ``Policy.observe()`` crossed thresholds fire as ever.
    """
    session = filled(0.95, acts=False)

    agent(session)

    assert [alert.threshold for alert in session.alerts] == ["token_budget_usage"]


def test_observing_takes_snapshots_and_nothing_else_at_checkpoints() -> None:
    """
    A checkpoint under ``Policy.observe()`` can be rolled back and removes nothing.
    """
    session = filled(0.95, acts=False)
    session.active_contexts.add("old", ttl_s=1e-9)

    with pytest.raises(KeyError), checkpoint(session, rollback=True):  # noqa: PT012
        assert len(session.active_contexts) == 1
        session.history.clear()
        raise KeyError

    assert actions(session) == ["snapshot"]
    assert len(session.history) == 61


# --- alerts ---------------------------------------------------------------------------------------


@managed_agent
def holds(session: Session, share: float) -> None:
    """Leave this share of the budget in use."""
    session.archived_contexts.clear()
    session.archived_contexts.add("word " * int(share * 1000))


@pytest.mark.parametrize("acts", [True, False])
def test_an_alert_fires_on_crossing_and_not_while_crossed(acts: bool) -> None:
    """
    Three runs above 90% fire once; going below it and above again fires once more.
    """
    session = Session(token_budget=1_000, policy=Policy(acts=acts))

    for share in (0.95, 0.95, 0.96, 0.2, 0.95):
        holds(session, share)

    assert [alert.threshold for alert in session.alerts] == ["token_budget_usage"] * 2


def test_an_alert_is_logged_told_on_the_span_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    An alert is a log line, an event on the run's span, a count, and an event for hooks.
    """
    session, told = Session("s", token_budget=1_000), []
    session.on("threshold")(told.append)

    with capture() as captured:
        holds(session, 0.95)

    (alert,) = session.alerts
    assert f"memtrace alert for session s: {alert.message}" in caplog.text
    (event,) = captured.span("invoke_agent holds").events
    assert event.name == "memtrace.threshold.crossed"
    assert event.attributes == {
        "memtrace.threshold.name": "token_budget_usage",
        "memtrace.threshold.value": 0.9,
        "memtrace.threshold.observed": alert.observed,
        "memtrace.threshold.direction": "above",
    }
    point = captured.metric("memtrace.alerts", {"gen_ai.agent.name": "holds"})
    assert point["value"] == 1
    assert point["attributes"]["memtrace.threshold.severity"] == "critical"
    assert [(e.stage, e.alert) for e in told] == [("threshold", alert)]


def test_a_bad_hit_rate_fires_after_a_run() -> None:
    """
    A cache that misses twenty times in a row is told of, though memory is nearly empty.
    """
    session = Session()

    @managed_agent
    def body(session: Session) -> None:
        for number in range(20):
            session.cache.get(number)

    body(session)

    assert [alert.threshold for alert in session.alerts] == ["cache_hit_rate"]


def test_frequent_cleanups_are_told_of() -> None:
    """
    More cleanups than runs over the last ten runs fire an alert; the span counts them.
    """
    session = Session(token_budget=4_000)

    with capture() as captured:
        for turn in range(12):
            agent(session, TASK, *(m for n in range(12) for m in pair(100 * turn + n, 12)))
            session.history.extend(m for n in range(12) for m in pair(100 * turn + 50 + n, 12))

    assert session.record.cleanups > 12
    assert "cleanup_frequency" in {alert.threshold for alert in session.alerts}
    last = captured.spans_named("invoke_agent agent")[-1]
    assert last.attributes["memtrace.session.cleanups"] == session.record.cleanups


def test_compressions_that_gain_little_are_told_of() -> None:
    """
    What was compressed to more than 90% of itself, over the last ten, fires an alert.
    """
    session = Session(token_budget=1_000, policy=Policy(much_used=1, consolidate_above=1.0))
    for number in range(4):
        session.active_contexts.add("word " * 90, key=f"doc_{number}")
        session.active_contexts.touch(f"doc_{number}")
    compress_memory(session)

    agent(session)

    assert session.monitor()["compression_effectiveness"].value == 1.0
    assert "compression_effectiveness" in {alert.threshold for alert in session.alerts}


# --- hooks ----------------------------------------------------------------------------------------


def test_hooks_hear_of_every_stage() -> None:
    """
    Each stage of the loop is told to its hooks, with the event's own values.
    """
    session = filled(0.82)
    heard: list[Event] = []
    for stage in (
        "before_run after_run error checkpoint cleanup consolidate update_cache compress threshold"
    ).split():
        session.on(stage)(heard.append)
    session.cache.loader("k")(lambda: "v")
    session.messages()

    with checkpoint(session, "step"):
        pass
    crowd(session, 0.78)
    agent(session, {"role": "user", "content": "word " * session.token_budget})
    with pytest.raises(ZeroDivisionError):
        managed_agent(lambda session: 1 / 0)(session)

    stages = {event.stage for event in heard}
    assert stages == {
        *("before_run", "after_run", "error", "checkpoint", "cleanup"),
        *("consolidate", "update_cache", "compress", "threshold"),
    }
    assert all(event.session is session for event in heard)
    assert all(event.profile is not None for event in heard)
    reports = [event.report for event in heard if event.report is not None]
    assert reports == [report for report in session.reports if report.action != "snapshot"]


def test_a_hook_that_raises_is_passed_over() -> None:
    """
    A hook's error reaches neither the body nor the loop; it is counted and on a span.
    """
    session = filled(0.95)
    for stage in ("before_run", "cleanup", "after_run"):

        @session.on(stage)
        def broken(event: Event) -> None:
            raise OSError("the hook's own")

    with capture() as captured:
        assert agent(session) == "done"

    assert actions(session) == ["cleanup"]
    assert utilization(session) <= 0.70
    failed = captured.metric("memtrace.failures", {"memtrace.component": "hook"})
    assert failed["value"] == 3
    spans = [span for span in captured.spans if span.name.startswith("memtrace.hook ")]
    assert {span.status for span in spans} == {"ERROR"}
    assert {span.attributes["memtrace.hook.stage"] for span in spans} == {
        "before_run",
        "cleanup",
        "after_run",
    }


def test_a_hook_that_uses_its_session_does_not_hang_or_recurse() -> None:
    """
    A hook may ask for messages, append, and call actions within a pass.
    """
    session, calls = filled(0.95), []

    @session.on("cleanup")
    def busy(event: Event) -> None:
        calls.append(event)
        session.messages()
        session.history.append({"role": "assistant", "content": "noted"})
        trigger_cleanup(session, 0.3)

    agent(session)

    assert len(calls) == 1
    assert session.history[-1]["content"] == "noted"
    assert session.profile() == session.recount()


def test_a_slow_hook_is_named_in_an_alert_and_not_killed() -> None:
    """
    A hook slower than the policy allows does its work, and an alert names it and its time.
    """
    session, done = Session(policy=Policy(hook_slow_s=1e-9)), []

    @session.on("after_run")
    def dawdle(event: Event) -> None:
        done.append(event.stage)

    with capture() as captured:
        agent(session)

    assert done == ["after_run"]
    (alert,) = session.alerts
    assert "dawdle" in alert.message
    assert alert.observed > alert.value == 1e-9
    assert len([span for span in captured.spans if "dawdle" in span.name]) == 1


def test_a_hooks_duration_is_measured() -> None:
    """
    Each call of a hook is a point of the duration histogram, by name and stage, and no span.
    """
    session = Session()

    @session.on("after_run")
    def quick(event: Event) -> None: ...

    with capture() as captured:
        agent(session)
        agent(session)

    point = captured.metric("memtrace.hook.duration", {"memtrace.hook.stage": "after_run"})
    assert point["count"] == 2
    assert "quick" in point["attributes"]["memtrace.hook.name"]
    assert captured.tree() == ["invoke_agent agent", "invoke_agent agent"]


async def test_an_async_hook_is_awaited_in_async_use() -> None:
    """
    A coroutine function registered for an action's stage has run when the run is over.
    """
    session, heard = filled(0.95), []

    @session.on("cleanup")
    async def hook(event: Event) -> None:
        await asyncio.sleep(0)
        heard.append(event.report)

    @managed_agent
    async def body(session: Session) -> None: ...

    await body(session)

    assert heard == [report for report in session.reports if report.action == "cleanup"]


async def test_an_async_hook_hears_of_what_amessages_did() -> None:
    """
    Outside any run ``amessages`` acts, and its async hooks run too.
    """
    session, heard = filled(1.5), []

    @session.on("cleanup")
    async def hook(event: Event) -> None:
        heard.append(event.stage)

    shown = await session.amessages()
    await asyncio.sleep(0)

    assert memtrace.measure_tokens(shown) <= session.token_budget
    assert heard == ["cleanup"]


def test_an_async_hook_that_cannot_run_hurts_nobody() -> None:
    """
    Where no event loop runs, ``messages`` makes room all the same, and the failure is counted.
    """
    session = filled(1.5)

    @session.on("cleanup")
    async def hook(event: Event) -> None: ...

    with capture() as captured:
        shown = session.messages()

    assert memtrace.measure_tokens(shown) <= session.token_budget
    assert captured.metric("memtrace.failures")["value"] == 1


_PLUGGED = """
from memtrace import Session, managed_agent
@managed_agent
def agent(session): pass
agent(Session())
"""


def test_an_installed_package_may_bring_hooks(tmp_path: Path) -> None:
    """
    An entry point of the group ``memtrace.hooks`` is a hook of every session; a broken one is
    passed over.
    """
    (tmp_path / "auditing.py").write_text("def audit(event): print('heard', event.stage)\n")
    info = tmp_path / "auditing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: auditing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[memtrace.hooks]\nafter_run = auditing:audit\nbefore_run = auditing:missing\n"
    )

    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _PLUGGED],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "heard after_run\n"


# --- replaced actions -----------------------------------------------------------------------------


def test_a_replaced_cleanup_runs_in_its_place_and_is_measured() -> None:
    """
    A policy's own cleanup is given session and target; its report has what was measured.
    """
    given = []

    def forget(session: Session, *, target: float) -> None:
        given.append((session, target))
        while utilization(session) > target:
            session.history.pop(0)

    session = filled(0.95, actions={"cleanup": forget})
    before = session.profile().total_tokens

    with capture() as captured:
        agent(session)

    assert given == [(session, 0.70)]
    (report,) = session.reports
    assert (report.action, report.outcome, report.tokens_before) == ("cleanup", "effective", before)
    assert report.tokens_after == session.profile().total_tokens
    assert captured.tree() == ["invoke_agent agent", "  memtrace.cleanup"]


@pytest.mark.parametrize("name", ["consolidate", "update_cache"])
def test_what_runs_after_a_run_can_be_replaced(name: str) -> None:
    """
    A policy's own consolidation or cache update runs where memtrace's would.
    """
    called = []
    session = Session(token_budget=8_000, policy=Policy(actions={name: called.append}))
    session.cache.loader("k")(lambda: "v")
    crowd(session, 0.75)

    agent(session)

    assert called == [session]


def test_an_action_can_be_extended() -> None:
    """
    A replacement may call memtrace's own action, and its figures are kept.
    """

    def more(session: Session, *, target: float) -> ActionReport:
        session.cache.clear()
        return trigger_cleanup(session, target)

    session = filled(0.9, actions={"cleanup": more})

    agent(session)

    assert {report.outcome for report in session.reports} == {"effective"}
    assert utilization(session) <= 0.70


def test_a_replacement_that_raises_hurts_neither_run_nor_memory() -> None:
    """
    A failed replacement is reported as failed; the body runs, and memory is as it was.
    """

    def broken(session: Session, *, target: float) -> None:
        raise OSError("the replacement's own")

    session = filled(0.95, actions={"cleanup": broken, "compress": broken})

    with capture() as captured:
        assert agent(session) == "done"

    assert [report.outcome for report in session.reports] == ["failed"]
    assert session.reports[0].reason == "OSError: the replacement's own"
    assert len(session.history) == 61
    assert captured.span("memtrace.cleanup").status == "ERROR"


def test_a_replacement_that_removes_nothing_stops_after_two_passes() -> None:
    """
    The loop gives up on a replacement that does not help, and says so once.
    """
    session = filled(0.95, actions={"cleanup": lambda session, *, target: None})

    for _ in range(5):
        session.messages()

    assert [report.outcome for report in session.reports] == ["ineffective"] * 2
    assert [alert.threshold for alert in session.alerts] == ["unreachable_target"]


def test_a_replaced_compression_that_falls_short_goes_on_as_a_cleanup() -> None:
    """
    Where a policy's own compression removes nothing, memtrace's cleanup makes the room.
    """
    session = filled(0.82, actions={"compress": lambda session, *, target: None})

    session.messages()

    assert [(r.action, r.outcome) for r in session.reports] == [
        ("compress", "ineffective"),
        ("cleanup", "effective"),
    ]


# --- spans, events and metrics of actions ---------------------------------------------------------


def golden(captured: Captured, name: str) -> dict[str, Any]:
    return next(span for span in captured.spans_as_dicts() if span["name"] == name)


def test_a_cleanups_span_event_and_metrics() -> None:
    """
    A cleanup before a run is a child span of the run, an event on it, and three metrics.
    """
    session = filled(0.9)
    with capture() as captured:
        agent(session)

    (report,) = session.reports
    told = {
        "memtrace.cleanup.reason": "budget",
        "memtrace.cleanup.strategy": "extractive",
        "memtrace.cleanup.removed.items": report.items,
        "memtrace.cleanup.removed.tokens": report.tokens_freed,
    }
    assert golden(captured, "memtrace.cleanup") == {
        "name": "memtrace.cleanup",
        "parent": "invoke_agent agent",
        "kind": "INTERNAL",
        "status": "UNSET",
        "message": None,
        "attributes": {
            "gen_ai.conversation.id": "s",
            "memtrace.action.outcome": "effective",
            "memtrace.action.items": report.items,
            "memtrace.action.reason": "90% of the budget is above 85%",
            "memtrace.action.tokens.before": report.tokens_before,
            "memtrace.action.tokens.after": report.tokens_after,
            **told,
        },
        "events": [],
    }
    run = captured.span("invoke_agent agent")
    assert [(e.name, e.attributes) for e in run.events] == [("memtrace.cleanup.completed", told)]
    assert run.attributes["memtrace.profile.before.tokens"] == report.tokens_before
    assert run.attributes["memtrace.session.cleanups"] == 1
    series = {"gen_ai.agent.name": "agent", "memtrace.cleanup.reason": "budget"}
    assert captured.metrics["memtrace.cleanups"] == [{"attributes": series, "value": 1}]
    assert captured.metrics["memtrace.cleanup.removed_tokens"] == [
        {"attributes": series, "value": report.tokens_freed}
    ]
    duration = captured.metric("memtrace.operation.duration")
    assert (duration["attributes"], duration["count"]) == ({"memtrace.operation": "cleanup"}, 1)
    assert_no_failures(captured)


def test_a_compressions_span_event_and_metrics() -> None:
    """
    A compression before a run is a child span of the run, an event on it, and four metrics.
    """
    session = filled(0.82)
    with capture() as captured:
        agent(session)

    (report,) = session.reports
    span = golden(captured, "memtrace.compress")
    went_in = span["attributes"]["memtrace.compression.input_tokens"]
    came_out = span["attributes"]["memtrace.compression.output_tokens"]
    assert went_in - came_out == report.tokens_freed
    told = {
        "memtrace.compression.strategy": "extractive",
        "memtrace.compression.input_tokens": went_in,
        "memtrace.compression.output_tokens": came_out,
        "memtrace.compression.ratio": came_out / went_in,
    }
    assert span == {
        "name": "memtrace.compress",
        "parent": "invoke_agent agent",
        "kind": "INTERNAL",
        "status": "UNSET",
        "message": None,
        "attributes": {
            "gen_ai.conversation.id": "s",
            "memtrace.action.outcome": "effective",
            "memtrace.action.items": report.items,
            "memtrace.action.reason": "82% of the budget is above 80%",
            "memtrace.action.tokens.before": report.tokens_before,
            "memtrace.action.tokens.after": report.tokens_after,
            **told,
        },
        "events": [],
    }
    run = captured.span("invoke_agent agent")
    assert [(e.name, e.attributes) for e in run.events] == [
        ("memtrace.compression.completed", told)
    ]
    series = {"gen_ai.agent.name": "agent", "memtrace.compression.strategy": "extractive"}
    for name, value in (("input_tokens", went_in), ("output_tokens", came_out)):
        points = captured.metrics[f"memtrace.compression.{name}"]
        assert points == [{"attributes": series, "value": value}]
    ratio = captured.metric("memtrace.compression.ratio")
    assert (ratio["count"], ratio["sum"]) == (1, came_out / went_in)
    assert ratio["bounds"] == [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1]


def test_a_consolidations_and_a_cache_updates_span() -> None:
    """
    What runs after a run are children of its span, with the tokens moved and the outcome.
    """
    session = Session("s", token_budget=8_000)
    session.cache.loader("k")(lambda: "v")
    crowd(session, 0.75)
    held = session.active_contexts.tokens

    with capture() as captured:
        agent(session)

    assert captured.tree() == [
        "invoke_agent agent",
        "  memtrace.consolidate",
        "  memtrace.update_cache",
    ]
    consolidate, update = session.reports
    attributes = golden(captured, "memtrace.consolidate")["attributes"]
    assert attributes == {
        "gen_ai.conversation.id": "s",
        "memtrace.action.outcome": "effective",
        "memtrace.action.items": consolidate.items,
        "memtrace.action.reason": consolidate.reason,
        "memtrace.action.tokens.before": consolidate.tokens_before,
        "memtrace.action.tokens.after": consolidate.tokens_after,
        "memtrace.moved.tokens": held,
    }
    attributes = golden(captured, "memtrace.update_cache")["attributes"]
    assert attributes["memtrace.action.outcome"] == "effective"
    assert attributes["memtrace.action.items"] == update.items == 1


def test_a_snapshots_span() -> None:
    """
    A checkpoint's snapshot is a child of the checkpoint's span, with its id, size and items.
    """
    session = Session("s")
    session.history.append(TASK)
    with capture() as captured, checkpoint(session, "step"):
        pass

    (snapshot,) = session.snapshots()
    assert captured.tree() == ["memtrace.checkpoint step", "  memtrace.snapshot"]
    assert golden(captured, "memtrace.snapshot")["attributes"] == {
        "gen_ai.conversation.id": "s",
        "memtrace.action.outcome": "effective",
        "memtrace.snapshot.id": snapshot.id,
        "memtrace.snapshot.size": snapshot.tokens,
        "memtrace.snapshot.items": 1,
    }


def test_a_checkpoint_that_was_rolled_back_says_so() -> None:
    """
    The checkpoint's span has the error, and that memory was restored.
    """
    with capture() as captured:
        for rollback in (True, False):
            with pytest.raises(KeyError), checkpoint(Session(), rollback=rollback):
                raise KeyError("x")

    first, second = captured.spans_named("memtrace.checkpoint checkpoint")
    assert first.status == second.status == "ERROR"
    assert first.attributes["memtrace.checkpoint.restored"] is True
    assert first.attributes["error.type"] == "KeyError"
    assert "memtrace.checkpoint.restored" not in second.attributes


def test_an_action_with_nothing_to_do_makes_no_span() -> None:
    """
    By hand on an empty session, no action leaves a span, a report or a point.
    """
    session = Session()
    with capture() as captured:
        trigger_cleanup(session)
        compress_memory(session)
        update_cache(session)

    assert captured.spans == []
    assert session.reports == ()
    assert captured.metrics.get("memtrace.cleanups", []) == []


def test_by_hand_the_reason_is_manual() -> None:
    """
    A cleanup called by the program itself is counted apart, under no agent.
    """
    session = filled(0.9)
    with capture() as captured:
        trigger_cleanup(session)

    assert [point["attributes"] for point in captured.metrics["memtrace.cleanups"]] == [
        {"memtrace.cleanup.reason": "manual"}
    ]
