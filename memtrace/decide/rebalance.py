"""Whether a budget's allocations are worth moving, and why."""

from __future__ import annotations

from collections.abc import Iterable

from ..values import LAYER_NAMES, LayerTokens, TokenBudget

WORTH = 0.02
"""Share of the budget that a layer must gain for a move by itself to be worth its notice."""


def peaks(profiles: Iterable[LayerTokens]) -> dict[str, int]:
    """The most that each layer held, by layer name.

    >>> peaks([(10, 0, 0, 0, 5), (3, 0, 0, 1, 9)])["conversation_history"]
    9
    """
    return {
        name: max(held, default=0)
        for name, held in zip(LAYER_NAMES, zip(*profiles, strict=True), strict=True)
    }


def rebalance(budget: TokenBudget, usage: dict[str, int]) -> tuple[TokenBudget, str] | None:
    """The budget moved toward what is used, and why; None: not worth it.

    >>> budget, reason = rebalance(TokenBudget(1000), {"working_memory": 390, "cache": 10})
    >>> budget.limit("working_memory"), reason
    (688, 'working_memory uses 390 of 400 tokens; conversation_history 0 of 250')
    """
    new = budget.rebalance(usage)
    gained = {name: new.shares[name] - share for name, share in budget.shares.items()}
    most = max(gained, key=lambda name: gained[name])
    least = min(gained, key=lambda name: gained[name])
    if gained[most] < WORTH:
        return None
    return new, (
        f"{most} uses {usage.get(most, 0)} of {budget.limit(most)} tokens; "
        f"{least} {usage.get(least, 0)} of {budget.limit(least)}"
    )
