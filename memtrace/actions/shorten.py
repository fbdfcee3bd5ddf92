"""Short forms of text: pure functions, deterministic, never longer than what they are given."""

from __future__ import annotations

from .extraction import extract
from .names import names_in

__all__ = ["extract", "gist", "names_of"]


def gist(text: str, limit_chars: int) -> str:
    """The first words of a text, on one line."""
    line = " ".join(text[: limit_chars * 4].split())
    return line if len(line) <= limit_chars else line[: max(0, limit_chars - 1)] + "…"


def names_of(text: str) -> list[str]:
    """Names in a text, first mention first."""
    return list(names_in(text))
