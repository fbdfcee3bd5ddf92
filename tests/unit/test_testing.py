"""What `memtrace.testing` promises to people's own tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inline_snapshot import snapshot
from opentelemetry import trace

import memtrace
from memtrace import Session, _pytest, checkpoint, config, managed_agent
from memtrace.testing import (
    Captured,
    assert_no_failures,
    assert_within_budget,
    capture,
    strict,
)


@managed_agent
def answer(session: Session, question: str) -> None:
    session.history.append({"role": "user", "content": question})
    with checkpoint(session, "look up"):
        session.active_contexts.add("one two three")
    if question == "":
        raise ValueError("no question")


def test_spans_are_plain_data() -> None:
    """
    Spans come as dictionaries in the order in which they began, equal from run to run.
    """
    with capture() as captured:
        answer(Session("s", token_budget=1000), "why?")

    assert captured.spans_as_dicts() == snapshot(
        [
            {
                "name": "invoke_agent answer",
                "parent": None,
                "kind": "INTERNAL",
                "status": "UNSET",
                "message": None,
                "attributes": {
                    "memtrace.body.duration": "<duration>",
                    "memtrace.budget.tokens": 1000,
                    "memtrace.profile.before.tokens": 0,
                    "memtrace.profile.before.utilization": 0.0,
                    "memtrace.profile.after.tokens": 8,
                    "memtrace.profile.after.utilization": 0.008,
                    "memtrace.profile.delta.tokens": 8,
                    "memtrace.layer.working_memory.before.tokens": 0,
                    "memtrace.layer.working_memory.after.tokens": 3,
                    "memtrace.layer.long_term_memory.before.tokens": 0,
                    "memtrace.layer.long_term_memory.after.tokens": 0,
                    "memtrace.layer.cache.before.tokens": 0,
                    "memtrace.layer.cache.after.tokens": 0,
                    "memtrace.layer.agent_states.before.tokens": 0,
                    "memtrace.layer.agent_states.after.tokens": 0,
                    "memtrace.layer.conversation_history.before.tokens": 0,
                    "memtrace.layer.conversation_history.after.tokens": 5,
                    "gen_ai.operation.name": "invoke_agent",
                    "gen_ai.agent.name": "answer",
                    "gen_ai.conversation.id": "s",
                    "memtrace.session.cleanups": 0,
                },
                "events": [],
            },
            {
                "name": "memtrace.checkpoint look up",
                "parent": "invoke_agent answer",
                "kind": "INTERNAL",
                "status": "UNSET",
                "message": None,
                "attributes": {
                    "memtrace.body.duration": "<duration>",
                    "memtrace.budget.tokens": 1000,
                    "memtrace.profile.before.tokens": 5,
                    "memtrace.profile.before.utilization": 0.005,
                    "memtrace.profile.after.tokens": 8,
                    "memtrace.profile.after.utilization": 0.008,
                    "memtrace.profile.delta.tokens": 3,
                    "memtrace.layer.working_memory.before.tokens": 0,
                    "memtrace.layer.working_memory.after.tokens": 3,
                    "memtrace.layer.long_term_memory.before.tokens": 0,
                    "memtrace.layer.long_term_memory.after.tokens": 0,
                    "memtrace.layer.cache.before.tokens": 0,
                    "memtrace.layer.cache.after.tokens": 0,
                    "memtrace.layer.agent_states.before.tokens": 0,
                    "memtrace.layer.agent_states.after.tokens": 0,
                    "memtrace.layer.conversation_history.before.tokens": 5,
                    "memtrace.layer.conversation_history.after.tokens": 5,
                    "memtrace.checkpoint.name": "look up",
                    "memtrace.checkpoint.id": "<id>",
                    "gen_ai.conversation.id": "s",
                },
                "events": [],
            },
            {
                "name": "memtrace.snapshot",
                "parent": "memtrace.checkpoint look up",
                "kind": "INTERNAL",
                "status": "UNSET",
                "message": None,
                "attributes": {
                    "memtrace.action.outcome": "effective",
                    "memtrace.snapshot.id": "s2",
                    "memtrace.snapshot.items": 1,
                    "memtrace.snapshot.size": 5,
                    "gen_ai.conversation.id": "s",
                },
                "events": [],
            },
        ]
    )


def test_an_error_is_plain_data_too() -> None:
    """
    A failed run has its status, its message and the exception, without the traceback's lines.
    """
    with capture() as captured, pytest.raises(ValueError, match="no question"):
        answer(Session("s"), "")

    failed = captured.spans_as_dicts()[0]
    assert (failed["status"], failed["message"]) == ("ERROR", "no question")
    assert failed["events"] == snapshot(
        [
            {
                "name": "exception",
                "attributes": {
                    "exception.type": "ValueError",
                    "exception.message": "no question",
                    "exception.stacktrace": "<stacktrace>",
                    "exception.escaped": "False",
                },
            }
        ]
    )


def test_ids_and_times_on_request() -> None:
    """
    Without normalising, spans carry their ids and times, and parents can be followed.
    """
    with capture() as captured:
        answer(Session(), "why?")

    outer, inner, _snapshot = captured.spans_as_dicts(normalise=False)
    assert inner["parent_id"] == outer["span_id"]
    assert inner["trace_id"] == outer["trace_id"]
    assert outer["start_ns"] <= inner["start_ns"] <= inner["end_ns"] <= outer["end_ns"]
    assert outer["attributes"]["memtrace.body.duration"] <= captured.spans[0].duration_s


def test_the_tree_shows_what_is_below_what() -> None:
    """
    The tree lists names, each indented below its parent.
    """
    session = Session()
    session.history.append({"role": "user", "content": "hello"})
    with capture() as captured, checkpoint(session, "outer"):
        answer(Session(), "a")
        answer(Session(), "b")

    assert captured.tree() == [
        "memtrace.checkpoint outer",
        "  memtrace.snapshot",
        "  invoke_agent answer",
        "    memtrace.checkpoint look up",
        "      memtrace.snapshot",
        "  invoke_agent answer",
        "    memtrace.checkpoint look up",
        "      memtrace.snapshot",
    ]


def test_a_span_is_found_by_name() -> None:
    """
    `span` gives the only one of a name, and otherwise says which names there are.
    """

    @managed_agent
    def steps(session: Session) -> Iterator[int]:
        yield 1

    stepping = steps(Session())
    with capture() as captured:
        next(stepping)
        answer(Session(), "why?")
        assert captured.open_spans == ["invoke_agent steps"]
        with pytest.raises(LookupError, match=r"invoke_agent answer, .*invoke_agent steps \(not e"):
            captured.span("invoke_agent nobody")
        answer(Session(), "again")
        with pytest.raises(LookupError, match="2 spans are named"):
            captured.span("invoke_agent answer")
        stepping.close()

    assert captured.span("invoke_agent steps").status == "UNSET"
    assert captured.open_spans == []


def test_metrics_are_plain_data() -> None:
    """
    Counters have a value, histograms a count, a sum and buckets; attributes choose the point.
    """
    with capture() as captured:
        session = Session(token_budget=1000)
        answer(session, "why?")
        duration = captured.metric("gen_ai.invoke_agent.duration")
        added = captured.metric("memtrace.layer.added", {"memtrace.layer.name": "working_memory"})

    assert (duration["count"], sum(duration["buckets"])) == (1, 1)
    assert len(duration["buckets"]) == len(duration["bounds"]) + 1
    assert duration["attributes"] == {"gen_ai.agent.name": "answer"}
    assert added["value"] == session.active_contexts.tokens


def test_metrics_stay_as_they_were() -> None:
    """
    After the block, metrics are those of its end, whatever happens later.
    """
    session = Session()
    with capture() as captured:
        answer(session, "why?")
    answer(session, "and then?")

    assert captured.metric("gen_ai.invoke_agent.duration")["count"] == 1


def test_a_missing_metric_says_what_there_is() -> None:
    """
    `metric` names the instruments, or the points, that exist.
    """
    with capture() as captured:
        answer(Session(), "why?")

    with pytest.raises(LookupError, match=r"no metric named 'nothing'.*gen_ai\.invoke_agent"):
        captured.metric("nothing")
    with pytest.raises(LookupError, match=r"5 points of memtrace\.layer\.added"):
        captured.metric("memtrace.layer.added")


def test_what_was_configured_comes_back() -> None:
    """
    After the block the providers are those of before, and the global ones were never set.
    """
    before = config.current
    with pytest.raises(ZeroDivisionError), capture():
        raise ZeroDivisionError

    assert config.current == before
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_captures_nest() -> None:
    """
    An inner block takes what happens in it; the outer one has the rest.
    """
    with capture() as outer:
        with capture() as inner, checkpoint(Session(), "inner"):
            pass
        with checkpoint(Session(), "outer"):
            pass

    assert inner.tree() == ["memtrace.checkpoint inner"]
    assert outer.tree() == ["memtrace.checkpoint outer"]


def test_the_fixture_captures(memtrace_capture: Captured) -> None:
    """
    The pytest fixture is a capture around the test.
    """
    answer(Session(), "why?")

    assert memtrace_capture.span("memtrace.checkpoint look up").parent == "invoke_agent answer"


def test_the_fixture_comes_with_the_package(pytestconfig: pytest.Config) -> None:
    """
    Whoever installs memtrace has the fixture, without saying so anywhere.
    """
    assert pytestconfig.pluginmanager.is_registered(_pytest)


def test_strict_raises_failures() -> None:
    """
    Within `strict` a hook's failure is raised, and after it no more.
    """

    def broken(event: memtrace.Event) -> None:
        raise OSError("no disk")

    session = Session()
    session.on("after_run")(broken)
    with strict(), pytest.raises(OSError, match="no disk"):
        answer(session, "why?")

    answer(session, "why?")


def test_no_failures_names_what_failed() -> None:
    """
    `assert_no_failures` passes where all went well, and else says what failed how often.
    """
    session = Session()
    with capture() as captured:
        answer(session, "why?")
    assert_no_failures(captured)

    session.on("before_run")(lambda event: 1 // 0)
    with capture() as captured:
        answer(session, "why?")
        answer(session, "why?")
    with pytest.raises(AssertionError, match="hook: 2 times"):
        assert_no_failures(captured)


def test_a_budget_that_is_kept_passes() -> None:
    """
    A session at its budget or below passes.
    """
    session = Session(token_budget=1000)
    session.active_contexts.add("one two three")

    assert_within_budget(session)


def test_a_budget_that_is_exceeded_shows_the_layers() -> None:
    """
    A session over its budget fails with the figures of every layer.
    """
    session = Session(token_budget=10)
    session.active_contexts.add("one two three four five six seven eight nine ten eleven twelve")

    with pytest.raises(AssertionError) as caught:
        assert_within_budget(session.profile())
    assert str(caught.value) == snapshot("""\
12 tokens are 2 over the budget of 10 (120%):
  working_memory               12 of          4 tokens in 1 items
  long_term_memory              0 of          1 tokens in 0 items
  cache                         0 of          1 tokens in 0 items
  agent_states                  0 of          1 tokens in 0 items
  conversation_history          0 of          2 tokens in 0 items\
""")
