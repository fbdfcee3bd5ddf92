"""What a profile calls for, and which thresholds it crosses: pure functions over values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memtrace import MemoryProfile, Policy, Session, TokenBudget, plan
from memtrace.decide import LoopFacts, alerts, monitor

BUDGET = TokenBudget(1000)  # working memory's allocation is 400


def held(working: int = 0, history: int = 0, **more: Any) -> MemoryProfile:
    return MemoryProfile(BUDGET, (working, 0, 0, 0, history), **more)


def names(profile: MemoryProfile, policy: Policy | None = None) -> list[str]:
    return [action.name for action in plan(profile, policy)]


# --- plan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("working", "history", "expected"),
    [
        (0, 0, []),
        (320, 0, []),  # working memory at 80% of its allocation: at is not above
        (321, 0, ["compress"]),
        (0, 800, []),
        (0, 801, ["compress"]),
        (0, 850, ["compress"]),
        (0, 851, ["cleanup"]),
        (321, 530, ["cleanup", "compress"]),
        (300, 560, ["cleanup"]),
        (0, 2000, ["cleanup"]),
    ],
)
def test_thresholds_act_above_and_not_at(working: int, history: int, expected: list[str]) -> None:
    """
    Above 85% of the budget: cleanup; above 80% of it or of working memory: compress; no less.
    """
    assert names(held(working, history)) == expected


def test_a_cleanup_comes_before_a_compression() -> None:
    """
    Where both are called for, room is made in the whole first.
    """
    assert names(held(390, 600)) == ["cleanup", "compress"]


def test_actions_carry_the_policys_targets() -> None:
    """
    A plan says down to where, as the policy has it.
    """
    policy = Policy(cleanup_target=0.5, compress_target=0.6)

    assert [action.target for action in plan(held(390, 600), policy)] == [0.5, 0.6]


def test_reasons_name_the_measured_figure_and_the_threshold() -> None:
    """
    Why an action is planned is told with the figures that called for it.
    """
    cleanup, compress = plan(held(360, 600))

    assert cleanup.reason == "96% of the budget is above 85%"
    assert compress.reason == "working memory at 90% is above 80%"


def test_pins_that_alone_exceed_the_target_are_not_planned_for() -> None:
    """
    Working memory is not compressed where what is pinned cannot get under the target.
    """
    assert names(held(380, 0, pinned_tokens=281)) == []
    assert names(held(380, 0, pinned_tokens=280)) == ["compress"]


def test_pins_do_not_keep_the_whole_from_being_relieved() -> None:
    """
    With working memory pinned full, a full budget still calls for action.
    """
    assert names(held(380, 450, pinned_tokens=380)) == ["compress"]
    assert names(held(380, 500, pinned_tokens=380)) == ["cleanup"]


def test_a_policys_thresholds_are_the_ones_that_count() -> None:
    """
    Another policy on the same profile gives another plan.
    """
    profile = held(0, 500)

    assert names(profile) == []
    assert names(profile, Policy(cleanup_above=0.4, cleanup_target=0.3)) == ["cleanup"]
    early = Policy(compress_above=0.4, compress_target=0.3)
    assert names(profile, early) == ["compress"]


@given(
    st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 400), st.sampled_from([100, 1000])
)
def test_a_plan_is_pure(working: int, history: int, pinned: int, total: int) -> None:
    """
    The same profile gives the same plan: at most one of each, and none where all is under.
    """
    profile = MemoryProfile(TokenBudget(total), (working, 0, 0, 0, history), pinned_tokens=pinned)

    planned = plan(profile)

    assert planned == plan(profile, Policy())
    assert tuple(action.name for action in planned) in {
        (),
        ("cleanup",),
        ("compress",),
        ("cleanup", "compress"),
    }
    if profile.utilization_rate <= 0.8 and profile.working_memory_utilization <= 0.8:
        assert planned == []


def test_a_plan_takes_a_profile_of_any_session() -> None:
    """
    A profile that a session gave can be tried under a policy without touching the session.
    """
    session = Session(token_budget=100)
    session.history.append({"role": "user", "content": "word " * 90})
    before = session.profile()

    assert names(before, Policy()) == ["cleanup"]
    assert session.profile() == before
    assert session.reports == ()


# --- the five points ------------------------------------------------------------------------------

POINTS = [
    "working_memory_utilization",
    "cache_hit_rate",
    "token_budget_usage",
    "compression_effectiveness",
    "cleanup_frequency",
]


def test_every_point_is_always_present_and_in_order() -> None:
    """
    An empty session has all five points, those that cannot be told yet with no value.
    """
    points = monitor(held(), LoopFacts(), Policy())

    assert [point.name for point in points] == POINTS
    assert [point.value for point in points] == [0.0, None, 0.0, None, None]
    assert not any(point.crossed for point in points)
    assert list(Session().monitor()) == POINTS


@pytest.mark.parametrize(
    ("name", "quiet", "crossed"),
    [
        ("working_memory_utilization", (held(320), LoopFacts()), (held(321), LoopFacts())),
        ("token_budget_usage", (held(0, 900), LoopFacts()), (held(0, 901), LoopFacts())),
        (
            "cache_hit_rate",
            (held(cache_hits=12, cache_misses=8), LoopFacts()),
            (held(cache_hits=11, cache_misses=9), LoopFacts()),
        ),
        (
            "compression_effectiveness",
            (held(), LoopFacts(compressions=((100, 90),))),
            (held(), LoopFacts(compressions=((100, 91),))),
        ),
        (
            "cleanup_frequency",
            (held(), LoopFacts(cleanups=10, runs=10)),
            (held(), LoopFacts(cleanups=11, runs=10)),
        ),
    ],
)
def test_each_point_is_crossed_past_its_threshold_and_not_at_it(
    name: str, quiet: tuple[MemoryProfile, LoopFacts], crossed: tuple[MemoryProfile, LoopFacts]
) -> None:
    """
    Each of the five is crossed just past the design's threshold, and not on it.
    """
    at = {point.name: point for point in monitor(*quiet, Policy())}
    past = {point.name: point for point in monitor(*crossed, Policy())}

    assert at[name].value == pytest.approx(at[name].threshold)
    assert not at[name].crossed
    assert past[name].crossed
    assert [point.name for point in past.values() if point.crossed] == [name]


def test_a_hit_rate_is_told_after_twenty_lookups() -> None:
    """
    Nineteen misses in a row are too few to judge a cache by.
    """
    few = monitor(held(cache_misses=19), LoopFacts(), Policy())[1]
    enough = monitor(held(cache_misses=20), LoopFacts(), Policy())[1]

    assert (few.value, few.crossed) == (None, False)
    assert (enough.value, enough.crossed) == (0.0, True)


def test_compression_is_judged_by_tokens_and_not_by_the_number_of_compressions() -> None:
    """
    One large good compression outweighs nine small bad ones.
    """
    facts = LoopFacts(compressions=(*[(10, 10)] * 9, (10_000, 1_000)))

    assert monitor(held(), facts, Policy())[3].value == pytest.approx(1090 / 10_090)


def test_cleanups_are_counted_against_runs_once_there_were_enough() -> None:
    """
    The first nine runs are too few to call cleanups frequent.
    """
    few = monitor(held(), LoopFacts(cleanups=9, runs=9), Policy())[4]

    assert (few.value, few.crossed) == (None, False)


# --- alerts ---------------------------------------------------------------------------------------

FULL = monitor(held(390, 600), LoopFacts(), Policy())


def test_an_alert_fires_on_crossing_and_not_while_crossed() -> None:
    """
    What was crossed before fires no second alert; what is crossed newly fires one.
    """
    first = alerts(FULL, ())
    again = alerts(FULL, [alert.threshold for alert in first])

    assert [a.threshold for a in first] == ["working_memory_utilization", "token_budget_usage"]
    assert again == []
    assert [a.threshold for a in alerts(FULL, ["token_budget_usage"])] == [
        "working_memory_utilization"
    ]


def test_an_alert_says_what_was_measured_and_what_to_do() -> None:
    """
    An alert has the threshold's value, the measured one, the side, and advice in its message.
    """
    _, alert = alerts(FULL, ())

    assert (alert.value, alert.observed, alert.direction) == (0.9, 0.99, "above")
    assert alert.severity == "critical"
    assert alert.message == (
        "token_budget_usage is 0.99, above 0.9: "
        "remove what is no longer needed, or raise the budget"
    )


def test_every_point_has_an_alert() -> None:
    """
    Each of the five points, crossed, gives an alert of its own with a message.
    """
    facts = LoopFacts(compressions=((100, 99),), cleanups=20, runs=10)
    points = monitor(held(390, 600, cache_misses=20), facts, Policy())

    fired = alerts(points, ())

    assert [alert.threshold for alert in fired] == POINTS
    assert all(alert.message.startswith(alert.threshold) for alert in fired)
    assert [a.direction for a in fired] == ["above", "below", "above", "above", "above"]
