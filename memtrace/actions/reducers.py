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
from .pairs import Unit
from .shorten import cap, extract, gist, names_of, stub

MANY_DIGESTS = 8
"""Digests from which on they are gathered into one."""

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
            draft.replace(place, rewrite(item.content, _once(note), results_only=True))


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


def groups(draft: Draft, eligible: Eligible) -> None:
    """Show one digest in place of whole old turns, oldest first."""
    told = sum(item is not None and item.kind == DIGEST for item in draft.history)
    _fold(draft, eligible, gather=told >= MANY_DIGESTS)


def _fold(draft: Draft, eligible: Eligible, gather: bool) -> None:
    digest = _Digest(draft)
    for unit in draft.units:
        if draft.relieved:
            break
        first = draft.history[unit.places[0]]
        # An earlier digest stays as it is, because what stands before a change is read from the
        # provider's prompt cache; only where there are too many are they gathered into one.
        stays = not gather and first is not None and first.kind == DIGEST
        if not stays and _droppable(draft, unit, eligible):
            digest.take(unit)
        elif any(draft.history[place] is not None for place in unit.places):
            digest.close()
    digest.close()


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


def dropped(draft: Draft, eligible: Eligible) -> None:
    """Take whole turns and digests out of the view: where even a line about them is too much."""
    for unit in draft.units:
        if draft.relieved:
            return
        if _droppable(draft, unit, eligible):
            draft.drop(unit.places)


# --- outputs --------------------------------------------------------------------------------------


def _outputs(draft: Draft) -> Iterator[tuple[int, list[Call | None], str]]:
    """Messages with tool outputs worth reducing: position, the calls they answer, their text.

    What was reduced is left out. A result answers the latest call of its id that is still open.
    """
    calls: dict[str, list[Call]] = {}
    for place, fact in enumerate(draft.facts):
        asked = [calls[i].pop() if calls.get(i) else None for i in fact.results]
        if asked and _whole(draft, place):
            yield place, asked, _text_of(draft.history[place].content)  # type: ignore[union-attr]
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


def _text_of(message: Any) -> str:
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
            seen.update(names_of(_text_of(item.content)))
    return seen


def _set_aside(draft: Draft, place: int, seen: Counter[str]) -> None:
    item = draft.history[place]
    assert item is not None
    policy = draft.policy

    def shortened(text: str) -> str:
        if len(text) < 3 * WORTH:
            return text
        found = names_of(text)
        # Names that stand nowhere else come first; what is seen elsewhere needs no saving.
        alone = [name for name in found if seen[name] <= 1]
        return stub(text, policy.stub_share, item.id, item.tokens, alone)

    if draft.replace(place, rewrite(item.content, shortened, results_only=True)):
        now = draft.history[place]
        assert now is not None
        seen.subtract(set(names_of(_text_of(item.content))) - set(names_of(_text_of(now.content))))


def _cap(draft: Draft, place: int, limit_tokens: int) -> None:
    item = draft.history[place]
    assert item is not None
    chars = max(64, int(len(_text_of(item.content)) * limit_tokens / item.tokens))
    for _ in range(3):
        content = rewrite(item.content, partial(cap, limit_chars=chars, item_id=item.id))
        if content is item.content:
            return
        if draft.memory._count(content) <= limit_tokens * 1.5 or chars <= 64:
            break
        chars //= 2
    draft.replace(place, content)


def _once(note: str) -> Callable[[str], str]:
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


# --- digests --------------------------------------------------------------------------------------


def _droppable(draft: Draft, unit: Unit, eligible: Eligible) -> bool:
    items = [draft.history[place] for place in unit.places]
    if all(item is None for item in items):
        return False
    # An answer may come late, but not to a call that the user spoke after long ago.
    if unit.open_calls and not (
        unit.given_up and all(item is None or item.id not in draft.recent for item in items)
    ):
        return False
    # Where a unit was folded in this draft, its first place holds the digest, the others nothing.
    return all(
        item is None or (place not in draft.protected and eligible(item))
        for place, item in zip(unit.places, items, strict=True)
    )


