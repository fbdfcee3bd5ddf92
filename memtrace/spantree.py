"""How a tree of spans reads as text: pure functions from finished spans to lines.

::

    invoke_agent planner  12.3 ms  1,204 -> 3,871 tokens (3% of 128,000)  session support-42
    │  working 800 -> 2,400 · cache 12 · agents 40 -> 44 · history 352 -> 1,415
    ├─ memtrace.checkpoint read  3.10 ms  1,204 -> 2,000 tokens
    │     working 800 -> 1,596
    └─ invoke_agent researcher  5.02 ms  ERROR ValueError: no such file

A root says what every layer holds, a span below it which layers changed. Nothing that a span
carries can move the cursor or colour the terminal: what does not print is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .telemetry import names

ASCII = str.maketrans({"│": "|", "├": "|", "└": "`", "─": "-", "·": ",", "…": "~"})
"""What stands for the line characters where the stream cannot encode them."""

MAX_TEXT = 120
"""Characters shown of a name, an id or a message."""

MAX_MARGIN = 36
"""Columns of indentation, three a level: what is deeper stands at the same place."""

LAYER_LABELS = ("working", "long-term", "cache", "agents", "history")

_STYLES = {"name": "1", "quiet": "2", "bad": "31", "warn": "33"}
_Piece = tuple[str, str]  # style, text


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
            inner = margin + ("│  " if node.children else "   ")
            yield from self._wrap(_head(node, attributes, session), "  ", lead, inner)
            whole = node is root or own != session
            yield from self._wrap(_layers(attributes, whole=whole), " · ", inner, inner)
            for event in getattr(node.span, "events", ()):
                if event.name.startswith("memtrace."):
                    yield from self._wrap(_event(event), "  ", inner, inner)
            # The last that began is pushed first. The order in which they were told of may be
            # another, where several threads are at work.
            margin = margin[:MAX_MARGIN]
            corner, below = "└─ ", "   "
            for child in sorted(node.children, key=lambda c: c.started_ns, reverse=True):
                waiting.append((child, margin + corner, margin + below, own))
                corner, below = "├─ ", "│  "

    def _wrap(self, pieces: list[_Piece], between: str, lead: str, margin: str) -> Iterator[str]:
        """Pieces on one line, and on further ones where they do not fit."""
        line, used, gap = "", 0, lead
        for style, text in pieces:
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


def printable(text: object, limit: int = MAX_TEXT) -> str:
    """Text that is safe to print: one line, no control characters, not endless.

    >>> printable("plan\\x1b[31m\\nnext")
    'plan�[31m next'
    """
    shown = "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}"
        for c in str(text)[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def duration(seconds: float) -> str:
    """A duration with three figures or so.

    >>> duration(0.00042), duration(0.0123), duration(3.21), duration(125)
    ('0.42 ms', '12.3 ms', '3.21 s', '2 min 5 s')
    """
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    value, unit = (seconds * 1e3, "ms") if seconds < 1 else (seconds, "s")
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def _attributes(node: Node) -> Mapping[str, Any]:
    return (node.span.attributes or {}) if node.span is not None else {}


def _head(node: Node, attributes: Mapping[str, Any], session: str | None) -> list[_Piece]:
    pieces = [("name", printable(node.name))]
    span = node.span
    if span is None:
        return [*pieces, ("quiet", "not ended")]
    pieces.append(("quiet", duration((span.end_time - span.start_time) / 1e9)))
    own = attributes.get(names.CONVERSATION_ID, session)
    pieces += _total(attributes, with_budget=own != session or session is None)
    pieces += _facts(attributes)
    if own is not None and own != session:
        pieces.append(("quiet", f"session {printable(own, 60)}"))
    pieces += _error(attributes, span.status)
    return pieces


def _total(attributes: Mapping[str, Any], *, with_budget: bool) -> list[_Piece]:
    try:
        before, after = attributes[names.BEFORE_TOKENS], attributes[names.AFTER_TOKENS]
        budget, share = attributes[names.BUDGET_TOKENS], attributes[names.AFTER_UTILIZATION]
    except KeyError:
        return []
    text = f"{_change(before, after)} tokens"
    if with_budget:
        text += f" ({_percent(share)} of {budget:,})"
    return [("bad" if share > 1 else "", text)]


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _change(before: int, after: int) -> str:
    return f"{after:,}" if before == after else f"{before:,} -> {after:,}"


def _layers(attributes: Mapping[str, Any], *, whole: bool) -> list[_Piece]:
    pieces = []
    for label, key, key_ in zip(LAYER_LABELS, names.LAYER_BEFORE, names.LAYER_AFTER, strict=True):
        before, after = attributes.get(key, 0), attributes.get(key_, 0)
        if before != after or (whole and after):
            pieces.append(("", f"{label} {_change(before, after)}"))
    return pieces


def _error(attributes: Mapping[str, Any], status: Any) -> list[_Piece]:
    if status.status_code.name != "ERROR":
        return []
    kind = attributes.get(names.ERROR_TYPE, "")
    text = ": ".join(printable(part) for part in (kind, status.description) if part)
    return [("bad", f"ERROR {text}".rstrip())]


# --- what an action or an event has to tell -------------------------------------------------------

_TOLD_ELSEWHERE = (
    "memtrace.profile.",
    "memtrace.layer.",
    "memtrace.budget.",
    "memtrace.body.",
    "memtrace.session.",
    "memtrace.checkpoint.name",
    "memtrace.checkpoint.id",
    "memtrace.hook.name",
    "memtrace.snapshot.id",
    names.ERROR_TYPE,
)


def _facts(attributes: Mapping[str, Any]) -> list[_Piece]:
    """What a span's other attributes of memtrace's say, in a few words each."""
    facts = {k: v for k, v in attributes.items() if not k.startswith(_TOLD_ELSEWHERE)}
    pieces = []
    taken, left = (facts.pop(f"memtrace.compression.{way}_tokens", None) for way in _WAYS)
    if taken is not None and left is not None:
        facts.pop("memtrace.compression.ratio", None)
        pieces.append(f"{_change(taken, left)} tokens, gave back {taken - left:,}")
    removed, items = (facts.pop(f"memtrace.cleanup.removed.{what}", None) for what in _REMOVED)
    if removed is not None:
        among = "" if items is None else f" in {items:,} items"
        pieces.append(f"gave back {removed:,} tokens{among}")
    outcome = facts.pop(names.ACTION_OUTCOME, None)
    pieces += _words(facts)
    styled = [("", piece) for piece in pieces]
    if outcome is not None:
        styled.append((_OUTCOMES.get(outcome, ""), printable(outcome)))
    return styled


_WAYS = ("input", "output")
_REMOVED = ("tokens", "items")
_OUTCOMES = {"effective": "quiet", "no_op": "quiet", "ineffective": "warn", "failed": "bad"}


def _words(facts: Mapping[str, Any]) -> list[str]:
    """Attributes of memtrace's as words: the key without what it belongs to, and the value."""
    words = []
    for key, value in facts.items():
        if not key.startswith("memtrace.") or value is False:
            continue
        stem = key.removeprefix("memtrace.").partition(".")
        label = printable((stem[2] or stem[0]).replace(".", " ").replace("_", " "))
        words.append(label if value is True else f"{label} {_value(value)}")
    return words


def _value(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else printable(value, 60)


_ALARMING = {names.EVENT_THRESHOLD_CROSSED, names.EVENT_HOOK_FAILED, "memtrace.failure"}


def _event(event: Any) -> list[_Piece]:
    facts = dict(event.attributes or {})
    name = printable(event.name.removeprefix("memtrace.").replace(".", " "))
    style, mark = ("warn", "!") if event.name in _ALARMING else ("", "*")
    if event.name == names.EVENT_THRESHOLD_CROSSED and names.THRESHOLD_NAME in facts:
        threshold, observed, direction, value = (
            _value(facts.pop(f"memtrace.threshold.{part}", "?"))
            for part in ("name", "observed", "direction", "value")
        )
        name = f"{threshold} {observed} {direction} {value}"
    pieces = [(style, f"{mark} {name}")]
    if names.ERROR_TYPE in facts:
        pieces.append(("bad", printable(facts[names.ERROR_TYPE])))
    return pieces + [("", words) for words in _words(facts)]
