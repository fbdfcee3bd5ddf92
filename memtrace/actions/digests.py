"""Digests: one message that stands for whole turns; and turns taken out without one."""

from __future__ import annotations

from typing import Any

from ..messages import rewrite
from .draft import DIGEST, Draft, Eligible
from .pairs import Unit
from .reducers import WORTH, once, text_of
from .shorten import extract, gist

MANY_DIGESTS = 8
"""Digests from which on they are gathered into one."""


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


def dropped(draft: Draft, eligible: Eligible) -> None:
    """Take whole turns and digests out of the view: where even a line about them is too much."""
    for unit in draft.units:
        if draft.relieved:
            return
        if _droppable(draft, unit, eligible):
            draft.drop(unit.places)


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
        held = sum(len(text_of(item.content)) for item in items)
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
    draft.breathe()
    text = text_of(item.content)
    if item.kind == DIGEST:
        return text.partition("\n")[2]
    if fact.calls:
        return "; ".join(f"{call.name} {gist(call.arguments_text, 120)}" for call in fact.calls)
    if fact.results:
        found = " ".join(draft.names_in(text)[:12])
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
        return rewrite(message, once(text))
    role = message.get("role")
    if "parts" in message:
        return {"role": role, "parts": [{"text": text}]}
    content = message.get("content")
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and "type" not in first and "text" in first:
        return {"role": role, "content": [{"text": text}]}
    return {"role": role, "content": text}
