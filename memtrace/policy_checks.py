"""What a policy's constants may be. Each refusal says what was given, and what would work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ConfigurationError
from .values import TokenBudget

REPLACEABLE = ("cleanup", "compress", "consolidate", "update_cache")
"""Actions that :attr:`Policy.actions` may replace."""

_SHARES = (
    "compress_above",
    "compress_target",
    "cleanup_above",
    "cleanup_target",
    "deep_target",
    "consolidate_above",
    "working_memory_alert",
    "budget_alert",
    "first_profile_alert",
    "cache_hit_rate_alert",
    "cache_least",
    "cache_most",
    "compression_ratio_alert",
    "stub_share",
    "short_form_share",
    "digest_share",
    "cap_share",
    "least_gain",
)
_COUNTS = {
    "keep_runs": 0,
    "keep_recent": 0,
    "keep_tool_outputs": 0,
    "cache_min_lookups": 1,
    "cache_ttl_times": 1,
    "compression_window": 1,
    "cleanup_window": 1,
    "much_used": 1,
    "ineffective_passes": 1,
    "keep_snapshots": 1,
}
_TIMES = ("summarizer_timeout_s", "hook_slow_s", "archive_after_s", "retention_review_s")
_SWITCHES = ("acts", "judge", "rebalance", "adapt_cache")
_FUNCTIONS = {
    "redactor": "a function from text to text, or None to store secrets as they are",
    "embed": "a function from a list of texts to a list of vectors, or None",
    "summarizer": "a function from messages and the summary so far to a text, or None to extract",
}


def check(policy: Any) -> None:
    """Refuse a policy that cannot work.

    Raises:
        ConfigurationError: A value is outside its range; the message names it.
    """
    if policy.token_budget is not None:
        TokenBudget(policy.token_budget)
    for name in _SHARES:
        value = getattr(policy, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise ConfigurationError(
                f"Policy.{name} must be a share above 0 and up to 1, got {value!r}"
            )
    for name, least in _COUNTS.items():
        value = getattr(policy, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(
                f"Policy.{name} must be a whole number ≥ {least}, got {value!r}"
            )
    for name in _TIMES:
        value = getattr(policy, name)
        if not _number(value) or not value > 0:
            raise ConfigurationError(
                f"Policy.{name} must be a number of seconds above 0, got {value!r}"
            )
    _check_targets(policy)
    for name in _SWITCHES:
        if not isinstance(getattr(policy, name), bool):
            raise ConfigurationError(
                f"Policy.{name} must be True or False, got {getattr(policy, name)!r}"
            )
    for name, what in _FUNCTIONS.items():
        value = getattr(policy, name)
        if value is not None and not callable(value):
            raise ConfigurationError(f"Policy.{name} must be {what}; got {value!r}")
    _check_actions(policy.actions)
    if policy.prices is not None:
        _check_prices(policy.prices)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_actions(actions: Any) -> None:
    if not isinstance(actions, Mapping) or not all(map(callable, actions.values())):
        raise ConfigurationError(
            "Policy.actions must map names of actions to callables, for example "
            f"actions={{'compress': my_compress}}; got {actions!r}"
        )
    unknown = set(actions) - set(REPLACEABLE)
    if unknown:
        raise ConfigurationError(
            f"Policy.actions can replace {', '.join(REPLACEABLE)}, got {', '.join(unknown)}"
        )


def _check_targets(policy: Any) -> None:
    if policy.cache_eviction not in ("lru", "s3fifo"):
        raise ConfigurationError(
            f"Policy.cache_eviction must be 'lru' or 's3fifo', got {policy.cache_eviction!r}"
        )
    if policy.cache_least > policy.cache_most:
        raise ConfigurationError(
            f"Policy.cache_least ({policy.cache_least}) must not be above cache_most "
            f"({policy.cache_most})"
        )
    for name in ("compress", "cleanup"):
        above, target = getattr(policy, f"{name}_above"), getattr(policy, f"{name}_target")
        if target > above:
            raise ConfigurationError(
                f"Policy.{name}_target ({target}) must not be above {name}_above ({above})"
            )


def _check_prices(prices: Any) -> None:
    named = prices if isinstance(prices, Mapping) else {"": prices}
    for name, price in named.items():
        right = isinstance(price, tuple) and len(price) == 3 and all(map(_number, price))
        if not isinstance(name, str) or not right or not _likely(*price):
            raise ConfigurationError(
                "Policy.prices must be a Price(cached_read=0.1, cache_write=1.25, kept_s=300), or "
                "map parts of models' names to such: a share from 0 to 1, one of at least 0 and "
                f"seconds of at least 0; got {name!r}: {price!r}"
            )


def _likely(cached_read: float, cache_write: float, kept_s: float) -> bool:
    return 0 <= cached_read <= 1 and cache_write >= 0 and kept_s >= 0
