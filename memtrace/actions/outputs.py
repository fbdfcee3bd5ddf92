"""Tool outputs as the reducers go through them, and which messages a reducer may touch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..messages import Call
from .draft import DIGEST, Draft, Eligible
from .texts import WORTH, is_final


class Output(NamedTuple):
    """A message with tool outputs.

    Args:
        place: Its position.
        calls: The calls it answers, in order; None for one that nothing asked.
    """

    place: int
    calls: list[Call | None]


def outputs(draft: Draft) -> Iterator[Output]:
    """Messages with tool outputs, in order, whatever was done to them.

    A result answers the latest call of its id that is still open.
    """
    calls: dict[str, list[Call]] = {}
    for place, fact in enumerate(draft.facts):
        asked = [calls[i].pop() if calls.get(i) else None for i in fact.results]
        if asked and draft.history[place] is not None:
            yield Output(place, asked)
        for call in fact.calls:
            calls.setdefault(call.id, []).append(call)


def old_places(draft: Draft, kept: int) -> list[int]:
    """Positions of all messages with tool outputs but the last ones."""
    places = [place for place, fact in enumerate(draft.facts) if fact.results]
    return places[:-kept] if kept else places


def whole(draft: Draft, place: int) -> bool:
    """Whether a message is worth reducing, and does not stand for another in a final form."""
    item = draft.history[place]
    if item is None or item.tokens < WORTH or item.kind == DIGEST:
        return False
    return not item.derived_from or not is_final(draft.text(item))


def may(draft: Draft, place: int, eligible: Eligible) -> bool:
    """Whether a message may be touched: it is not protected, not signed, and its turn has come."""
    item = draft.history[place]
    return (
        item is not None
        and place not in draft.protected
        and not draft.facts[place].signed
        and eligible(item)
    )
