"""Texts of messages as the reducers read them, and what marks a text that was reduced."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..messages import texts

WORTH = 48
"""Tokens below which an output is left alone: its stub would be no smaller."""

LONG_CHARS = 3 * WORTH
"""Characters below which a text inside a message is left alone: about as many tokens."""

_FINAL = re.compile(r"set aside: \d+ tokens, id |characters (?:set aside|left out), id ")


_ESCAPES = re.compile(r'\\["\\/bfnrt]')


def text_of(message: Any, *, calls: bool = False) -> str:
    """All the text of a message.

    Args:
        message: Of any form.
        calls: It has calls, whose arguments are JSON text: a name right after a line's end would
            be read with the letter of its escape.
    """
    text = "\n".join(part for part in texts(message) if isinstance(part, str))
    return _ESCAPES.sub(" ", text) if calls and "\\" in text else text


def is_final(text: str) -> bool:
    """Whether a text stands for another already, and is not to be made shorter by itself.

    What was folded still may be.

    >>> is_final("[output set aside: 900 tokens, id m7] src/app.py"), is_final("900 tokens")
    (True, False)
    """
    return _FINAL.search(text) is not None


def once(note: str) -> Callable[[str], str]:
    """The note in place of the first text, an ellipsis in place of the others.

    Not nothing: a provider refuses an empty block.
    """
    left = [note]
    return lambda _text: left.pop() if left else "…"
