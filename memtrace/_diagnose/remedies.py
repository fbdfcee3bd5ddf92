"""What can be done about a symptom: each remedy says what it does, and does it when asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from ..actions import compress_memory, consolidate_memory, trigger_cleanup
from ..actions.draft import Draft
from ..actions.perform import Result, perform
from ..actions.shorten import extract
from ..actions.stored import short_form
from ..actions.stubs import OLD, set_aside_output
from ..findings import Remedy
from ..messages import rewrite
from ..session import Session
from ..values import ActionReport, Stage

LONG_CHARS = 160
"""Characters of a text that a remedy makes shorter."""


def best_first(remedies: Iterable[Remedy], threshold: float, below: bool = False) -> list[Remedy]:
    """Those first that are expected to bring a figure to its right side, each in the order given;
    what can only be advised comes last."""

    def falls_short(remedy: Remedy) -> int:
        if not remedy.applicable:
            return 2
        if remedy.expected is None:
            return 1
        helps = remedy.expected >= threshold if below else remedy.expected <= threshold
        return 0 if helps else 1

    return sorted(remedies, key=falls_short)


def advice(name: str, description: str) -> Remedy:
    """Something that only whoever wrote the agent can do."""
    return Remedy(name, description)


# --- actions --------------------------------------------------------------------------------------


def compress(session: Session, name: str, description: str, expected: float) -> Remedy:
    """Shorter forms of what is old."""
    target = session.policy.compress_target
    return Remedy(name, description, expected, lambda: compress_memory(session, target))


def cleanup(session: Session, name: str, description: str, expected: float) -> Remedy:
    """Room in all layers."""
    target = session.policy.cleanup_target
    return Remedy(name, description, expected, lambda: trigger_cleanup(session, target))


def consolidate(session: Session, name: str, description: str, expected: float) -> Remedy:
    """What no recent run used, in short form in long-term memory."""
    return Remedy(name, description, expected, lambda: consolidate_memory(session))


def shorter_history(session: Session, expected: float) -> Remedy:
    """A cleanup that keeps fewer of the last messages."""
    policy = session.policy.but(
        keep_recent=min(4, session.policy.keep_recent),
        keep_tool_outputs=min(2, session.policy.keep_tool_outputs),
    )
    return Remedy(
        "shorter_history",
        "keep the last four messages and two tool outputs whole, and shorten the rest",
        expected,
        lambda: trigger_cleanup(session, session.policy.cleanup_target, policy=policy),
    )


def drafted(
    session: Session, stage: Stage, reason: str, change: Callable[[Draft], None]
) -> ActionReport:
    """Change memory as an action does: drafted, committed in one step, reported."""

    def work() -> Result:
        draft = Draft(session, 0)
        change(draft)
        return Result(items=draft.commit(), reason=reason)

    return perform(session, stage, stage, work)


def take_out(
    session: Session, name: str, text: str, ids: Collection[str], after: float | None
) -> Remedy:
    """These contexts and stored items out of memory; their originals stay reachable."""

    def change(draft: Draft) -> None:
        for item in [*draft.contexts.values(), *draft.stored.values()]:
            if item.id in ids and not item.pinned:
                draft.forget(item)

    return Remedy(name, text, after, lambda: drafted(session, "cleanup", text, change))


def shorten(
    session: Session, name: str, text: str, ids: Collection[str], after: float, share: float
) -> Remedy:
    """These items in shorter forms: messages in their place, contexts in long-term memory.

    Args:
        session: The session.
        name: The remedy's.
        text: What it does.
        ids: Of the items.
        after: What the figure is expected to be.
        share: Of their text that is kept.
    """

    def change(draft: Draft) -> None:
        for place, item in enumerate(draft.history):
            if item is None or item.id not in ids or place in draft.protected:
                continue
            if not draft.facts[place].signed:
                note = f"[shortened, id {draft.source(item).id}]"
                draft.replace(place, rewrite(item.content, partial(_less, share=share, note=note)))
        for item in [i for i in draft.contexts.values() if i.id in ids and not i.pinned]:
            draft.store(item, short_form(draft, item))

    return Remedy(name, text, after, lambda: drafted(session, "compress", text, change))


def set_aside(session: Session, name: str, text: str, ids: Collection[str], after: float) -> Remedy:
    """The names alone of these tool outputs."""

    def change(draft: Draft) -> None:
        for place, item in enumerate(draft.history):
            if item is not None and item.id in ids and not draft.facts[place].signed:
                set_aside_output(draft, place, OLD)

    return Remedy(name, text, after, lambda: drafted(session, "compress", text, change))


def _less(text: str, share: float, note: str) -> str:
    if len(text) < LONG_CHARS:
        return text
    kept = extract(text, share) if share else ""
    if len(kept) > 2 * share * len(text):  # no sentences to choose from: its beginning
        kept = text[: int(share * len(text))]
    return f"{note} {kept}".rstrip()
