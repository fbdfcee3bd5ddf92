"""The pipeline: which reducers run, in which order, and on what.

Each reducer takes a draft, and says by ``eligible`` which messages or contexts it may touch at
this level of need; what is protected it never touches. They run oldest first, and stop once the
target is reached.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ..memory import current_run
from ..values import Item
from .caps import arguments, capped, fresh_capped, squeezed
from .digests import dropped, groups
from .draft import DIGEST, Draft, Eligible
from .folding import logs, repeated_lines
from .lossless import lossless
from .prose import prose
from .stored import cold_cache, contexts, expired, long_term, spill
from .stubs import old_arguments, old_outputs
from .superseded import superseded

Reducer = Callable[[Draft, Eligible], None]

FIRST: tuple[Reducer, ...] = (expired, cold_cache)
GENTLE: tuple[Reducer, ...] = (
    superseded,
    lossless,
    repeated_lines,
    logs,
    old_outputs,
    old_arguments,
)
"""Each message stays in its place, and the names in it in sight."""

_INACTIVE: tuple[Reducer, ...] = (*GENTLE, contexts, prose, groups)
_OWN: tuple[Reducer, ...] = (*GENTLE, groups)
_OTHERS: tuple[Reducer, ...] = (contexts, *GENTLE, groups)
_RECENT: tuple[Reducer, ...] = (capped, *GENTLE, groups)
_LAST: tuple[Reducer, ...] = (squeezed, arguments, dropped)

_working = threading.Lock()
"""Held while a draft is worked out. It is all Python, so two at a time are no faster; and several
workers together would keep an event loop waiting for the interpreter one after the other."""


def _after_fork() -> None:
    global _working
    _working = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def reduce(draft: Draft, *, cleanup: bool, gently: bool = False) -> None:
    """Every step on what is inactive; only if that does not suffice, on what is in use.

    Args:
        draft: Memory, and what is to become of it.
        cleanup: What long-term memory and the cache hold goes too.
        gently: Only the steps that leave each message in its place, and none on the last ones.
    """
    with _working:
        if gently:
            _reduce_gently(draft)
        else:
            _reduce_in_order(draft, cleanup=cleanup)


def deepen(draft: Draft, target_total: int) -> None:
    """Go on beyond a target that is reached, with what is not among the last messages.

    Contexts stay: they are no part of what a model has read and would have to read again.
    """
    reached, working = draft.target_total, draft.target_working
    draft.target_total, draft.target_working = target_total, None
    draft.fresh = draft.made  # for a saving alone nothing is made shorter twice in a run
    with _working:
        for eligible, steps in islice(_levels(draft), 4):  # what follows takes the last ones
            run(draft, [step for step in steps if step is not contexts], eligible)
    draft.target_total, draft.target_working = reached, working


def _reduce_gently(draft: Draft) -> None:
    active, recent = draft.active_runs, draft.recent
    run(draft, GENTLE, lambda item: item.id not in recent)
    run(draft, (prose,), lambda item: item.run_id not in active and item.id not in recent)


def _reduce_in_order(draft: Draft, *, cleanup: bool) -> None:
    for eligible, steps in _levels(draft):
        if steps is _RECENT:
            if draft.irreducible > draft.memory.token_budget:
                draft.reached = (
                    False  # no pass can make such a call fit: nothing is given up for it
                )
                break
            _soften(draft)
        run(draft, steps, eligible)
        if draft.done:
            return
        if cleanup:
            run(draft, (spill,), eligible)
    if cleanup:
        run(draft, (long_term, cold_cache), lambda item: True)
    if draft.total > draft.memory.token_budget >= draft.irreducible:
        # Above the budget a model call would fail: here even what this run's passes made goes.
        run(draft, _LAST, lambda item: True)
        draft.fresh = frozenset()
        run(draft, _LAST, lambda item: True)


def _soften(draft: Draft) -> None:
    """Spare the last messages where even without them the target could not be reached.

    Giving them all up would not reach it either. So they keep a tenth of the room that what must
    stay leaves in the budget, and the rest is left for what comes next.
    """
    if draft.irreducible > draft.target_total:
        draft.reached = False
        room = draft.memory.token_budget - draft.irreducible
        draft.target_total = draft.irreducible + room // 10


def _levels(draft: Draft) -> Iterator[tuple[Eligible, tuple[Reducer, ...]]]:
    recent, active = draft.recent, draft.active_runs
    innermost = current_run()
    outer = set(draft.open_runs)
    if innermost is not None and innermost.memory is draft.memory:
        # The innermost open run pays for itself before it takes what outer runs still use.
        outer.discard(innermost.run_id)

    def inactive(item: Item) -> bool:
        return item.run_id not in active and item.id not in recent

    def own(item: Item) -> bool:
        return item.run_id not in outer and item.id not in recent

    def others(item: Item) -> bool:
        return item.id not in recent

    yield (lambda item: item.run_id not in outer), (fresh_capped,)
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


def run(
    draft: Draft, steps: Iterable[Reducer], eligible: Eligible, *, only_inactive: bool = False
) -> None:
    """Run steps on what is eligible, until the target is reached."""
    active = draft.active_runs

    def may(item: Item) -> bool:
        if item.id in draft.fresh:
            return False
        return eligible(item) and not (only_inactive and item.run_id in active)

    for step in steps:
        if draft.done:
            return
        step(draft, may)
