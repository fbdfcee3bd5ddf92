"""What is no message: contexts, long-term memory, the cache."""

from __future__ import annotations

import json
from typing import Any

from ..values import Item, Layer
from .draft import Draft, Eligible
from .shorten import extract
from .texts import WORTH


def expired(draft: Draft, eligible: Eligible) -> None:
    """Take out contexts whose time is over. (The cache drops its own.)"""
    now = draft.memory.now()
    for item in list(draft.contexts.values()):
        if item.expires_at is not None and item.expires_at <= now and not item.pinned:
            draft.forget(item)


def cold_cache(draft: Draft, eligible: Eligible) -> None:
    """Take out cached values, the longest unused first: they can be made again."""
    for item in list(draft.cached):
        if draft.relieved:
            return
        if eligible(item):
            draft.forget(item)


def contexts(draft: Draft, eligible: Eligible) -> None:
    """Move contexts to long-term memory: whole if much used, else in short form."""
    for item in sorted(
        draft.contexts.values(), key=lambda item: (item.priority, item.last_used_at)
    ):
        if draft.done:
            return
        if not item.pinned and eligible(item):
            draft.store(item, short_form(draft, item))


def short_form(draft: Draft, item: Item) -> Any:
    """What is kept of a context in long-term memory."""
    policy = draft.policy
    if draft.memory.active_contexts.touches(item.id) >= policy.much_used or item.tokens < WORTH:
        return item.content
    text = item.content if isinstance(item.content, str) else _as_text(item.content)
    return extract(text, policy.short_form_share)


def spill(draft: Draft, eligible: Eligible) -> None:
    """Take the oldest out of long-term memory while it is above its own allocation."""
    limit = draft.memory.budget.limit(Layer.LONG_TERM_MEMORY)
    held = sum(item.tokens for item in draft.stored.values())
    for item in sorted(draft.stored.values(), key=lambda item: (item.priority, item.last_used_at)):
        if held <= limit or draft.relieved:
            return
        if not item.pinned:
            held -= item.tokens
            draft.forget(item)


def long_term(draft: Draft, eligible: Eligible) -> None:
    """Take the oldest out of long-term memory; the originals stay reachable."""
    for item in sorted(draft.stored.values(), key=lambda item: (item.priority, item.last_used_at)):
        if draft.relieved:
            return
        if not item.pinned and eligible(item):
            draft.forget(item)


def _as_text(content: Any) -> str:
    if isinstance(content, (dict, list, tuple)):
        try:
            return json.dumps(content, ensure_ascii=False, indent=0, default=str)
        except (TypeError, ValueError, RecursionError):
            pass
    return str(content)
