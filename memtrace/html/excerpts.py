"""Contents as text that can be shown: bounded, and nothing in it that acts on what is around it."""

from __future__ import annotations

from typing import Any

from ..messages import Binary, is_message, texts
from ..messages.compact import compact_json
from .facts import Excerpt

LIMIT = 1_600
"""Characters of a text that are shown: about a screen of them, beside what stands for it."""

_HEAD = 0.7
"""Of what is shown, the part from the beginning; the rest is from the end."""

_KEPT = frozenset("\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")
"""Not printable, and harmless: lines, and what joins letters and emoji."""


def text_of(content: Any) -> str:
    """All the text of a content: a text, a message, or any JSON-like value. Never raises.

    >>> text_of({"role": "user", "content": "hello"}), text_of({"a": [1]})
    ('hello', '{"a":[1]}')
    """
    if isinstance(content, str):
        return content
    if is_message(content):
        return "\n".join(map(_part, texts(content)))
    return compact_json(content).text


def _part(part: str | Binary) -> str:
    return part if isinstance(part, str) else "[binary]"


def excerpt(text: str, limit: int = LIMIT) -> Excerpt:
    """A text's beginning and end, made harmless.

    Control characters, lone surrogates and marks that turn the direction of what follows are
    shown as ``�``. Lines keep their ends.

    >>> excerpt("a" * 50 + "z" * 50, 10)
    Excerpt(text='aaaaaaa\\n…\\nzzz', left_out=90)
    >>> excerpt("\\u202egnp.exe").text
    '�gnp.exe'
    """
    if len(text) <= limit:
        return Excerpt(_harmless(text), 0)
    head = int(limit * _HEAD)
    shown = f"{text[:head]}\n…\n{text[len(text) - (limit - head) :]}"
    return Excerpt(_harmless(shown), len(text) - limit)


def _harmless(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        c if c.isprintable() or c in _KEPT else "\N{REPLACEMENT CHARACTER}" for c in text
    )
