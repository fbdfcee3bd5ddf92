"""Forms that say the same in fewer tokens: JSON without spaces, no terminal codes, no base64."""

from __future__ import annotations

import json
import re
from functools import partial

from ..messages import rewrite
from .draft import Draft, Eligible
from .outputs import may, old_places, whole

LEAST_GAIN = 0.1
"""Share of an output's tokens that a form must save: rewriting what a model has read costs more
than a few spaces."""

_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\r\n])")
_STRINGS_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_\-])(?:data:[\w./+\-]+;base64,)?"
    r"[A-Za-z0-9+/_\-]{256,}={0,2}"
)
_LONG = 256
_INDENT = 256
"""Characters within which JSON begins."""

_MIXED = re.compile(r"(?=.{0,999}[a-z])(?=.{0,999}[A-Z])(?=.{0,999}[0-9])", re.S)


def lossless(draft: Draft, eligible: Eligible) -> None:
    """Show old tool outputs without what says nothing."""
    for place in old_places(draft, draft.policy.keep_tool_outputs):
        if draft.relieved:
            return
        draft.breathe()
        item = draft.history[place]
        if item is not None and whole(draft, place) and may(draft, place, eligible):
            plain = partial(plainer, item_id=draft.source(item).id)
            text = draft.text(item)
            if len(plain(text)) < len(text):
                content = rewrite(item.content, plain, results_only=True)
                draft.replace(place, content, LEAST_GAIN)


def plainer(text: str, item_id: str = "") -> str:
    """A text in all its lossless forms.

    >>> plainer('{"a": [1, 2]}'), plainer("\\x1b[31mred\\x1b[0m  \\nok")
    ('{"a":[1,2]}', 'red\\nok')
    """
    return minified(without_base64(without_codes(text), item_id))


def minified(text: str) -> str:
    """JSON text without the spaces between its values; other text as it is.

    Keys, numbers and strings stay as they are spelled.
    """
    if text[:_INDENT].lstrip()[:1] not in ("{", "["):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _STRINGS_OR_SPACE.sub(r"\1", text)


def without_codes(text: str) -> str:
    """Text as a terminal shows it: no colours, no overwritten progress, no trailing space."""
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if "\r" in text:
        text = _OVERWRITTEN.sub("", text.replace("\r\n", "\n"))
    if " \n" in text or "\t\n" in text:
        text = "\n".join(line.rstrip(" \t\r") for line in text.split("\n"))
    return text


def without_base64(text: str, item_id: str = "") -> str:
    """A reference in place of each base64 of 256 characters and more.

    >>> without_base64("see " + "iVBORw0KGgo9" * 30, "m7")
    'see [base64: 360 characters, id m7]'
    """
    if max(map(len, text.split("\n"))) < _LONG:
        return text  # most texts: telling so takes a tenth of what the search does
    return _BASE64.sub(partial(_referred, item_id), text)


def _referred(item_id: str, match: re.Match[str]) -> str:
    payload = match.group()
    if not _MIXED.match(payload):
        return payload  # a rule of dashes, a word repeated: no payload
    where = f", id {item_id}" if item_id else ""
    return f"[base64: {len(payload)} characters{where}]"