class _Digest:
    """Gathers neighbouring units, and folds them into one message when they end."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._places: list[int] = []
        self._freed = 0

    def take(self, unit: Unit) -> None:
        """Fold this unit too, and stop gathering once that frees enough."""
        self._places += unit.places
        items = (self._draft.history[place] for place in unit.places)
        self._freed += sum(item.tokens for item in items if item is not None)
        if self._freed * 0.9 >= self._draft.missing:
            self.close()

    def close(self) -> None:
        places, self._places, self._freed = sorted(self._places), [], 0
        draft = self._draft
        if places and draft.memory.token_budget - draft.irreducible < 3 * WORTH:
            draft.drop(places)  # what must stay leaves no room even for a line
        elif places:
            draft.fold(places, self._message(places))

    def _message(self, places: list[int]) -> Any:
        draft = self._draft
        items = [item for item in (draft.history[place] for place in places) if item is not None]
        told = sum(i.tokens for i in draft.history if i is not None and i.kind == DIGEST)
        room = 3 * max(0, int(draft.memory.token_budget * draft.policy.digest_share) - told)
        held = sum(len(_text_of(item.content)) for item in items)
        text = digest_text(
            [_line(draft, place) for place in places],
            sum(len(item.derived_from) or 1 for item in items),
            min(room // 2, held // 4),  # the other half is left for the digests to come
        )
        return _spoken(draft, text, "assistant" if _waits(draft, places[0]) else "user")


def digest_text(lines: list[str], count: int, limit_chars: int) -> str:
    """One text for messages that were dropped; of too many lines, the latest are kept."""
    kept: list[str] = []
    room = limit_chars
    for line in reversed([line for line in lines if line]):
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join([_HEAD.format(count=count), *reversed(kept)])


_GIST_FROM = 2000
"""Characters of a dropped message that its line in a digest is made from."""

_HEAD = "[{count} earlier messages left out]"


def _line(draft: Draft, place: int) -> str:
    """What one dropped message was about."""
    item, fact = draft.history[place], draft.facts[place]
    if item is None:
        return ""
    text = _text_of(item.content)
    if item.kind == DIGEST:
        return text.partition("\n")[2]
    if fact.calls:
        return "; ".join(f"{call.name} {gist(call.arguments_text, 120)}" for call in fact.calls)
    if fact.results:
        found = " ".join(names_of(text)[:12])
        return f"→ {gist(found, 160)}" if found else ""
    return (
        f"{fact.kind}: {gist(extract(text[:_GIST_FROM], 0.25) if len(text) > 400 else text, 200)}"
    )


def _waits(draft: Draft, end: int) -> bool:
    """Whether a call before this place waits for its result: no user's message may come between."""
    waiting: list[str] = []
    for place, fact in enumerate(draft.facts[:end]):
        item = draft.history[place]
        if item is None or item.kind == DIGEST:
            continue
        for identity in fact.results:
            if identity in waiting:
                waiting.remove(identity)
        if fact.kind in ("user", "system"):
            waiting.clear()
        waiting += [call.id for call in fact.calls]
    return bool(waiting)


def _spoken(draft: Draft, text: str, role: str) -> Any:
    """A message that says a text, of the form the conversation's own messages have."""
    for place, fact in enumerate(draft.facts):
        item = draft._found[place]
        if fact.kind == role and item is not None and not fact.calls and not fact.signed:
            return _like(item.content, text)
    return {"role": role, "content": text}


def _like(message: Any, text: str) -> Any:
    if not isinstance(message, dict):
        return rewrite(message, _once(text))
    role = message.get("role")
    if "parts" in message:
        return {"role": role, "parts": [{"text": text}]}
    content = message.get("content")
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and "type" not in first and "text" in first:
        return {"role": role, "content": [{"text": text}]}
    return {"role": role, "content": text}
