"""The five monitoring points, and the alerts that fire when one is crossed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from ..policy import Policy
from ..values import Alert, MemoryProfile, Point


class LoopFacts(NamedTuple):
    """What the loop remembers of itself.

    ``compressions``: (tokens in, tokens out) of the last compressions. ``cleanups``: how many
    cleanups there were in the last ``runs`` runs.
    """

    compressions: tuple[tuple[int, int], ...] = ()
    cleanups: int = 0
    runs: int = 0


def monitor(profile: MemoryProfile, facts: LoopFacts, policy: Policy) -> tuple[Point, ...]:
    """The five points, in the order of the design's table; every point always present."""
    lookups = profile.cache_lookups
    went_in = sum(before for before, _ in facts.compressions)
    enough_runs = facts.runs >= policy.cleanup_window
    return (
        _above(
            "working_memory_utilization",
            profile.working_memory_utilization,
            policy.working_memory_alert,
        ),
        _point(
            "cache_hit_rate",
            profile.cache_hit_rate if lookups >= policy.cache_min_lookups else None,
            policy.cache_hit_rate_alert,
            "below",
        ),
        _above("token_budget_usage", profile.utilization_rate, policy.budget_alert),
        _above(
            "compression_effectiveness",
            sum(after for _, after in facts.compressions) / went_in if went_in else None,
            policy.compression_ratio_alert,
        ),
        _above(
            "cleanup_frequency",
            facts.cleanups / facts.runs if enough_runs else None,
            1.0,
        ),
    )


def _above(name: str, value: float | None, threshold: float) -> Point:
    return _point(name, value, threshold, "above")


def _point(
    name: str, value: float | None, threshold: float, direction: Literal["above", "below"]
) -> Point:
    crossed = value is not None and (
        value > threshold if direction == "above" else value < threshold
    )
    return Point(name, value, threshold, direction, crossed)


_ADVICE = {
    "working_memory_utilization": "compress or remove inactive contexts, or allot it more",
    "cache_hit_rate": "give frequent values a longer time to live, or the cache more tokens",
    "token_budget_usage": "remove what is no longer needed, or raise the budget",
    "compression_effectiveness": "what is compressed is dense already: raise the budget instead",
    "cleanup_frequency": "runs leave more than the budget holds: raise it, or keep less",
}


def alerts(points: tuple[Point, ...], crossed_before: Collection[str]) -> list[Alert]:
    """Alerts for the points that are crossed now and were not before."""
    fired = []
    for point in points:
        if point.crossed and point.name not in crossed_before and point.value is not None:
            severity: Literal["warning", "critical"] = (
                "critical" if point.name == "token_budget_usage" else "warning"
            )
            message = (
                f"{point.name} is {point.value:.3g}, {point.direction} {point.threshold:g}: "
                f"{_ADVICE[point.name]}"
            )
            fired.append(
                Alert(point.name, point.threshold, point.value, point.direction, severity, message)
            )
    return fired
