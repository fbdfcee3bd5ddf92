"""How many turns memory has left, from what its last turns added."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, floor, fsum, inf, log, sqrt
from typing import Literal

from ..outlook import Forecast, TurnsLeft
from ..policy import Policy
from ..values import Alert

LEAST, MOST = 3, 64
"""Turns that a forecast is made of. What a turn adds varies as much as it is: fewer say nothing."""

_SPREAD = 1.645
"""Standard deviations that nine in ten lie within, of a normal distribution."""

_DRIFT = 0.3
"""How far a session's second half differs from its first, besides chance. Source: with it the
true value lay inside the spread in 85% of recorded sessions, without it in 70%."""


def forecast(
    held_tokens: int,
    budget_tokens: int,
    added: Sequence[float],
    unit: Literal["reply", "run"] = "reply",
) -> Forecast | None:
    """When memory reaches 80, 90 and 100% of its budget, if turns go on as the last ones did.

    The expected number is what is missing / what a turn adds. Its spread is lognormal: chance in
    the turns to come and in those looked at (variance / n and / k of a renewal process), and drift.

    Args:
        held_tokens: What memory holds now.
        budget_tokens: The whole budget.
        added: Tokens that each of the last turns added, oldest first; the last 64 count.
        unit: What a turn is.

    Returns:
        None: there are fewer than three turns.

    >>> ahead = forecast(4_000, 10_000, [400, 600, 500, 500])
    >>> ahead.tokens_per_turn, ahead.to_80.turns, ahead.to_80.low, ahead.to_80.high
    (500.0, 8.0, 4, 14)
    """
    added = added[-MOST:]
    if len(added) < LEAST:
        return None
    mean = fsum(added) / len(added)
    deviation = sqrt(fsum((tokens - mean) ** 2 for tokens in added) / (len(added) - 1))
    left = (
        _turns_left(share, share * budget_tokens - held_tokens, mean, deviation, len(added))
        for share in (0.8, 0.9, 1.0)
    )
    return Forecast(mean, deviation, len(added), unit, *left)


def _turns_left(
    share: float, missing: float, mean: float, deviation: float, seen: int
) -> TurnsLeft:
    if missing <= 0:
        return TurnsLeft(share, 0.0, 0.0, 0.0)
    if mean <= 0:
        return TurnsLeft(share, inf, inf, inf)
    expected = missing / mean
    varies = (deviation / mean) ** 2
    width = sqrt(log(1 + varies * (1 / max(expected, 1) + 1 / seen) + _DRIFT**2))
    low = floor(expected * exp(-_SPREAD * width))
    high = ceil(expected * exp(_SPREAD * width))
    return TurnsLeft(share, float(ceil(expected)), max(1, low), max(1, high))


def heavy_start(first_tokens: int, budget_tokens: int, policy: Policy) -> Alert | None:
    """What is to be said of what a session's first run found; None: nothing.

    >>> heavy_start(300, 1000, Policy()).message
    'the first profile is 30% of the budget, above 25%: initialize with essentials only'
    """
    share, threshold = first_tokens / budget_tokens, policy.first_profile_alert
    if share <= threshold:
        return None
    message = (
        f"the first profile is {share:.0%} of the budget, above {threshold:.0%}: "
        "initialize with essentials only"
    )
    return Alert("first_profile", threshold, share, "above", "info", message)
