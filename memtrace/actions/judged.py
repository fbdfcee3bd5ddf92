"""Judging a pass by what it costs and saves, from the session's own past."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ..decide.worth import Worth, calls_ahead, worth
from ..memory import Memory
from ..prices import Price, price_of
from ..telemetry import names
from ..values import Item
from .draft import Draft
from .pipeline import deepen

Decision = Literal["chosen", "forced", "declined"]

_ENOUGH_BILLS = 3
"""Bills without a cached token after which a provider is taken to have no prompt cache."""


class Judgement(NamedTuple):
    """What a pass is worth, and whether it is to be made."""

    decision: Decision
    worth: Worth

    @property
    def attributes(self) -> dict[str, Any]:
        """For the action's span."""
        return {
            names.ACTION_DECISION: self.decision,
            names.ACTION_NET: self.worth.net_tokens,
            names.CACHE_SAVED: self.worth.saved_tokens,
            names.CACHE_REREAD: self.worth.reread_tokens,
            names.CACHE_CALLS: self.worth.calls,
        }


class Past(NamedTuple):
    """A session's model calls, as far as its history tells: a reply is one.

    Args:
        calls: How many there were.
        tokens_per_call: What each of them added, with what came in before the next.
        last: Ids of the last reply's messages and of those after it, as they were received: a
            model has been sent what stands before them.
        last_at: Seconds since the epoch when the last reply came.
    """

    calls: int
    tokens_per_call: float
    last: frozenset[str]
    last_at: float


def judged(draft: Draft, least_gain: float) -> Judgement | None:
    """Judge a pass that is worked out, and let it go on where it is made all the same.

    Returns:
        None where nothing is to be judged: it is called by hand, the policy does not judge, no
        model was called yet, or the pass changes nothing of the conversation.
    """
    if not least_gain or not draft.policy.judge or not _rewrites(draft):
        return None
    past = _past(draft.memory)
    if past is None:
        return None
    price = price_of(draft.memory.record.model, draft.policy.prices)
    _go_on(draft, past, price, least_gain)
    found = [item for item in draft._found if item is not None]
    left = [item for item in draft.history if item is not None]
    saved = sum(item.tokens for item in found) - sum(item.tokens for item in left)
    line = int(draft.memory.token_budget * draft.policy.budget_alert)
    ahead = calls_ahead(past.calls, past.tokens_per_call, saved, line - draft.memory_before)
    caches = _caches(draft.memory)
    value = worth(
        _sent(found, past),
        found,
        left,
        ahead,
        price if caches else price.cold,
        cached=caches and draft.memory.now() - past.last_at <= price.kept_s,
    )
    if draft.crowded or draft.memory_before > line:
        return Judgement("forced", value)
    return Judgement("chosen" if value.pays else "declined", value)


def _rewrites(draft: Draft) -> bool:
    return any(a is not b for a, b in zip(draft._found, draft.history, strict=True))


def _go_on(draft: Draft, past: Past, price: Price, least_gain: float) -> None:
    """Go on to the deep target, if the calls to come save by it what a pass must gain at least."""
    budget = draft.memory.token_budget
    deep = int(budget * draft.policy.deep_target)
    further = draft.target_total - deep
    if not draft.relieved or further <= 0:
        return
    if further * price.cached_read * past.calls >= least_gain * budget:
        deepen(draft, deep)


def _past(memory: Memory) -> Past | None:
    """The calls so far; None: no model was sent anything, or none has replied yet."""
    with memory.lock:
        received = list(memory.history._received) if memory._sent_tokens else []
    calls, first, last = 0, len(received), 0
    replied = False
    for place, item in enumerate(received):
        replies = item.kind == "assistant"
        if replies and not replied:  # several in a row are one reply
            calls, first, last = calls + 1, min(first, place), place
        replied = replies
    if not calls:
        return None
    added = sum(item.tokens for item in received[first:])
    ids = frozenset(item.id for item in received[last:])
    return Past(calls, added / calls, ids, received[last].created_at)


def _sent(found: list[Item], past: Past) -> list[Item]:
    """What the last model call was sent, of what is shown now."""
    for place, item in enumerate(found):
        if item.id in past.last or (item.derived_from and item.derived_from[0] in past.last):
            return found[:place]
    return found


def _caches(memory: Memory) -> bool:
    """False: the provider told of several prompts that nothing of them was cached."""
    with memory.lock:
        known = [call.cached for call in memory.record.billed if call.cached is not None]
    return len(known) < _ENOUGH_BILLS or any(known)
