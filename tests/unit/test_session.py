"""The session: five layers against one budget, and what it says it holds."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import pytest

import memtrace
from memtrace import (
    ConfigurationError,
    Policy,
    Session,
    TokenBudget,
    current_session,
    managed_agent,
    measure_tokens,
)


class Words:
    """A counter that is off: a token for each word, and it says that it is an estimate."""

    name, exact = "words", False

    def count_text(self, text: str) -> int:
        return len(text.split())


def filled(**settings: Any) -> Session:
    """A session with something in each of its layers."""
    session = Session("support-42", **settings)
    session.active_contexts.add("You answer questions.", kind="system")
    session.active_contexts.add({"path": "a.py", "lines": [1, 2]}, key="a.py")
    session.archived_contexts.add("Last week the customer asked for a refund.")
    session.cache.put("rates", {"EUR": 1.08})
    session.agent("planner").state = {"step": 3, "open": ["read", "write"]}
    session.history.extend(
        [
            {"role": "user", "content": "What do I owe?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "function": {"name": "look_up", "arguments": '{"who": 42}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "12.50 EUR"},
        ]
    )
    return session


def test_profile_is_what_the_snippet_gives() -> None:
    """
    The snippet of the documentation runs as it stands, and agrees with the profile.
    """
    session = filled(token_budget=128_000)
    profile = {
        "working_memory": measure_tokens(session.active_contexts),
        "long_term_memory": measure_tokens(session.archived_contexts),
        "cache": measure_tokens(session.cache.items),
        "agent_states": sum(measure_tokens(a.state) for a in session.agents),
        "conversation_history": measure_tokens(session.history),
    }
    profile["total_tokens"] = sum(profile.values())
    profile["utilization_rate"] = profile["total_tokens"] / session.token_budget

    assert profile == session.profile()
    assert dict(session.profile()) == profile
    assert all(profile.values())


def test_profile_counts_items_and_looks() -> None:
    """
    A profile knows how many items each layer holds, and how the cache did.
    """
    session = filled()
    session.cache.get("rates")
    session.cache.get("weather")
    profile = session.profile()

    assert [usage.items for usage in profile.layers.values()] == [2, 1, 1, 1, 3]
    assert profile.cache_hit_rate == 0.5
    assert profile.counting == ("exact", "o200k_base")


def test_recount_proves_the_totals() -> None:
    """
    Counting everything again gives the running totals.
    """
    session = filled()
    profile = session.profile()

    assert session.recount() == profile


def test_recount_puts_right_what_changed_in_place() -> None:
    """
    A message that was changed behind the session's back counts as it is after a recount.
    """
    session = Session()
    message = {"role": "user", "content": "short"}
    session.history.append(message)
    message["content"] = "a good deal longer than it was before"

    assert session.profile().conversation_history != measure_tokens(message)
    assert session.recount().conversation_history == measure_tokens(message)
    assert session.profile() == session.recount()


def test_agent_is_made_by_name() -> None:
    """
    `session.agent` makes a state once, which `session.agents` holds.
    """
    session = Session()
    session.agent("planner").state = {"step": 1}

    assert session.agent("planner") is session.agents["planner"]
    assert [agent.name for agent in session.agents] == ["planner"]


async def test_messages_are_the_callers_own() -> None:
    """
    What may be sent is a new list of the caller's own objects, in async use too.
    """
    session = filled()
    sent = session.messages()

    assert [a is b for a, b in zip(sent, session.history, strict=True)] == [True] * 3
    assert await session.amessages() == sent
    assert sent is not session.messages()


# --- usage as billed ----------------------------------------------------------------------------


def test_billed_usage_scales_estimates() -> None:
    """
    With an estimating counter, what was billed scales what is held and what comes.
    """
    session = Session(counter=Words())
    session.active_contexts.add("a b c d", key="notes")
    session.history.append({"role": "user", "content": "one two three"})
    assert session.profile().counting == ("estimate", "words")
    session.messages()
    session.record_usage(2 * session.history.tokens)

    assert (session.active_contexts.tokens, session.history.tokens) == (8, 12)
    assert session.active_contexts.add("a b").tokens == 4
    assert session.profile() == session.recount()


def test_billed_usage_leaves_exact_counts_alone() -> None:
    """
    With an exact counter, what was billed changes nothing.
    """
    session = filled()
    before = session.profile()
    session.record_usage(100_000, counted_tokens=10)

    assert session.profile() == session.recount() == before


def test_billed_usage_converges() -> None:
    """
    Billed again in the same proportion, estimates stay where they are.
    """
    session = Session(counter=Words())
    session.history.append({"role": "user", "content": "one " * 100})
    for _ in range(5):
        billed = 155
        session.record_usage(billed, counted_tokens=session.history.tokens)

    assert session.history.tokens == pytest.approx(155, abs=2)


@pytest.mark.parametrize("given", [-1, 1.5, "12", True])
def test_billed_usage_must_be_a_number_of_tokens(given: Any) -> None:
    """
    Usage that is no whole number of tokens is refused.
    """
    with pytest.raises(ConfigurationError, match="must be a whole number ≥ 0"):
        Session().record_usage(given)


# --- what it is made of -------------------------------------------------------------------------


def test_budget_is_the_nearest_one() -> None:
    """
    The budget is the session's, else its policy's, else the configured one, else 200,000.
    """
    policy = Policy(token_budget=3_000)

    assert Session(token_budget=TokenBudget(4_000, cache=0.05)).budget.cache == 0.05
    assert Session(token_budget=5_000, policy=policy).token_budget == 5_000
    assert Session(policy=policy).token_budget == 3_000
    assert Session().token_budget == 200_000
    memtrace.configure(token_budget=2_000)
    assert Session().token_budget == 2_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"token_budget": 0}, "above 0, got 0"),
        ({"token_budget": -5}, "above 0, got -5"),
        ({"token_budget": 1.5}, "whole number of tokens above 0, got 1.5"),
        ({"token_budget": True}, "got True"),
        ({"id": ""}, "must be text, got ''"),
        ({"id": 42}, "must be text, got 42"),
    ],
)
def test_session_that_cannot_be(arguments: dict[str, Any], says: str) -> None:
    """
    A budget that is no number of tokens and an id that is no text are refused by name.
    """
    with pytest.raises(ConfigurationError, match=says):
        Session(**arguments)


def test_ids_are_random_where_none_is_given() -> None:
    """
    A session without an id gets one of its own; one with an id keeps it.
    """
    assert Session().id != Session().id
    assert Session("support-42").id == "support-42"


def test_repr_tells_how_full_it_is() -> None:
    """
    A session's repr gives its id and how full it is, not its content.
    """
    session = filled(token_budget=1_000)

    assert repr(session).startswith("<Session 'support-42': ")
    assert "of 1000 tokens" in repr(session)
    assert "refund" not in repr(session) + "".join(map(repr, session.layers))


def test_session_is_collected_though_telemetry_knew_it(metrics: Any, spans: Any) -> None:
    """
    Neither runs, spans nor metrics keep a session alive.
    """
    session = filled()
    managed_agent(session=session)(lambda: None)()
    metrics.get_metrics_data()
    gone = weakref.ref(session)
    del session
    gc.collect()

    assert gone() is None


def test_items_belong_to_the_run_that_added_them() -> None:
    """
    What is added within a run belongs to it and to its agent; outside, to nobody.
    """
    session = Session()
    before = session.active_contexts.add("before")

    @managed_agent(name="planner", session=session)
    def run() -> memtrace.Item:
        assert current_session() is session
        return session.active_contexts.add("within")

    first, second = run(), run()
    assert (before.run_id, before.agent) == (None, None)
    assert (first.agent, second.agent) == ("planner", "planner")
    assert first.run_id is not None
    assert second.run_id == first.run_id + 1


def test_closed_session_is_still_readable() -> None:
    """
    Closing stops the reporting; what is held can still be read.
    """
    session = filled()
    before = session.profile()
    session.close()
    session.close()

    assert session.profile() == before


def test_items_are_frozen() -> None:
    """
    An item cannot be changed: to change it, replace it.
    """
    item = Session().active_contexts.add("text")

    with pytest.raises(dataclasses.FrozenInstanceError):
        item.tokens = 0  # type: ignore[misc]
