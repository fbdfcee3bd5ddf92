"""Remedies that change what a session goes by: its budget, its policy, its cache, how it counts."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

from ..actions import update_cache
from ..budgeting import adopt, allot
from ..findings import Remedy
from ..layers import Contexts
from ..session import Session
from ..tokens import Calibration
from ..values import Item

_BATCH = 0.50
"""Where passes stop once they are to be few: a third of the budget is free for what comes."""


def raise_budget(session: Session, total: float, reason: str, expected: float | None) -> Remedy:
    """More tokens in all; whether the model has room for them, only its owner knows."""
    budget = replace(session.budget, total=max(ceil(total), session.budget.total))
    return Remedy(
        "raise_budget",
        f"raise the budget to {budget.total:,} tokens, if the model's window has room for them",
        expected,
        lambda: _done(allot(session, budget, reason)),
    )


def lower_budget(session: Session, unseen_tokens: int, expected: float) -> Remedy:
    """Leave room for what prompts carry beside memory."""
    left = session.budget.total - unseen_tokens

    def run() -> None:
        allot(session, replace(session.budget, total=left), "prompts carry more than memory")
        session.record.unseen_tokens += unseen_tokens

    return Remedy(
        "reserve",
        f"lower the budget by the {unseen_tokens:,} tokens that prompts carry beside memory: a "
        "system prompt and tools that the session does not hold",
        expected if left > 0 else None,
        run if left > 0 else None,
    )


def rebalance(session: Session, layer: str, name: str = "rebalance") -> Remedy:
    """A larger allocation for one layer, taken from those that use theirs least."""
    held = session.profile()
    new = session.budget.rebalance(held)
    gains = new.limit(layer) > session.budget.limit(layer)
    reason = f"{layer} uses {held[layer]:,} of {session.budget.limit(layer):,} tokens"
    return Remedy(
        name,
        f"allot {layer} {new.limit(layer):,} tokens instead of {session.budget.limit(layer):,}",
        held[layer] / max(1, new.limit(layer)),
        (lambda: _done(allot(session, new, reason))) if gains else None,
    )


def other_policy(
    session: Session, name: str, description: str, expected: float | None, **constants: object
) -> Remedy:
    """Other constants for the loop, from now on."""
    policy = session.policy.but(**constants)
    return Remedy(name, description, expected, lambda: adopt(session, policy))


def one_batch(session: Session, expected: float | None = None) -> Remedy:
    """Passes that are seldom, and free much at once."""
    policy = session.policy
    return other_policy(
        session,
        "one_batch",
        f"let each pass free down to {_BATCH:.0%} of the budget, and at least a fifth: few passes "
        "that free much, instead of many that free little",
        expected,
        compress_above=max(0.80, policy.compress_above),
        compress_target=min(_BATCH, policy.compress_target),
        cleanup_above=max(0.85, policy.cleanup_above),
        cleanup_target=min(_BATCH, policy.cleanup_target),
        least_gain=max(0.2, policy.least_gain),
    )


def unpin(session: Session, items: list[Item], expected: float) -> Remedy:
    """Let pinned contexts be shortened as others are; the system prompt and tools stay pinned."""

    def run() -> None:
        with session.lock:
            contexts: Contexts = session.active_contexts
            for item in items:
                if contexts.get(item.id) is item:
                    contexts._discard(item.id, gone=True)
                    contexts._insert(replace(item, pinned=False))

    names = ", ".join(item.key or item.id for item in items[:3])
    return Remedy("unpin", f"unpin {names}: a pass may then shorten them", expected, run)


def calibrate(session: Session, factor: float, expected: float) -> Remedy:
    """Count as the provider does: each count times what it billed for a counted token."""

    def run() -> None:
        with session.lock:
            scale = session._calibration.factor * factor
            session._counter = _Estimate(session.counter)
            session._counting = None
            session._calibration = Calibration(1_000_000, round(1_000_000 * scale))
            for layer in session.layers:
                layer._recount()
            billed = session.record.billed
            scaled = [c._replace(counted=round(c.counted * factor)) for c in billed]
            billed.clear()
            billed.extend(scaled)

    return Remedy(
        "calibrate",
        f"multiply every count by {factor:.2f}, as the provider bills another tokenizer's tokens",
        expected,
        run,
    )


class _Estimate:
    """A counter whose counts are no longer taken to be exact."""

    exact = False

    def __init__(self, counter: object) -> None:
        self._counter = counter
        self.name: str = counter.name  # type: ignore[attr-defined]

    def count_text(self, text: str) -> int:
        """Tokens of a text."""
        counted: int = self._counter.count_text(text)  # type: ignore[attr-defined]
        return counted


def set_cache(
    session: Session, name: str, text: str, rate: float, limit_tokens: int, ttl_factor: float
) -> Remedy:
    """Another size, and other times to live, for the cache."""

    def run() -> None:
        cache = session.cache
        share = min(limit_tokens / session.token_budget, 0.5)
        shares = session.budget.shares
        if share > shares["cache"]:
            # What the cache gains, the others give in proportion to what they have.
            others = sum(shares.values()) - shares["cache"]
            keep = (sum(shares.values()) - share) / others
            new: dict[str, Any] = {name: old * keep for name, old in shares.items()}
            new["cache"] = share
            allot(session, replace(session.budget, **new), f"cache: {text}")
        with session.lock:
            cache._ttl_factor = ttl_factor
            cache._stretch(1)
            cache._forget_accesses()

    return Remedy(name, text, rate, run)


def preload(session: Session) -> Remedy:
    """Have the loaders run whose values are not held."""
    text = "register loaders for what is asked for often, and load it before it is"
    loads = bool(session.cache._loaders.by_key)
    return Remedy("preload", text, None, (lambda: update_cache(session)) if loads else None)


def reviewed(session: Session) -> Remedy:
    """Note that what is kept was looked at."""

    def run() -> None:
        session.record.reviewed_at = at = session.now()
        if session.durable:
            session.journal.store.upkeep.note(session.id, reviewed_at=at)

    text = "look at what is kept, and note that it was reviewed now; nothing is removed"
    return Remedy("mark_reviewed", text, 0.0, run)


def _done(_changed: object) -> None:
    """What an action would report is in the budget's log."""
