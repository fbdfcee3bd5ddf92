"""Making room: cleanup and compression, which take the same steps to different ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator

from ..errors import ConfigurationError
from ..hooks import schedule
from ..memory import Memory, current_run
from ..policy import Policy
from ..telemetry import metrics, names
from ..values import ActionReport, Item
from .digests import dropped, groups
from .draft import DIGEST, Draft, Eligible
from .perform import Result, Tell, counted, perform, tell_event
from .reducers import (
    Reducer,
    arguments,
    capped,
    cold_cache,
    contexts,
    duplicates,
    expired,
    long_term,
    old_outputs,
    spill,
    squeezed,
)

STRATEGY = "extractive"
"""How memory is made smaller without a model."""

_FIRST: tuple[Reducer, ...] = (expired, cold_cache)
_INACTIVE: tuple[Reducer, ...] = (duplicates, old_outputs, contexts, groups)
_OWN: tuple[Reducer, ...] = (duplicates, old_outputs, groups)
_OTHERS: tuple[Reducer, ...] = (contexts, duplicates, old_outputs, groups)
_RECENT: tuple[Reducer, ...] = (capped, old_outputs, groups)
_LAST: tuple[Reducer, ...] = (squeezed, arguments, dropped)


def trigger_cleanup(
    memory: Memory,
    target: float = 0.70,
    *,
    reason: str = "by hand",
    policy: Policy | None = None,
    least_gain: float = 0.0,
    tell: Tell = schedule,
) -> ActionReport:
    """Make room: expired, cold cache, then all that a compression does, then long-term memory.

    Nothing is removed while the session is under the target. What is replaced or dropped stays
    reachable by its id.

    Args:
        memory: The session.
        target: Share of the whole budget to get down to, above 0 and up to 1.
        reason: Why, for the report, the span and the metric.
        policy: The steps' constants; None: the session's.
        least_gain: Share of the budget that it must free, or it is declined and changes nothing,
            unless it takes memory back under the budget. 0: it does what it can.
        tell: Takes what async hooks still have to do.

    Returns:
        A report: ``no_op`` where it is under the target, ``ineffective`` with the reason where
        it could not be reached.

    Raises:
        ConfigurationError: ``target`` is outside its range.

    >>> from memtrace import Session, trigger_cleanup
    >>> trigger_cleanup(Session()).outcome
    'no_op'
    """
    _check(target)

    def work() -> Result:
        draft = Draft(memory, int(memory.token_budget * target), policy=policy)
        if draft.done:
            return Result()
        _run(draft, _FIRST, lambda item: True, only_inactive=True)
        if not draft.done:
            _reduce(draft, cleanup=True)
        if _not_worth_it(draft, least_gain):
            return _declined(draft)
        result = _committed(draft)
        removed = draft.freed
        with memory.lock:
            memory.record.cleaned()
        counted(names.METRIC_CLEANUPS, 1, reason=_cause(reason))
        counted(names.METRIC_CLEANUP_REMOVED, removed, reason=_cause(reason))
        told = {
            names.CLEANUP_REASON: _cause(reason),
            names.CLEANUP_STRATEGY: STRATEGY,
            names.CLEANUP_REMOVED_ITEMS: result.items,
            names.CLEANUP_REMOVED_TOKENS: removed,
        }
        tell_event(names.EVENT_CLEANUP_COMPLETED, told)
        result.attributes |= told
        result.reason = result.reason or reason
        return result

    return perform(memory, "cleanup", "cleanup", work, tell=tell)


def cleanup_expired_items(memory: Memory, *, tell: Tell = schedule) -> ActionReport:
    """Drop what has expired: cached values, and contexts with a time to live.

    Returns:
        A report: ``no_op`` where nothing has expired.
    """

    def work() -> Result:
        with memory.lock:
            gone = memory.cache._sweep()
            if not memory.active_contexts.due:
                return Result(items=gone, reason="expired")
        draft = Draft(memory, 0)
        expired(draft, lambda item: True)
        gone += draft.commit()
        with memory.lock:
            memory.active_contexts._look_ahead()
        return Result(items=gone, reason="expired")

    return perform(
        memory,
        "cleanup_expired",
        "cleanup",
        work,
        span_name=names.SPAN_CLEANUP,
        tell=tell,
        sweeps=True,
    )


def compress_memory(
    memory: Memory,
    target: float = 0.70,
    *,
    reason: str = "by hand",
    policy: Policy | None = None,
    least_gain: float = 0.0,
    tell: Tell = schedule,
) -> ActionReport:
    """Show shorter forms: of what no recent run uses first, then of what is in use.

    Repeated and superseded tool outputs, old outputs as stubs with the names in them, contexts
    as extracts in long-term memory, whole old turns as a digest. Pins, system prompts, the first
    task and the latest user turn stay as they are. What is replaced stays reachable by its id.

    Args:
        memory: The session.
        target: Share to get down to, above 0 and up to 1: of working memory's allocation and
            of the whole budget, each where it is over.
        reason: Why, for the report and the span.
        policy: The steps' constants; None: the session's.
        least_gain: Share of the budget that it must free, or it is declined and changes nothing,
            unless memory is over budget. 0: it does what it can.
        tell: Takes what async hooks still have to do.

    Returns:
        A report: ``no_op`` where both are under the target, ``ineffective`` with the reason
        where one could not be reached.

    Raises:
        ConfigurationError: ``target`` is outside its range.

    >>> from memtrace import Session, compress_memory
    >>> compress_memory(Session()).outcome
    'no_op'
    """
    _check(target)

    def work() -> Result:
        # Pins stay, so what they hold of working memory is as low as it gets.
        working = max(int(memory.budget.limits[0] * target), memory.profile().pinned_tokens)
        draft = Draft(memory, int(memory.token_budget * target), working, policy)
        if draft.done:
            return Result()
        _reduce(draft, cleanup=False)
        if _not_worth_it(draft, least_gain):
            return _declined(draft)
        result = _committed(draft)
        went_in, came_out = draft.compressed_in, draft.compressed_out
        if went_in:
            ratio = came_out / went_in
            with memory.lock:
                memory.record.compressed(went_in, came_out)
            counted(names.METRIC_COMPRESSION_INPUT, went_in, strategy=STRATEGY)
            counted(names.METRIC_COMPRESSION_OUTPUT, came_out, strategy=STRATEGY)
            series = {names.COMPRESSION_STRATEGY: STRATEGY}
            metrics.record(names.METRIC_COMPRESSION_RATIO, ratio, series, None)
            told = {
                names.COMPRESSION_STRATEGY: STRATEGY,
                names.COMPRESSION_INPUT: went_in,
                names.COMPRESSION_OUTPUT: came_out,
                names.COMPRESSION_RATIO: ratio,
            }
            tell_event(names.EVENT_COMPRESSION_COMPLETED, told)
            result.attributes |= told
        result.reason = result.reason or reason
        return result

    return perform(memory, "compress", "compress", work, tell=tell)


# --- the order in which things go -----------------------------------------------------------------


_working = threading.Lock()
"""Held while a draft is worked out. It is all Python, so two at a time are no faster; and several
workers together would keep an event loop waiting for the interpreter one after the other."""


def _after_fork() -> None:
    global _working
    _working = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _reduce(draft: Draft, *, cleanup: bool) -> None:
    """Every step on what is inactive; only if that does not suffice, on what is in use."""
    with _working:
        _reduce_in_order(draft, cleanup=cleanup)


def _reduce_in_order(draft: Draft, *, cleanup: bool) -> None:
    for eligible, steps in _levels(draft):
        if steps is _RECENT:
            _soften(draft)
        _run(draft, steps, eligible)
        if draft.done:
            return
        if cleanup:
            _run(draft, (spill,), eligible)
    if cleanup:
        _run(draft, (long_term, cold_cache), lambda item: True)
    if draft.total > draft.memory.token_budget:
        # Above the budget a model call would fail: here even what this run's passes made goes.
        _run(draft, _LAST, lambda item: True)
        draft.fresh = frozenset()
        _run(draft, _LAST, lambda item: True)


def _soften(draft: Draft) -> None:
    """Spare the last messages where even without them the target could not be reached.

    Giving them all up would not reach it either. So they keep a tenth of the room that what must
    stay leaves in the budget, and the rest is left for what comes next.
    """
    if draft.irreducible > draft.target_total:
        draft.reached = False
        room = max(0, draft.memory.token_budget - draft.irreducible)
        draft.target_total = draft.irreducible + room // 10


def _levels(draft: Draft) -> Iterator[tuple[Eligible, tuple[Reducer, ...]]]:
    recent, active = draft.recent, draft.active_runs
    run = current_run()
    outer = set(draft.open_runs)
    while run is not None and run.run_id in outer and run.memory is draft.memory:
        # The innermost open run pays for itself before it takes what outer runs still use.
        outer.discard(run.run_id)
        break

    def inactive(item: Item) -> bool:
        return item.run_id not in active and item.id not in recent

    def own(item: Item) -> bool:
        return item.run_id not in outer and item.id not in recent

    def others(item: Item) -> bool:
        return item.id not in recent

    yield inactive, _INACTIVE
    yield own, _OWN
    yield others, _OTHERS
    # What this run's passes made is spared so far. In a long run its stubs must go in the end;
    # its digests stay: no run puts the same message into two.
    draft.fresh = frozenset(
        item.id
        for item in draft.history
        if item is not None and item.kind == DIGEST and item.id in draft.fresh
    )
    yield others, _OTHERS
    yield (lambda item: True), _RECENT


def _run(
    draft: Draft, steps: Iterable[Reducer], eligible: Eligible, *, only_inactive: bool = False
) -> None:
    active = draft.active_runs

    def may(item: Item) -> bool:
        if item.id in draft.fresh:
            return False
        return eligible(item) and not (only_inactive and item.run_id in active)

    for step in steps:
        if draft.done:
            return
        step(draft, may)


def _not_worth_it(draft: Draft, least_gain: float) -> bool:
    """Whether a pass would rewrite what a model has read for too little."""
    budget = draft.memory.token_budget
    needed = draft.memory_before > budget >= draft.irreducible
    # Moving contexts out of working memory rewrites nothing that a model has read.
    return not (needed or draft.crowded) and draft.freed < least_gain * budget


def _declined(draft: Draft) -> Result:
    draft.discard()
    reason = f"it would free {draft.freed} tokens: too little for rewriting what a model has read"
    if draft.irreducible <= draft.wanted:
        return Result(declined=True, reached=False, reason=reason)
    # No pass of any size would reach it: that is no judgement, and worth an alarm.
    return Result(reached=False, reason=f"{_shortfall(draft)}; {reason}")


def _committed(draft: Draft) -> Result:
    items = draft.commit()
    if draft.done and draft.reached:
        return Result(items)
    return Result(items, reached=False, reason=_shortfall(draft))


def _shortfall(draft: Draft) -> str:
    """What stands in the way of a target, with its figures."""
    rest = sum(item.tokens for item in draft.history if item is not None) - draft.kept_turns
    over = draft.total > draft.memory.token_budget
    return (
        f"{'unreachable' if over else 'target not reached'}: {draft.total} tokens are left of a "
        f"target of {draft.wanted}; pinned {draft.pinned}, system prompt, first task and latest "
        f"user turn {draft.kept_turns}, agent states {draft.states}, last outputs {rest}"
    )


def _cause(reason: str) -> str:
    """A reason as a metric's attribute: few values, never a figure."""
    for word in ("budget", "working memory", "compression"):
        if word in reason:
            return word.replace(" ", "_")
    return "manual" if reason == "by hand" else "other"


def _check(target: float) -> None:
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target <= 1:
        raise ConfigurationError(f"target must be a share above 0 and up to 1, got {target!r}")
