"""Short forms of messages for a context: passages of a long one, and what a call was about."""

from __future__ import annotations

from collections.abc import Callable, Iterator

_ARGUMENT = 200
"""Characters of each argument of a call that is shown only because its result is."""


def covered(spans: set[tuple[int, int]]) -> int:
    """Characters that passages have together."""
    return sum(stop - start for start, stop in spans)


def excerpt(text: str, spans: set[tuple[int, int]]) -> str:
    """Passages in order, with a mark where something between them is left out."""
    parts: list[str] = []
    before = 0
    for start, stop in sorted(spans):
        if start > before:
            parts.append("[…]")
        parts.append(text[start:stop].strip())
        before = stop
    if before < len(text):
        parts.append("[…]")
    return "\n".join(parts)


def once(note: str) -> Callable[[str], str]:
    """The note in place of a message's first text, an ellipsis in place of the others."""
    notes: Iterator[str] = iter((note,))
    return lambda _text: next(notes, "…")


def shortened(argument: str) -> str:
    """The beginning of a call's argument."""
    return argument if len(argument) <= _ARGUMENT else f"{argument[:_ARGUMENT]}…"
