"""Rebalancing: allocations that follow what is used, and each change written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memtrace import ConfigurationError, Policy, Session, TokenBudget, managed_agent
from memtrace.telemetry import names
from memtrace.values import LAYER_NAMES

SHARES = st.lists(st.integers(0, 100), min_size=5, max_size=5).filter(lambda s: sum(s) > 0)
USAGE = st.dictionaries(st.sampled_from(LAYER_NAMES), st.integers(0, 10**6), min_size=1)


def test_an_allocation_goes_half_of_the_way_to_what_is_used() -> None:
    """
    Working memory that holds all there is gains half of what it lacks; the others give.
    """
    budget = TokenBudget(10_000).rebalance({"working_memory": 3_000, "conversation_history": 3_000})

    assert budget.total == 10_000
    assert budget.shares["working_memory"] == pytest.approx(0.45, abs=0.01)
    assert budget.shares["conversation_history"] == pytest.approx(0.375, abs=0.01)
    assert budget.shares["cache"] == pytest.approx(0.05, abs=0.001)


@given(shares=SHARES, usage=USAGE)
def test_allocations_keep_their_sum_and_their_bounds(
    shares: list[int], usage: dict[str, int]
) -> None:
    """
    Whatever is used, the sum stays, and each stays between a twentieth and seven tenths.
    """
    fractions = [share / sum(shares) for share in shares]
    old = TokenBudget(100_000, *fractions)

    new = old.rebalance(usage)

    assert sum(new.shares.values()) == pytest.approx(sum(old.shares.values()), abs=1e-5)
    for name, share in new.shares.items():
        was = old.shares[name]
        assert min(0.05, was) - 0.003 <= share <= max(0.70, was) + 0.003


@given(usage=USAGE)
def test_rebalancing_settles(usage: dict[str, int]) -> None:
    """
    Followed again and again, the same usage leads somewhere and stays there.
    """
    budget = TokenBudget(100_000)
    for _ in range(30):
        budget = budget.rebalance(usage)

    again = budget.rebalance(usage)
    assert again.shares == pytest.approx(budget.shares, abs=0.003)


def test_a_budget_of_which_nothing_is_used_stays() -> None:
    """
    No usage is no reason.
    """
    budget = TokenBudget(100_000)

    assert budget.rebalance({"cache": 0}) == budget
    assert budget.rebalance(Session(token_budget=budget).profile()) == budget


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        ({}, "takes tokens by layer"),
        ({"heap": 3}, "takes tokens by layer"),
        ({"cache": -1}, "cache uses -1"),
        ({"cache": "much"}, "cache uses 'much'"),
    ],
)
def test_usage_that_says_nothing_is_refused(usage: dict[str, Any], message: str) -> None:
    """
    The error says what was given and what would work.
    """
    with pytest.raises(ConfigurationError, match=message):
        TokenBudget(1_000).rebalance(usage)
    with pytest.raises(ConfigurationError, match="step must be from 0 to 1"):
        TokenBudget(1_000).rebalance({"cache": 1}, step=2)


def test_a_session_follows_its_budget() -> None:
    """
    After a rebalance profiles, thresholds and the cache's size are those of the new budget.
    """
    session = Session(token_budget=10_000)
    for key in range(9):
        session.cache.put(key, "word " * 100)

    budget = session.rebalance({"working_memory": 9_000})

    assert budget is session.budget
    assert budget.shares["working_memory"] == 0.7
    assert session.profile().layers["working_memory"].limit == 7_000
    assert session.cache.limit_tokens == budget.limit("cache") < 1_000
    assert session.cache.tokens <= session.cache.limit_tokens
    assert session.lines == session.policy.lines(budget)


def test_every_change_is_in_the_log(spans: Any) -> None:
    """
    Old, new, reason and when: in the budget's log, and as an event on the current span.
    """
    session = Session(token_budget=10_000)
    old = session.budget

    @managed_agent
    def agent(session: Session) -> None:
        session.rebalance({"working_memory": 4_000, "cache": 100})

    agent(session)

    (change,) = session.budget_log
    assert (change.old, change.new) == (old, session.budget)
    assert change.reason == "by hand, toward what is used"
    assert 0 <= session.now() - change.at < 60
    (span,) = spans.get_finished_spans()
    (event,) = [e for e in span.events if e.name == names.EVENT_BUDGET_CHANGED]
    assert dict(event.attributes) == {
        names.BUDGET_OLD: (10_000, *old.limits),
        names.BUDGET_NEW: (10_000, *session.budget.limits),
        names.BUDGET_REASON: "by hand, toward what is used",
    }


def test_a_change_is_in_the_store(tmp_path: Path) -> None:
    """
    A session that is opened again has its budget as it was moved, and the log of its changes.
    """
    path = tmp_path / "memory.db"
    with Session.open("s", store=path, token_budget=10_000) as session:
        session.rebalance({"working_memory": 9_000})
        log, budget = session.budget_log, session.budget

    with Session.open("s", store=path) as again:
        assert again.budget == budget
        assert again.budget_log == log

    with Session.open("s", store=path, token_budget=20_000) as larger:
        assert [change.reason for change in larger.budget_log] == [log[0].reason, "opened with it"]
        assert larger.budget_log[-1].old == budget


def test_a_damaged_note_does_not_keep_a_session_from_opening() -> None:
    """
    What a store has of the log that makes no sense is left out.
    """
    session = Session()

    for facts in ({"budget_log": [["then", [0], [1], "why"]]}, {"billed": 3}, {"budget_log": None}):
        session.record.take_back(facts)

    assert session.budget_log == ()


def test_a_policy_rebalances_after_runs_near_a_threshold() -> None:
    """
    ``Policy(rebalance=True)`` moves toward the peaks of the last runs, and says why.
    """
    session = Session(token_budget=10_000, policy=Policy(rebalance=True))

    @managed_agent
    def reader(session: Session, number: int) -> None:
        session.active_contexts.add("word " * 900, key=f"page-{number}")

    for number in range(4):
        reader(session, number)

    assert session.budget.limit("working_memory") > 4_000
    assert len(session.budget_log) >= 1
    assert session.budget_log[0].reason.startswith("working_memory uses ")
    assert session.profile().working_memory_utilization < 0.8


def test_a_policy_moves_nothing_that_is_not_worth_it() -> None:
    """
    Without the policy, far from thresholds, or under ``observe``, the budget stays.
    """

    @managed_agent
    def reader(session: Session, tokens: int) -> None:
        session.active_contexts.add("word " * tokens, key=f"page-{tokens}")

    for policy, tokens in (
        (Policy(), 3_000),
        (Policy(rebalance=True), 500),
        (Policy.observe(rebalance=True), 3_000),
    ):
        session = Session(token_budget=10_000, policy=policy)
        for more in range(3):
            reader(session, tokens + more)
        assert session.budget_log == ()
    with pytest.raises(ConfigurationError, match="rebalance must be True or False"):
        Policy(rebalance="often")  # type: ignore[arg-type]


def test_the_log_is_plain_data() -> None:
    """
    What goes to a store of it is numbers and text.
    """
    session = Session(token_budget=10_000)
    session.rebalance({"cache": 1_000})

    assert json.loads(json.dumps(session.record.kept())) == session.record.kept()
