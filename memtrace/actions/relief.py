"""Making room: cleanup and compression, which take the same steps to different ends."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigurationError
from ..hooks import schedule
from ..memory import Memory
from ..policy import Policy
from ..telemetry import metrics, names
from ..values import ActionReport
from .draft import Draft
from .judged import Judgement, judged
from .perform import Result, Tell, counted, perform, tell_event
from .pipeline import FIRST, reduce, run
from .stored import expired
from .summaries import summarized
from .view import Pace

STRATEGY = "extractive"
"""How memory is made smaller without a model."""


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
        whole = int(memory.token_budget * target)
        draft = Draft(memory, whole, policy=policy, pace=_pace(least_gain))
        if draft.done:
            return Result()
        run(draft, FIRST, lambda item: True, only_inactive=True)
        if not draft.done:
            reduce(draft, cleanup=True)
        judgement = judged(draft, least_gain)
        if _not_worth_it(draft, least_gain, judgement):
            return _declined(draft, judgement)
        result = _committed(draft)
        removed = draft.freed
        with memory.lock:
            memory.record.cleaned()
        counted(names.METRIC_CLEANUPS, 1, reason=_cause(reason))
        counted(names.METRIC_CLEANUP_REMOVED, removed, reason=_cause(reason))
        told = {
            names.CLEANUP_REASON: _cause(reason),
            names.CLEANUP_STRATEGY: result.attributes.pop(names.COMPRESSION_STRATEGY, STRATEGY),
            names.CLEANUP_REMOVED_ITEMS: result.items,
            names.CLEANUP_REMOVED_TOKENS: removed,
        }
        tell_event(names.EVENT_CLEANUP_COMPLETED, told)
        result.attributes |= told
        result.reason = result.reason or reason
        return _told(result, judgement)

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
    gently: bool = False,
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
        gently: Only shorten: each message stays in its place, with the names that are in sight
            nowhere else, and the last messages stay whole. Quick enough before every model call.
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
        whole = int(memory.token_budget * target)
        draft = Draft(memory, whole, working, policy, pace="brisk" if gently else _pace(least_gain))
        if draft.done:
            return Result()
        reduce(draft, cleanup=False, gently=gently)
        judgement = None if gently else judged(draft, least_gain)
        if _not_worth_it(draft, least_gain, judgement):
            return _declined(draft, judgement)
        result = _committed(draft)
        went_in, came_out = draft.compressed_in, draft.compressed_out
        if went_in:
            ratio = came_out / went_in
            with memory.lock:
                memory.record.compressed(went_in, came_out)
            strategy = result.attributes.get(names.COMPRESSION_STRATEGY, STRATEGY)
            counted(names.METRIC_COMPRESSION_INPUT, went_in, strategy=strategy)
            counted(names.METRIC_COMPRESSION_OUTPUT, came_out, strategy=strategy)
            series = {names.COMPRESSION_STRATEGY: strategy}
            metrics.record(names.METRIC_COMPRESSION_RATIO, ratio, series, None)
            told = {
                names.COMPRESSION_STRATEGY: strategy,
                names.COMPRESSION_INPUT: went_in,
                names.COMPRESSION_OUTPUT: came_out,
                names.COMPRESSION_RATIO: ratio,
            }
            tell_event(names.EVENT_COMPRESSION_COMPLETED, told)
            result.attributes |= told
        result.reason = result.reason or reason
        return _told(result, judgement)

    return perform(memory, "compress", "compress", work, tell=tell)


def _pace(least_gain: float) -> Pace:
    """A pass of the loop has a least gain, and a model call that waits for it; by hand none has."""
    return "hurried" if least_gain else "thorough"


def _not_worth_it(draft: Draft, least_gain: float, judgement: Judgement | None) -> bool:
    """Whether a pass would rewrite what a model has read for too little."""
    budget = draft.memory.token_budget
    needed = draft.memory_before > budget >= draft.irreducible
    # Moving contexts out of working memory rewrites nothing that a model has read.
    if needed or draft.crowded:
        return False
    if draft.freed < least_gain * budget:
        return True
    return judgement is not None and judgement.decision == "declined"


def _declined(draft: Draft, judgement: Judgement | None) -> Result:
    draft.discard()
    reason = f"it would free {draft.freed} tokens: too little for rewriting what a model has read"
    told: dict[str, Any] = {}
    if judgement is not None and judgement.decision == "declined":
        reason = f"it does not pay: {judgement.worth}"
        told = judgement.attributes
        counted(names.METRIC_JUDGEMENTS, 1, decision=judgement.decision)
    if draft.irreducible <= draft.wanted:
        return Result(declined=True, reached=False, reason=reason, attributes=told)
    # No pass of any size would reach it: that is no judgement, and worth an alarm.
    return Result(reached=False, reason=f"{_shortfall(draft)}; {reason}", attributes=told)


def _told(result: Result, judgement: Judgement | None) -> Result:
    """A pass that was made, with what it is worth."""
    if judgement is not None:
        decision, worth = judgement
        counted(names.METRIC_JUDGEMENTS, 1, decision=decision)
        counted(names.METRIC_REREAD, worth.reread_tokens, decision=decision)
        counted(names.METRIC_NET, worth.net_tokens, decision=decision)
        result.attributes |= judgement.attributes
        result.reason = f"{result.reason}; {worth}"
    return result


def _committed(draft: Draft) -> Result:
    told = summarized(draft)
    items = draft.commit()
    if draft.done and draft.reached:
        return Result(items, attributes=told)
    return Result(items, reached=False, reason=_shortfall(draft), attributes=told)


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
