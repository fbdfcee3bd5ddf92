"""Changing a session's budget or policy while it lives, and noting each change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.trace import get_current_span

from .decide.rebalance import peaks, rebalance
from .findings import BudgetChange
from .memory import Memory
from .policy import Policy
from .telemetry import names, spans
from .values import Layer, LayerTokens, TokenBudget

LOOKED_BACK = 20
"""Runs whose peaks say what a layer needs, where nobody says it."""


def allot(memory: Memory, budget: TokenBudget, reason: str) -> BudgetChange | None:
    """Have a session held against another budget from now on; None: it is the same.

    The change is noted in the session's budget log, which its store keeps with the next
    snapshot, and told as the event ``memtrace.budget.changed``.

    Args:
        memory: The session.
        budget: The new one.
        reason: Why, in a sentence.
    """
    with memory.lock:
        if budget == memory.budget:
            return None
        change = BudgetChange(memory.now(), memory.budget, budget, reason)
        memory.budget = budget
        memory.lines = memory.policy.lines(budget)
        memory._totals.limits = budget.limits
        memory.cache._resize(budget.limit(Layer.CACHE))
        memory.record.budget_log.append(change)
    _tell(change)
    return change


def adopt(memory: Memory, policy: Policy) -> None:
    """Have a session's loop go by other constants from now on."""
    with memory.lock:
        memory.policy = policy
        memory.lines = policy.lines(memory.budget)
        memory.record.adopt(policy)


def rebalanced(
    memory: Memory, usage: Mapping[str, Any] | None = None, *, peak: LayerTokens | None = None
) -> BudgetChange | None:
    """Move a session's allocations toward what is used; None: it is not worth it.

    Args:
        memory: The session.
        usage: Tokens by layer; None: the most that each layer held over the last runs.
        peak: What a run left before it was tidied, which no row of the run log has.
    """
    if usage is None:
        with memory.lock:
            held = memory.measure()
            usage = peaks([*_late(memory.journal.run_rows), held, peak or held])
        found = rebalance(memory.budget, dict(usage))
        return None if found is None else allot(memory, *found)
    new = memory.budget.rebalance(usage)
    return allot(memory, new, "by hand, toward what is used")


def _late(rows: Iterable[tuple[Any, ...]]) -> list[LayerTokens]:
    """What each of the last runs left."""
    return [row[7] for row in list(rows)[-LOOKED_BACK:] if row[7] is not None]


def _tell(change: BudgetChange) -> None:
    span = get_current_span()
    if span.is_recording():
        told: dict[str, Any] = {
            names.BUDGET_OLD: [change.old.total, *change.old.limits],
            names.BUDGET_NEW: [change.new.total, *change.new.limits],
            names.BUDGET_REASON: change.reason,
        }
        spans.event(span, names.EVENT_BUDGET_CHANGED, told)
