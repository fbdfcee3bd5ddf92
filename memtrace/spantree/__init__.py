"""How a tree of spans reads as text: pure functions from finished spans to lines.

::

    invoke_agent planner  12.3 ms  1,204 -> 3,871 tokens (3% of 128,000)  session support-42
    │  working 800 -> 2,400 · cache 12 · agents 40 -> 44 · history 352 -> 1,415
    ├─ memtrace.checkpoint read  3.10 ms  1,204 -> 2,000 tokens  snapshot
    │     working 800 -> 1,596
    ├─ memtrace.compress  8.21 ms  9,021 -> 6,930 tokens  gave back 2,091  12 items  effective
    └─ invoke_agent researcher  5.02 ms  ERROR ValueError: no such file

A root says what every layer holds, a span below it which layers changed. A checkpoint says in
its own line that it took a snapshot, unless that failed. Nothing that a span carries can move
the cursor or colour the terminal: what does not print is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from ..telemetry import names
from .words import (
    MAX_TEXT,
    TOLD_BY_A_SPAN,
    Piece,
    change,
    counted,
    duration,
    event_words,
    facts,
    printable,
)

__all__ = [
    "ASCII",
    "LAYER_LABELS",
    "MAX_TEXT",
    "Node",
    "counted",
    "duration",
    "printable",
    "render",
]

_NARROWEST = 40
"""Columns that a text has at least before it is broken."""

ASCII = str.maketrans({"│": "|", "├": "|", "└": "`", "─": "-", "·": ",", "…": "~"})
"""What stands for the line characters where the stream cannot encode them."""

MAX_MARGIN = 36
"""Columns of indentation, three a level: what is deeper stands at the same place."""

LAYER_LABELS = ("working", "long-term", "cache", "agents", "history")

_STYLES = {"name": "1", "quiet": "2", "bad": "31", "warn": "33"}


class Node:
    """One span of a tree: begun, and, when ``span`` is there, ended."""

    __slots__ = ("children", "name", "span", "started_ns")

    def __init__(self, name: str, started_ns: int) -> None:
        self.name = name
        self.started_ns = started_ns
        self.children: list[Node] = []
        self.span: Any = None


def render(root: Node, width: int, *, colour: bool = False) -> list[str]:
    """The lines of a tree.

    Args:
        root: The tree.
        width: Columns that a line is wrapped at, where it has several parts.
        colour: Use terminal colours.
    """
    return list(_Renderer(width, colour).lines(root))


class _Renderer:
    def __init__(self, width: int, colour: bool) -> None:
        self._width = width
        self._colour = colour

    def lines(self, root: Node) -> Iterator[str]:
        # A stack and no recursion: agents may call agents deeper than Python would follow.
        waiting: list[tuple[Node, str, str, str | None]] = [(root, "", "", None)]
        while waiting:
            node, lead, margin, session = waiting.pop()
            attributes = _attributes(node)
            own = attributes.get(names.CONVERSATION_ID, session)
            snapshot, children = _parted(node)
            inner = margin + ("│  " if children else "   ")
            head = _head(node, attributes, session, snapshot)
            yield from self._wrap(head, "  ", lead, inner)
            whole = node is root or own != session
            yield from self._wrap(_layers(attributes, whole=whole), " · ", inner, inner)
            for event in getattr(node.span, "events", ()):
                if event.name.startswith("memtrace.") and event.name not in TOLD_BY_A_SPAN:
                    yield from self._wrap(event_words(event), "  ", inner, inner)
            # The last that began is pushed first. The order in which they were told of may be
            # another, where several threads are at work.
            margin = margin[:MAX_MARGIN]
            corner, below = "└─ ", "   "
            for child in sorted(children, key=lambda c: c.started_ns, reverse=True):
                waiting.append((child, margin + corner, margin + below, own))
                corner, below = "├─ ", "│  "

    def _wrap(self, pieces: list[Piece], between: str, lead: str, margin: str) -> Iterator[str]:
        """Pieces on one line, and on further ones where they do not fit."""
        line, used, gap = "", 0, lead
        room = max(_NARROWEST, self._width - len(margin))
        parts = [(style, part) for style, whole in pieces for part in _in_parts(whole, room)]
        for style, text in parts:
            if line and used + len(gap) + len(text) > self._width:
                yield line
                line, used, gap = "", 0, margin
            line += gap + self._painted(style, text)
            used += len(gap) + len(text)
            gap = between
        if line:
            yield line

    def _painted(self, style: str, text: str) -> str:
        code = _STYLES.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code else text


def _in_parts(text: str, room: int) -> list[str]:
    """A text as it is where there is room for it, else broken between words."""
    if len(text) <= room:
        return [text]
    return wrap(text, room, break_long_words=False, break_on_hyphens=False)


def _attributes(node: Node) -> Mapping[str, Any]:
    return (node.span.attributes or {}) if node.span is not None else {}


def _parted(node: Node) -> tuple[Node | None, list[Node]]:
    """The snapshot that a checkpoint began with, and all else below it."""
    first = min(node.children, key=lambda c: c.started_ns, default=None)
    if (
        first is None
        or first.name != names.SPAN_SNAPSHOT
        or not node.name.startswith(names.SPAN_CHECKPOINT)
        or first.children
        or _attributes(first).get(names.ACTION_OUTCOME) != "effective"
    ):
        return None, node.children
    return first, [child for child in node.children if child is not first]


def _head(
    node: Node, attributes: Mapping[str, Any], session: str | None, snapshot: Node | None
) -> list[Piece]:
    pieces = [("name", printable(node.name))]
    span = node.span
    if span is None:
        return [*pieces, ("quiet", "not ended")]
    pieces.append(("quiet", duration((span.end_time - span.start_time) / 1e9)))
    own = attributes.get(names.CONVERSATION_ID, session)
    pieces += _total(attributes, with_budget=own != session or session is None)
    pieces += facts(attributes)
    if snapshot is not None:
        pieces.append(("quiet", "snapshot"))
    if own is not None and own != session:
        pieces.append(("quiet", f"session {printable(own, 60)}"))
    pieces += _error(attributes, span.status)
    return pieces


def _total(attributes: Mapping[str, Any], *, with_budget: bool) -> list[Piece]:
    try:
        before, after = attributes[names.BEFORE_TOKENS], attributes[names.AFTER_TOKENS]
        budget, share = attributes[names.BUDGET_TOKENS], attributes[names.AFTER_UTILIZATION]
    except KeyError:
        return []
    text = f"{change(before, after)} tokens"
    if with_budget:
        text += f" ({_percent(share)} of {budget:,})"
    return [("bad" if share > 1 else "", text)]


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _layers(attributes: Mapping[str, Any], *, whole: bool) -> list[Piece]:
    pieces = []
    for label, key, key_ in zip(LAYER_LABELS, names.LAYER_BEFORE, names.LAYER_AFTER, strict=True):
        before, after = attributes.get(key, 0), attributes.get(key_, 0)
        if before != after or (whole and after):
            pieces.append(("", f"{label} {change(before, after)}"))
    return pieces


def _error(attributes: Mapping[str, Any], status: Any) -> list[Piece]:
    if status.status_code.name != "ERROR":
        return []
    kind = attributes.get(names.ERROR_TYPE, "")
    text = ": ".join(printable(part) for part in (kind, status.description) if part)
    return [("bad", f"ERROR {text}".rstrip())]
