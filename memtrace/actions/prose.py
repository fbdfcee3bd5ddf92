"""Prose of inactive messages, by its telling sentences and the names in the rest of it."""

from __future__ import annotations

from collections.abc import Callable

from ..messages import rewrite
from .draft import DIGEST, Draft, Eligible
from .extraction import Said, extract_each
from .lossless import without_base64
from .names import listed, names_in
from .outputs import may
from .salient import salient
from .texts import LONG_CHARS

LONG_PROSE = 4 * LONG_CHARS
"""Characters from which on prose is worth an extract: some hundred words."""


def prose(draft: Draft, eligible: Eligible) -> None:
    """Show an extract in place of long prose that no recent run uses.

    Where there is time for it, messages share their room, which then goes where the facts are.
    Source: at the same tokens .72 of answer facts stay so, .57 message by message.
    """
    places = [place for place in range(len(draft.facts)) if _is_prose(draft, place, eligible)]
    while places and not draft.relieved:
        batch, places = _next(draft, places)
        draft.breathe()
        if draft.pace == "thorough":
            _extract_together(draft, batch)
        else:
            _extract(draft, batch[0], lambda text: salient(text, draft.policy.short_form_share))


def _is_prose(draft: Draft, place: int, eligible: Eligible) -> bool:
    item = draft.history[place]
    if item is None or item.derived_from or item.kind == DIGEST or draft.facts[place].results:
        return False
    return len(draft.text(item)) >= LONG_PROSE and may(draft, place, eligible)


def _next(draft: Draft, places: list[int]) -> tuple[list[int], list[int]]:
    """The oldest messages, as many as may bring memory to its target; and the others."""
    if draft.pace != "thorough":
        return places[:1], places[1:]
    freed = 0.0
    for count, place in enumerate(places, 1):
        item = draft.history[place]
        freed += item.tokens * (1 - draft.policy.short_form_share) if item is not None else 0
        if freed >= draft.missing:
            return places[:count], places[count:]
    return places, []


def _extract_together(draft: Draft, places: list[int]) -> None:
    said: list[Said] = []
    for place in places:
        item, kind = draft.history[place], draft.facts[place].kind

        def taken(text: str, role: str = kind) -> str:
            said.append(Said(text, role))
            return text

        if item is not None:
            rewrite(item.content, _long(taken, item.id))
    room = int(sum(len(one.text) for one in said) * draft.policy.short_form_share)
    kept = iter(extract_each(said, room))
    for place in places:
        _extract(draft, place, lambda _text: next(kept, ""))


def _extract(draft: Draft, place: int, extract: Callable[[str], str]) -> None:
    item = draft.history[place]
    assert item is not None

    def shortened(text: str) -> str:
        kept = extract(text)
        note = f"[… {len(text)} characters set aside, id {item.id}]"
        names = listed(_alone(draft, text, kept), int(len(text) * draft.policy.stub_share))
        return "\n".join(part for part in (kept, note, names) if part)

    draft.replace(place, rewrite(item.content, _long(shortened, item.id)))


def _long(change: Callable[[str], str], item_id: str) -> Callable[[str], str]:
    """The change, for texts that are long even without base64."""

    def changed(text: str) -> str:
        text = without_base64(text, item_id)
        return change(text) if len(text) >= LONG_PROSE else text

    return changed


def _alone(draft: Draft, text: str, kept: str) -> list[str]:
    """Names in a text that are in sight nowhere else."""
    if not draft.refers:
        return []
    here, sight = set(names_in(kept)), draft.sight
    return [name for name in draft.names_in(text) if name not in here and sight[name] <= 1]
