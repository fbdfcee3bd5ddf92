"""What is to be expected of a session's memory: turns left before it is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class TurnsLeft(NamedTuple):
    """Turns until memory reaches a share of its budget.

    Attributes:
        share: Of the whole budget, 0–1.
        turns: The most likely number, ≥ 0; 0: it is there already; ``inf``: it does not grow.
        low: Of nine in ten sessions like this one it takes at least so many.
        high: And at most so many.
    """

    share: float
    turns: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """When memory will be full, if it goes on as it went.

    Args:
        tokens_per_turn: Tokens that a turn adds, on average of those looked at.
        deviation: Standard deviation of what a turn adds, in tokens.
        looked_at: How many turns were looked at, 3–64.
        unit: What a turn is: a model's ``reply`` in the history, or a ``run`` where the history
            has none.
        to_80: Turns left before 80% of the budget: about where passes begin.
        to_90: The same before 90%.
        to_100: The same before all of it.
    """

    tokens_per_turn: float
    deviation: float
    looked_at: int
    unit: Literal["reply", "run"]
    to_80: TurnsLeft
    to_90: TurnsLeft
    to_100: TurnsLeft
