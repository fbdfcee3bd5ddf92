"""Stubs: what stands for old tool outputs and for long arguments of old calls.

A stub says the size of what is gone, the id to ask for it by, and the names in it that are not in
sight anywhere else, so that a later step still finds what it refers to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..messages import rewrite, rewrite_arguments
from .draft import Draft, Eligible
from .names import listed
from .outputs import may, old_places, whole
from .shorten import gist, names_of
from .texts import LONG_CHARS, text_of

Rewriter = Callable[[Any, Callable[[str], str]], Any]

OLD = "output set aside"

_HEAD_CHARS = 60
"""Characters that an argument's stub begins with: what a command or a file was."""

NAMES_CHARS = 240
"""Characters that the names in a stub may always take: five paths."""

_outputs_of: Rewriter = partial(rewrite, results_only=True)


def old_outputs(draft: Draft, eligible: Eligible) -> None:
    """Show a stub with names in place of each tool output but the last few."""
    for place in old_places(draft, draft.policy.keep_tool_outputs):
        if draft.relieved:
            return
        if whole(draft, place) and may(draft, place, eligible):
            set_aside_output(draft, place, OLD)


def old_arguments(draft: Draft, eligible: Eligible) -> None:
    """Show stubs with names in place of long texts in all calls' arguments but the last few."""
    kept = draft.policy.keep_tool_outputs
    places = [place for place, fact in enumerate(draft.facts) if fact.calls]
    for place in places[:-kept] if kept else places:
        if draft.relieved:
            return
        item = draft.history[place]
        if item is None or item.derived_from or not may(draft, place, eligible):
            continue
        if any(len(call.arguments_text) >= LONG_CHARS for call in draft.facts[place].calls):

            def told(text: str, names: str, identity: str = item.id) -> str:
                note = f"[… {len(text)} characters set aside, id {identity}]"
                return f"{gist(text, _HEAD_CHARS)} {note} {names}".rstrip()

            set_aside(draft, place, rewrite_arguments, told)


def set_aside_output(draft: Draft, place: int, reason: str) -> None:
    """Show a stub in place of a message's tool outputs, which says why."""
    item = draft.history[place]
    assert item is not None
    source = draft.source(item)
    head = f"[{reason}: {source.tokens} tokens, id {source.id}]"
    if reason != OLD:
        head = f"[{reason}, set aside: {source.tokens} tokens, id {source.id}]"
    set_aside(draft, place, _outputs_of, lambda _text, names: f"{head} {names}".rstrip())


def set_aside(
    draft: Draft, place: int, rewritten: Rewriter, told: Callable[[str, str], str]
) -> None:
    """Replace the long texts of a message by what is told of each: its text, its names."""
    item = draft.history[place]
    assert item is not None
    source = draft.source(item).content
    own = set(draft.names_of(item))
    rest = rewritten(source, lambda text: "" if len(text) >= LONG_CHARS else text)
    here = set(names_of(text_of(rest, calls=True)))
    share, sight = draft.policy.stub_share, draft.sight

    def shortened(text: str) -> str:
        if len(text) < LONG_CHARS:
            return text
        # What is in sight elsewhere, in this message or another, needs no saving.
        alone = [
            name
            for name in draft.names_in(text)
            if name not in here and sight[name] <= (name in own)
        ]
        here.update(alone)
        return told(text, listed(alone, max(int(len(text) * share), NAMES_CHARS)))

    draft.replace(place, rewritten(source, shortened))
