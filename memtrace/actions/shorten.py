"""Short forms of text: pure functions, deterministic, never longer than what they are given."""

from __future__ import annotations

from .extraction import extract
from .names import listed, names_in

__all__ = ["cap", "extract", "gist", "names_of", "stub"]


def stub(text: str, share: float, item_id: str, tokens: int, names: list[str]) -> str:
    """What stands for a tool output that was set aside: its id, its size, and names in it.

    Args:
        share: Of its characters that the names may take, 0–1.
        item_id: What to ask the original by.
        tokens: The output's.
        names: In the order in which they are worth keeping.
    """
    kept = listed(names, int(len(text) * share))
    told = f"[output set aside: {tokens} tokens, id {item_id}]"
    return f"{told} {kept}" if kept else told


def cap(text: str, limit_chars: int, item_id: str) -> str:
    """The beginning and the end of a text, and between them what was left out and its id."""
    if len(text) <= limit_chars:
        return text
    note = f"\n[… {len(text) - limit_chars} characters left out, id {item_id} …]\n"
    room = max(0, limit_chars - len(note))
    head = room * 2 // 3
    tail = room - head
    return text[:head] + note + (text[-tail:] if tail else "")


def gist(text: str, limit_chars: int) -> str:
    """The first words of a text, on one line."""
    line = " ".join(text[: limit_chars * 4].split())
    return line if len(line) <= limit_chars else line[: max(0, limit_chars - 1)] + "…"


def names_of(text: str) -> list[str]:
    """Names in a text, first mention first."""
    return list(names_in(text))
