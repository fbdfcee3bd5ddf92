"""Prose of inactive messages, by its telling sentences and the names in the rest of it."""

from __future__ import annotations

from ..messages import rewrite
from .draft import DIGEST, Draft, Eligible
from .lossless import without_base64
from .names import listed, names_in
from .outputs import may
from .salient import salient
from .shorten import extract
from .texts import LONG_CHARS

LONG_PROSE = 4 * LONG_CHARS
"""Characters from which on prose is worth an extract: some hundred words."""


def prose(draft: Draft, eligible: Eligible) -> None:
    """Show an extract in place of long prose that no recent run uses."""
    for place, fact in enumerate(draft.facts):
        if draft.relieved:
            return
        item = draft.history[place]
        if item is None or item.derived_from or item.kind == DIGEST or fact.results:
            continue
        if len(draft.text(item)) >= LONG_PROSE and may(draft, place, eligible):
            draft.breathe()
            _extract(draft, place)


def _extract(draft: Draft, place: int) -> None:
    item = draft.history[place]
    assert item is not None
    policy = draft.policy

    def shortened(text: str) -> str:
        text = without_base64(text, item.id)
        if len(text) < LONG_PROSE:
            return text
        kept = (extract if draft.pace == "thorough" else salient)(text, policy.short_form_share)
        note = f"[… {len(text)} characters set aside, id {item.id}]"
        names = listed(_alone(draft, text, kept), int(len(text) * policy.stub_share))
        return "\n".join(part for part in (kept, note, names) if part)

    draft.replace(place, rewrite(item.content, shortened))


def _alone(draft: Draft, text: str, kept: str) -> list[str]:
    """Names in a text that are in sight nowhere else."""
    if not draft.refers:
        return []
    here, sight = set(names_in(kept)), draft.sight
    return [name for name in draft.names_in(text) if name not in here and sight[name] <= 1]
