"""Digests: one message that stands for whole turns; and turns taken out without one."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from ..messages import rewrite
from ..messages.patch import replaced
from ..values import Item
from .draft import DIGEST, Draft, Eligible
from .names import listed
from .pairs import Unit
from .salient import salient
from .shorten import gist, names_of
from .texts import WORTH, once

MANY_DIGESTS = 8
"""Digests from which on they are gathered into one."""

FULL = 0.7
"""Share of the room for digests from which on they are gathered, so that there is room again."""

LINES_SHARE = 0.25
"""Share of a digest that says what its messages were about; the rest are names. Source: at a half
recorded coding agents had .970 of the names they used in sight at 32,000 tokens, not .978."""


def groups(draft: Draft, eligible: Eligible) -> None:
    """Show one digest in place of whole old turns, oldest first."""
    told = [item for item in draft.history if item is not None and item.kind == DIGEST]
    room = draft.memory.token_budget * draft.policy.digest_share
    full = sum(item.tokens for item in told) > room * FULL
    _fold(draft, eligible, gather=len(told) >= MANY_DIGESTS or full)


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
        if places and 0 <= draft.memory.token_budget - draft.irreducible < 3 * WORTH:
            draft.drop(places)  # what must stay leaves no room even for a line
        elif places:
            draft.fold(places, self._message(places))

    def _message(self, places: list[int]) -> Any:
        draft = self._draft
        items = [item for item in (draft.history[place] for place in places) if item is not None]
        told = sum(i.tokens for i in draft.history if i is not None and i.kind == DIGEST)
        room = 3 * max(0, int(draft.memory.token_budget * draft.policy.digest_share) - told)
        held = sum(len(draft.text(item)) for item in items)
        limit = min(
            room // 2, held if draft.refers else held // 4
        )  # the other half is left for the digests to come
        text = digest_text(
            [line for place in places for line in _line(draft, place).split("\n")],
            sum(len(item.derived_from) or 1 for item in items),
            int(limit * LINES_SHARE) if draft.refers else limit,
        )
        alone = _alone(draft, items, text) if draft.refers else []
        names = listed(alone, limit - len(text))
        text = f"{text}\n{names}" if names else text
        return _spoken(draft, text, "assistant" if _waits(draft, places[0]) else "user")


def _alone(draft: Draft, items: list[Item], told: str) -> list[str]:
    """Names in messages that are in sight nowhere else, and not told of; the latest first."""
    within: Counter[str] = Counter()
    for item in reversed(items):
        within.update(draft.names_of(item))
    here = set(names_of(told))
    sight = draft.sight
    return [name for name, count in within.items() if name not in here and sight[name] <= count]


def digest_text(lines: list[str], count: int, limit_chars: int) -> str:
    """One text for messages that were dropped; of too many lines, the latest are kept."""
    kept: list[str] = []
    room = limit_chars
    for line in reversed([line for line in lines if line]):
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join([HEAD.format(count=count), *reversed(kept)])


_GIST_FROM = 2000
"""Characters of a dropped message that its line in a digest is made from."""

HEAD = "[{count} earlier messages left out]"
"""First line of a digest."""


def _line(draft: Draft, place: int) -> str:
    """What one dropped message was about."""
    item, fact = draft.history[place], draft.facts[place]
    if item is None:
        return ""
    draft.breathe()
    text = draft.text(item)
    if item.kind == DIGEST:
        return text.partition("\n")[2]
    if fact.calls:
        return "; ".join(f"{call.name} {gist(call.arguments_text, 120)}" for call in fact.calls)
    if fact.results:
        found = " ".join(draft.names_in(text)[:12])
        return f"→ {gist(found, 160)}" if found else ""
    return (
        f"{fact.kind}: {gist(salient(text[:_GIST_FROM], 0.25) if len(text) > 400 else text, 200)}"
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
        return _object_like(message, text)
    role = message.get("role")
    if "parts" in message:
        return {"role": role, "parts": [{"text": text}]}
    content = message.get("content")
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and "type" not in first and "text" in first:
        return {"role": role, "content": [{"text": text}]}
    return {"role": role, "content": text}


_IDENTITY = (
    "id",
    "name",
    "tool_call_id",
    "call_id",
    "run_id",
    "message_id",
    "provider_response_id",
)
"""What a framework knows a message by; two messages of one id replace each other in some."""

_SPEAKING = ("user-prompt", "text")
"""Kinds of the parts that a user or a model speaks in; a system prompt's is another."""


def _object_like(message: Any, text: str) -> Any:
    """A framework's own message, that says this and nothing else, and is nobody's before."""
    said = rewrite(message, once(text))
    parts = getattr(message, "parts", None)
    if isinstance(parts, (list, tuple)):
        speaking = [p for p in parts if getattr(p, "part_kind", "") in _SPEAKING]
        if speaking:
            with suppress(TypeError):
                said = replaced(message, ("parts",), [rewrite(speaking[0], once(text))])
    for key in _IDENTITY:
        if getattr(said, key, None) is not None:
            with suppress(TypeError):  # it cannot be without one
                said = replaced(said, (key,), None)
    return said
