"""The reducers: each one thing that makes memory smaller, stopping once the target is reached.

Each takes a draft and says by ``eligible`` which messages or contexts it may touch at this level
of need; what is protected it never touches. They run oldest first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..messages import Call, rewrite, rewrite_arguments, texts
from ..values import Item, Layer
from .draft import DIGEST, Draft, Eligible
from .shorten import cap, extract, names_of, stub

Reducer = Callable[[Draft, Eligible], None]

WORTH = 48
"""Tokens below which an output is left alone: its stub would be no smaller."""


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


def duplicates(draft: Draft, eligible: Eligible) -> None:
    """Of equal tool outputs and repeated calls, show only the last one whole.

    A later result of the same call replaces the earlier: what a file said before is superseded
    by what it says now.
    """
    texts_seen: set[str] = set()
    calls_seen: set[tuple[str, str]] = set()
    superseded: list[int] = []
    for place, asked, text in reversed(list(_outputs(draft))):
        made = {_signature(call) for call in asked if call is not None}
        # Several results in one message give way together, so each must be told later.
        if text in texts_seen or (made and None not in asked and made <= calls_seen):
            superseded.append(place)
        texts_seen.add(text)
        calls_seen |= made
    for place in reversed(superseded):
        if draft.relieved:
            return
        item = draft.history[place]
        if item is not None and _may(draft, place, eligible):
            note = f"[same call as a later one: {item.tokens} tokens, id {item.id}]"
            draft.replace(place, rewrite(item.content, once(note), results_only=True))


def old_outputs(draft: Draft, eligible: Eligible) -> None:
    """Show a stub with names in place of each tool output but the last few."""
    places = [place for place, fact in enumerate(draft.facts) if fact.results]
    kept = draft.policy.keep_tool_outputs
    old = [
        place
        for place in (places[:-kept] if kept else places)
        if _whole(draft, place) and _may(draft, place, eligible)
    ]
    if not old:
        return
    seen = _mentions(draft)
    for place in old:
        if draft.relieved:
            return
        _set_aside(draft, place, seen)


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


def capped(draft: Draft, eligible: Eligible) -> None:
    """Cut the middle out of single huge messages, the largest first."""
    limit = max(WORTH, int(draft.memory.token_budget * draft.policy.cap_share))
    sizes = [
        (item.tokens, place)
        for place, item in enumerate(draft.history)
        if item is not None and item.tokens > limit
    ]
    for _, place in sorted(sizes, reverse=True):
        if draft.relieved:
            return
        item = draft.history[place]
        if item is None or item.derived_from or not _may(draft, place, eligible):
            continue
        _cap(draft, place, limit)


def squeezed(draft: Draft, eligible: Eligible) -> None:
    """Cut every message that may be cut to a few lines, the largest first."""
    sizes = [(item.tokens, place) for place, item in enumerate(draft.history) if item is not None]
    for tokens, place in sorted(sizes, reverse=True):
        if draft.relieved or tokens <= WORTH:
            return
        item = draft.history[place]
        if item is None or item.kind == DIGEST or item.id in draft.made:
            continue  # what this run cut already is not cut a second time
        if _may(draft, place, eligible):
            _cap(draft, place, WORTH)


def arguments(draft: Draft, eligible: Eligible) -> None:
    """Cut long texts inside calls' arguments, which stay valid."""
    for place, fact in enumerate(draft.facts):
        if draft.relieved:
            return
        item = draft.history[place]
        if item is not None and fact.calls and _may(draft, place, eligible):
            short = partial(cap, limit_chars=2 * WORTH, item_id=item.id)
            draft.replace(place, rewrite_arguments(item.content, short))


# --- outputs --------------------------------------------------------------------------------------


def _outputs(draft: Draft) -> Iterator[tuple[int, list[Call | None], str]]:
    """Messages with tool outputs worth reducing: position, the calls they answer, their text.

    What was reduced is left out. A result answers the latest call of its id that is still open.
    """
    calls: dict[str, list[Call]] = {}
    for place, fact in enumerate(draft.facts):
        asked = [calls[i].pop() if calls.get(i) else None for i in fact.results]
        draft.breathe()
        if asked and _whole(draft, place):
            yield place, asked, text_of(draft.history[place].content)  # type: ignore[union-attr]
        for call in fact.calls:
            calls.setdefault(call.id, []).append(call)


def _whole(draft: Draft, place: int) -> bool:
    """Whether a message is worth reducing, and was not reduced before."""
    item = draft.history[place]
    return item is not None and not item.derived_from and item.tokens >= WORTH


def _signature(call: Call) -> tuple[str, str]:
    try:
        arguments = json.dumps(json.loads(call.arguments_text), sort_keys=True)
    except ValueError:
        arguments = call.arguments_text
    return call.name, arguments


def text_of(message: Any) -> str:
    """All the text of a message."""
    return "\n".join(part for part in texts(message) if isinstance(part, str))


def _as_text(content: Any) -> str:
    if isinstance(content, (dict, list, tuple)):
        try:
            return json.dumps(content, ensure_ascii=False, indent=0, default=str)
        except (TypeError, ValueError, RecursionError):
            pass
    return str(content)


def _mentions(draft: Draft) -> Counter[str]:
    """In how many of the messages shown each name stands."""
    seen: Counter[str] = Counter()
    for item in draft.history:
        if item is not None:
            seen.update(draft.names_in(text_of(item.content)))
    return seen


def _set_aside(draft: Draft, place: int, seen: Counter[str]) -> None:
    item = draft.history[place]
    assert item is not None
    policy = draft.policy

    def shortened(text: str) -> str:
        if len(text) < 3 * WORTH:
            return text
        found = draft.names_in(text)
        # Names that stand nowhere else come first; what is seen elsewhere needs no saving.
        alone = [name for name in found if seen[name] <= 1]
        return stub(text, policy.stub_share, item.id, item.tokens, alone)

    if draft.replace(place, rewrite(item.content, shortened, results_only=True)):
        now = draft.history[place]
        assert now is not None
        gone = set(draft.names_in(text_of(item.content)))
        seen.subtract(gone.difference(names_of(text_of(now.content))))


def _cap(draft: Draft, place: int, limit_tokens: int) -> None:
    item = draft.history[place]
    assert item is not None
    chars = max(64, int(len(text_of(item.content)) * limit_tokens / item.tokens))
    for _ in range(3):
        content = rewrite(item.content, partial(cap, limit_chars=chars, item_id=item.id))
        if content is item.content:
            return
        if draft.memory._count(content) <= limit_tokens * 1.5 or chars <= 64:
            break
        chars //= 2
    draft.replace(place, content)


def once(note: str) -> Callable[[str], str]:
    """The note in place of the first text, an ellipsis in place of the others.

    Not nothing: a provider refuses an empty block.
    """
    left = [note]
    return lambda _text: left.pop() if left else "…"


def _may(draft: Draft, place: int, eligible: Eligible) -> bool:
    item = draft.history[place]
    return (
        item is not None
        and place not in draft.protected
        and not draft.facts[place].signed
        and eligible(item)
    )
