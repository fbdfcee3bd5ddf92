"""The values that flow through memtrace: frozen, complete, and clear about what cannot be."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from memtrace import (
    ActionReport,
    Alert,
    ConfigurationError,
    Event,
    Item,
    Layer,
    MemoryProfile,
    MemtraceError,
    Policy,
    Session,
    StaleSessionError,
    TokenBudget,
    VocabularyError,
)

KEYS = [
    "working_memory",
    "long_term_memory",
    "cache",
    "agent_states",
    "conversation_history",
    "total_tokens",
    "utilization_rate",
]
PROFILE = MemoryProfile(TokenBudget(1_000), (400, 30, 20, 10, 240), (4, 3, 2, 1, 6), 3, 1)


# --- the profile --------------------------------------------------------------------------------


def test_profile_has_exactly_seven_keys() -> None:
    """
    A profile is a read-only mapping of the five layers, the total and the utilization.
    """
    assert list(PROFILE) == KEYS
    assert isinstance(PROFILE, Mapping)
    assert dict(PROFILE) == dict(zip(KEYS, (400, 30, 20, 10, 240, 700, 0.7), strict=True))
    assert {key: getattr(PROFILE, key) for key in KEYS} == dict(PROFILE)
    with pytest.raises(KeyError):
        PROFILE["token_budget"]


def test_profile_knows_its_parts() -> None:
    """
    Beside the keys, a profile tells usage by layer, what a model call carries, what is kept.
    """
    assert PROFILE.token_budget == 1_000
    assert PROFILE.in_context_tokens == 400 + 10 + 240
    assert PROFILE.stored_tokens == 30 + 20
    assert list(PROFILE.layers) == KEYS[:5]
    assert PROFILE.layers["working_memory"] == (400, 4, 400, 1.0)
    assert PROFILE.working_memory_utilization == 1.0
    assert PROFILE.cache_hit_rate == 0.75


def test_cache_hit_rate_is_none_before_any_lookup() -> None:
    """
    Before any lookup there is no hit rate.
    """
    assert MemoryProfile(TokenBudget(1), (0,) * 5).cache_hit_rate is None


@pytest.mark.parametrize("name", [*KEYS, "layers", "new"])
def test_profile_is_frozen(name: str) -> None:
    """
    No attribute and no key of a profile can be set or deleted.
    """
    with pytest.raises(AttributeError):
        setattr(PROFILE, name, 0)
    with pytest.raises(AttributeError):
        delattr(PROFILE, name)
    with pytest.raises(TypeError):
        PROFILE[name] = 0  # type: ignore[index]
    with pytest.raises(TypeError):
        PROFILE.layers["cache"] = 0  # type: ignore[index]


def test_profiles_compare_by_value() -> None:
    """
    Equal profiles are equal, hash alike and survive copying; so does a dict of their keys.
    """
    other = MemoryProfile(TokenBudget(1_000), (400, 30, 20, 10, 240), (4, 3, 2, 1, 6), 3, 1)

    assert PROFILE == other == copy.deepcopy(other)
    assert hash(PROFILE) == hash(other)
    assert dict(PROFILE) == PROFILE
    assert MemoryProfile(TokenBudget(999), (400, 30, 20, 10, 240)) != PROFILE


def test_profile_over_an_allocation_of_nothing() -> None:
    """
    A layer that is allotted nothing is at infinity if it holds something, else at zero.
    """
    budget = TokenBudget(100, working_memory=0)

    assert MemoryProfile(budget, (1, 0, 0, 0, 0)).working_memory_utilization == float("inf")
    assert MemoryProfile(budget, (0, 0, 0, 0, 0)).working_memory_utilization == 0.0


# --- budgets ------------------------------------------------------------------------------------


def test_default_allocations_sum_to_one() -> None:
    """
    By default the five layers share the whole budget as documented.
    """
    budget = TokenBudget(100_000)

    assert budget.shares == dict(zip(KEYS, (0.40, 0.15, 0.10, 0.10, 0.25), strict=False))
    assert sum(budget.limits) == 100_000
    assert budget.limit("cache") == budget.limit(Layer.CACHE) == 10_000


@pytest.mark.parametrize("total", [0, -1, 1.5, "128_000", None, True, float("nan")])
def test_budget_that_is_no_number_of_tokens(total: Any) -> None:
    """
    A total that is no whole number above 0 is refused, with what would work.
    """
    with pytest.raises(ConfigurationError, match=r"above 0, got .*Session\(token_budget=128_000\)"):
        TokenBudget(total)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "half", None])
def test_allocation_that_is_no_share(share: Any) -> None:
    """
    An allocation outside 0–1 is refused by its layer's name.
    """
    with pytest.raises(ConfigurationError, match="the cache allocation must be a share from 0 to"):
        TokenBudget(100, cache=share)


def test_allocations_above_one() -> None:
    """
    Allocations that sum to more than 1 are refused with their sum and every share.
    """
    with pytest.raises(ConfigurationError, match=r"sum to 1\.200.*working_memory=0\.6"):
        TokenBudget(100, working_memory=0.6)
    assert sum(TokenBudget(100, working_memory=0.2).limits) == 80


def test_unknown_layer() -> None:
    """
    A layer that does not exist is named, together with those that do.
    """
    with pytest.raises(ConfigurationError, match=r"'working'.*working_memory, long_term_memory"):
        TokenBudget(100).limit("working")


# --- the others ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        TokenBudget(100),
        Item("c1", Layer.CACHE, "cache", "text", 1),
        ActionReport("compress", "effective", 100, 60),
        Alert("token_budget_usage", 0.9, 0.95),
        Event("after_run"),
        Policy(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_frozen(value: Any) -> None:
    """
    No field of a value can be changed, and no new one set.
    """
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        value.new = 1


def test_layer_is_its_own_name() -> None:
    """
    A layer can be used wherever its name can, and prints as it.
    """
    assert [str(layer) for layer in Layer] == KEYS[:5]
    assert Layer.CACHE == "cache"
    assert {"cache": 1}[Layer.CACHE] == 1


def test_report_tells_what_it_freed() -> None:
    """
    A report's freed tokens are those before less those after.
    """
    assert ActionReport("compress", "effective", 100, 60).tokens_freed == 40


@pytest.mark.parametrize(
    ("constants", "says"),
    [
        ({"token_budget": 0}, "above 0, got 0"),
        ({"keep_runs": -1}, "Policy.keep_runs must be a whole number ≥ 0, got -1"),
        ({"keep_recent": 1.5}, "Policy.keep_recent must be a whole number ≥ 0, got 1.5"),
        ({"hook_slow_s": 0}, "Policy.hook_slow_s must be a number of seconds above 0, got 0"),
    ],
)
def test_policy_that_cannot_work(constants: dict[str, Any], says: str) -> None:
    """
    A constant outside its range is refused by name, with what was given.
    """
    with pytest.raises(ConfigurationError, match=says):
        Policy(**constants)


def test_errors_are_one_tree() -> None:
    """
    Everything raised on purpose is a MemtraceError, and what callers would catch anyway.
    """
    assert issubclass(ConfigurationError, (MemtraceError, ValueError))
    assert issubclass(VocabularyError, (MemtraceError, RuntimeError))
    assert issubclass(StaleSessionError, (MemtraceError, RuntimeError))
    with pytest.raises(ValueError, match="above 0"):
        Session(token_budget=0)
