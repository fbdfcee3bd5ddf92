"""Moving shares of a budget toward what is used: arithmetic over plain numbers."""

from __future__ import annotations

from collections.abc import Mapping

STEP, LEAST, MOST = 0.5, 0.05, 0.70
"""How far a move goes of the way to what is used, and what a share stays above and below. Source:
half of the way and back again is where it was after two moves in opposite directions; a twentieth
is what a cache or a plan needs to be of use."""

FINEST = 0.001
"""Shares are whole multiples of it."""


def moved(
    shares: Mapping[str, float],
    used: Mapping[str, float],
    *,
    step: float = STEP,
    least: float = LEAST,
    most: float = MOST,
) -> dict[str, float]:
    """Shares that are nearer to what is used; their sum stays what it was.

    Args:
        shares: Share of the whole by name, 0–1.
        used: What is used by name, in any unit; a name that is missing uses nothing.
        step: How far to go of the way, 0–1.
        least: No share goes below this, unless it is below already.
        most: No share goes above this, unless it is above already.

    >>> moved({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 100, "b": 300})
    {'a': 0.375, 'b': 0.525, 'c': 0.1}
    """
    whole, using = sum(shares.values()), sum(used.get(name, 0.0) for name in shares)
    if not using or not whole:
        return dict(shares)
    low = {name: min(least, share) for name, share in shares.items()}
    high = {name: max(most, share) for name, share in shares.items()}
    wanted = {
        name: share + step * (whole * used.get(name, 0.0) / using - share)
        for name, share in shares.items()
    }
    new = _within(wanted, low, high, whole)
    fine = {name: round(round(share / FINEST) * FINEST, 6) for name, share in new.items()}
    # What rounding leaves goes where a thousandth matters least.
    widest = max(fine, key=lambda name: fine[name])
    fine[widest] = round(fine[widest] + whole - sum(fine.values()), 6)
    return fine


def _within(
    wanted: Mapping[str, float], low: Mapping[str, float], high: Mapping[str, float], whole: float
) -> dict[str, float]:
    """What is wanted, each held within its bounds, the others sharing what that leaves."""
    new = {name: min(max(share, low[name]), high[name]) for name, share in wanted.items()}
    for _ in range(len(new)):
        rest = whole - sum(new.values())
        room = {n: (high[n] - s if rest > 0 else s - low[n]) for n, s in new.items()}
        total = sum(room.values())
        if abs(rest) < FINEST / 100 or total <= 0:
            break
        part = min(1.0, abs(rest) / total) * (1 if rest > 0 else -1)
        new = {name: share + part * room[name] for name, share in new.items()}
    return new
