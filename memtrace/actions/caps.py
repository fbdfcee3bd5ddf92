"""Caps: the middle cut out of single messages, fresh ones included, where nothing else suffices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..messages import rewrite, rewrite_arguments
from ..values import Item
from .draft import DIGEST, Draft, Eligible
from .names import listed
from .outputs import may, whole
from .texts import WORTH


def capped(draft: Draft, eligible: Eligible) -> None:
    """Cut the middle out of single huge messages, the largest first, as far as it takes."""
    _cap_largest(draft, eligible, draft.missing)


def fresh_capped(draft: Draft, eligible: Eligible) -> None:
    """Cap huge messages among the last ones, where the last ones alone are past the target.

    They keep half of the room, so that not all that is older goes for the sake of one output.
    """
    last = older = 0
    for place, item in enumerate(draft.history):
        if item is not None and place not in draft.protected:
            if item.id in draft.recent:
                last += item.tokens
            else:
                older += item.tokens
    room = draft.target_total - (draft.total - last - older)
    if last > room > 0:

        def huge(item: Item) -> bool:
            return item.id in draft.recent and item.tokens > room * HUGE and eligible(item)

        _cap_largest(draft, huge, min(last - int(room * FRESH_SHARE), draft.missing))


MOST = 2
"""Times the policy's share that a capped message may have: a fresh one is not cut again in its run,
so what is left of it stands in the way of all that comes."""

HUGE = 0.25
"""Share of the room from which on a fresh message is huge: a few of them fill it."""

FRESH_SHARE = 0.5
"""Share of the room that the last messages keep where they are past it."""


def _cap_largest(draft: Draft, eligible: Eligible, missing: int) -> None:
    """Cut down the largest messages to one level, but none below the policy's share."""
    least = max(WORTH, int(draft.memory.token_budget * draft.policy.cap_share))
    sizes = sorted(
        (
            (item.tokens, place)
            for place, item in enumerate(draft.history)
            if item is not None and item.tokens > least
            if whole(draft, place) and may(draft, place, eligible)
        ),
        reverse=True,
    )
    level = _level([tokens for tokens, _ in sizes], missing)
    limit = max(least, min(MOST * least, level))
    for tokens, place in sizes:
        if draft.relieved or tokens <= limit:
            return
        _cap(draft, place, limit)


def _level(sizes: list[int], missing: int) -> int:
    """What to cut the largest down to, so that together they give what is missing.

    >>> _level([100, 50, 10], 60), _level([100, 50, 10], 500)
    (45, 0)
    """
    for count in range(1, len(sizes) + 1):
        following = sizes[count] if count < len(sizes) else 0
        given = sum(sizes[:count]) - count * following
        if given >= missing:
            return following + (given - missing) // count
    return 0


def squeezed(draft: Draft, eligible: Eligible) -> None:
    """Cut every message that may be cut to a few lines, the largest first."""
    sizes = [(item.tokens, place) for place, item in enumerate(draft.history) if item is not None]
    for tokens, place in sorted(sizes, reverse=True):
        if draft.relieved or tokens <= WORTH:
            return
        item = draft.history[place]
        if item is None or item.kind == DIGEST or item.id in draft.made:
            continue  # what this run cut already is not cut a second time
        if may(draft, place, eligible):
            _cap(draft, place, WORTH)


def arguments(draft: Draft, eligible: Eligible) -> None:
    """Cut long texts inside calls' arguments, which stay valid."""
    for place, fact in enumerate(draft.facts):
        if draft.relieved:
            return
        item = draft.history[place]
        if item is not None and fact.calls and may(draft, place, eligible):
            short = partial(cap, limit_chars=2 * WORTH, item_id=item.id)
            draft.replace(place, rewrite_arguments(item.content, short))


def _cap(draft: Draft, place: int, limit_tokens: int) -> None:
    item = draft.history[place]
    assert item is not None
    source = draft.source(item).id
    chars = max(64, int(len(draft.text(item)) * limit_tokens / item.tokens))
    own, sight = set(draft.names_of(item)), draft.sight

    def cut(text: str) -> str:
        alone = [name for name in draft.names_in(text) if sight[name] <= (name in own)]
        return cap(text, chars, source, alone)

    for _ in range(3):
        content = rewrite(item.content, cut)
        if content is item.content:
            return
        if draft.memory._count(content) <= limit_tokens * 1.5 or chars <= 64:
            break
        chars //= 2
    draft.replace(place, content)


def cap(text: str, limit_chars: int, item_id: str, names: Sequence[str] = ()) -> str:
    """The beginning and the end of a text, and between them what was left out and its id.

    Args:
        text: Any text.
        limit_chars: Characters that it may have.
        item_id: What to ask the original by.
        names: Names in it that are worth keeping; those that were cut out may take half the room.
    """
    if len(text) <= limit_chars:
        return text
    note = f"[… {len(text) - limit_chars} characters left out, id {item_id} …]"
    room = max(0, limit_chars - len(note) - 2)
    head, tail = _ends(text, room)
    kept = listed([name for name in names if name not in head and name not in tail], room // 2)
    if kept:
        head, tail = _ends(text, room - len(kept) - 1)
        note = f"{note}\n{kept}"
    return f"{head}\n{note}\n{tail}"


def _ends(text: str, room: int) -> tuple[str, str]:
    """The first two thirds and the last third of what there is room for."""
    tail = room - room * 2 // 3
    return text[: room * 2 // 3], text[-tail:] if tail > 0 else ""
