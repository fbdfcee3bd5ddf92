"""The policy: every constant of the loop, checked where it is given."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from memtrace import ConfigurationError, Policy, Session, TokenBudget
from memtrace.policy import POLICY_FIELDS, REPLACEABLE

SHARES = [
    "compress_above",
    "compress_target",
    "cleanup_above",
    "cleanup_target",
    "deep_target",
    "consolidate_above",
    "stub_share",
    "short_form_share",
    "digest_share",
    "cap_share",
    "working_memory_alert",
    "budget_alert",
    "first_profile_alert",
    "cache_hit_rate_alert",
    "cache_least",
    "cache_most",
    "compression_ratio_alert",
    "least_gain",
]
COUNTS = {
    "keep_runs": -1,
    "keep_recent": -1,
    "keep_tool_outputs": -1,
    "cache_min_lookups": 0,
    "cache_ttl_times": 0,
    "compression_window": 0,
    "cleanup_window": 0,
    "much_used": 0,
    "ineffective_passes": 0,
    "keep_snapshots": 0,
}
SECONDS = ["summarizer_timeout_s", "hook_slow_s", "archive_after_s", "retention_review_s"]


def test_the_defaults_are_the_designs() -> None:
    """
    The thresholds and targets of the design's table hold where nothing else is said.
    """
    policy = Policy()

    assert (policy.cleanup_above, policy.cleanup_target) == (0.85, 0.70)
    assert (policy.compress_above, policy.compress_target) == (0.80, 0.70)
    assert (policy.working_memory_alert, policy.budget_alert) == (0.80, 0.90)
    assert (policy.cache_hit_rate_alert, policy.cache_min_lookups) == (0.60, 20)
    assert (policy.compression_ratio_alert, policy.compression_window) == (0.90, 10)
    assert (policy.keep_runs, policy.keep_recent, policy.ineffective_passes) == (3, 10, 2)
    assert (policy.archive_after_s, policy.retention_review_s) == (86_400, 90 * 86_400)


def test_every_constant_is_documented() -> None:
    """
    Each field of the policy has its line in the docstring.
    """
    doc = inspect.getdoc(Policy) or ""

    assert tuple(field.name for field in dataclasses.fields(Policy)) == POLICY_FIELDS
    assert [name for name in POLICY_FIELDS if f"\n    {name}: " not in doc] == []


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("value", [0, -0.1, 1.01, float("nan"), float("inf"), "0.5", None, True])
def test_a_share_is_above_zero_and_up_to_one(name: str, value: Any) -> None:
    """
    A share outside its range, or no number, is refused in one sentence that names both.
    """
    with pytest.raises(ConfigurationError) as caught:
        Policy(**{name: value})

    assert str(caught.value) == (
        f"Policy.{name} must be a share above 0 and up to 1, got {value!r}"
    )


@pytest.mark.parametrize(("name", "value"), COUNTS.items())
def test_a_count_is_a_whole_number_from_its_least(name: str, value: int) -> None:
    """
    A count below its least, a fraction, text or a truth value is refused by name.
    """
    for wrong in (value, 1.5, "3", None, True):
        with pytest.raises(ConfigurationError, match=f"Policy.{name} must be a whole number ≥ "):
            Policy(**{name: wrong})  # type: ignore[arg-type]
    assert getattr(Policy(**{name: value + 1}), name) == value + 1  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0, -1, float("nan"), "1", None, True])
def test_a_time_is_a_number_of_seconds_above_zero(name: str, value: Any) -> None:
    """
    A time that is no number of seconds above 0 is refused by name.
    """
    with pytest.raises(ConfigurationError, match=f"Policy.{name} must be a number of seconds"):
        Policy(**{name: value})


@pytest.mark.parametrize("name", ["compress", "cleanup"])
def test_a_target_is_not_above_its_threshold(name: str) -> None:
    """
    An action that could never reach its target is refused; one at its threshold is not.
    """
    with pytest.raises(ConfigurationError) as caught:
        Policy(**{f"{name}_above": 0.5, f"{name}_target": 0.6})

    assert str(caught.value) == (f"Policy.{name}_target (0.6) must not be above {name}_above (0.5)")
    Policy(**{f"{name}_above": 0.5, f"{name}_target": 0.5})


@pytest.mark.parametrize("value", [0, -5, 1.5, "9", True])
def test_a_token_budget_is_a_whole_number_above_zero(value: Any) -> None:
    """
    A policy's budget is checked as a session's is.
    """
    with pytest.raises(ConfigurationError, match="token budget must be a whole number"):
        Policy(token_budget=value)


def test_an_action_that_cannot_be_replaced_is_refused() -> None:
    """
    A replacement under a name that is no action is refused, and the names there are told.
    """
    with pytest.raises(ConfigurationError) as caught:
        Policy(actions={"tidy_up": print})

    assert str(caught.value) == (
        "Policy.actions can replace cleanup, compress, consolidate, update_cache, got tidy_up"
    )


@pytest.mark.parametrize("actions", [{"cleanup": 5}, {"compress": None}, None, ["cleanup"]])
def test_a_replacement_that_could_not_be_called_is_refused(actions: Any) -> None:
    """
    What is no mapping from names to callables is refused where it is given.
    """
    with pytest.raises(ConfigurationError, match=r"Policy\.actions"):
        Policy(actions=actions)


@pytest.mark.parametrize("name", REPLACEABLE)
def test_each_action_can_be_replaced(name: str) -> None:
    """
    Cleanup, compression, consolidation and the cache's update take a callable of the caller's.
    """
    assert Policy(actions={name: print}).actions[name] is print


def test_acts_is_a_truth_value() -> None:
    """
    Anything but True and False for ``acts`` is refused by name.
    """
    with pytest.raises(ConfigurationError, match=r"Policy\.acts must be"):
        Policy(acts="no")  # type: ignore[arg-type]


def test_observe_measures_and_does_not_act() -> None:
    """
    ``Policy.observe()`` is the default policy but for acting, and takes the same constants.
    """
    assert Policy.observe() == Policy(acts=False)
    assert Policy.observe(budget_alert=0.5) == Policy(acts=False, budget_alert=0.5)
    assert Policy.observe(acts=True).acts is False


def test_a_policy_is_frozen_and_changed_in_a_copy() -> None:
    """
    A constant is changed by ``but``, which checks it like a new policy's.
    """
    policy = Policy()

    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.keep_runs = 5  # type: ignore[misc]
    assert policy.but(keep_runs=5) == Policy(keep_runs=5)
    with pytest.raises(ConfigurationError, match=r"Policy\.keep_runs"):
        policy.but(keep_runs=-1)


def test_thresholds_in_tokens_are_those_of_the_budget() -> None:
    """
    Looking whether memory is under pressure compares tokens with the policy's shares of them.
    """
    lines = Policy().lines(TokenBudget(1000))

    assert (lines.whole, lines.working, lines.consolidate, lines.budget) == (800, 320, 280, 1000)
    assert not lines.pressed((320, 0, 0, 0, 480))
    assert lines.pressed((321, 0, 0, 0, 0))
    assert lines.pressed((0, 0, 0, 0, 801))


def test_a_sessions_budget_may_come_from_its_policy() -> None:
    """
    Where a session names no budget, its policy's holds.
    """
    assert Session(policy=Policy(token_budget=500)).token_budget == 500
    assert Session(token_budget=700, policy=Policy(token_budget=500)).token_budget == 700
