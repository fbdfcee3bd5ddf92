"""What a span's name, its attributes and its events say, in a few words each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..telemetry import names

MAX_TEXT = 120
"""Characters shown of a name, an id or a message."""

Piece = tuple[str, str]
"""A style, by its name, and a text."""


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


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """A number of things.

    >>> counted(1, "run"), counted(1_204, "run"), counted(2, "pass", "passes")
    ('1 run', '1,204 runs', '2 passes')
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


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


def change(before: int, after: int) -> str:
    """Tokens before and after, or once where they did not change."""
    return f"{after:,}" if before == after else f"{before:,} -> {after:,}"


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

# What an action changed is told by memory's totals around it; these are parts of that, or have
# few values for a metric's sake.
_PARTS = (
    "memtrace.cleanup.",
    "memtrace.compression.",
    names.MOVED_TOKENS,
)

TOLD_BY_A_SPAN = {names.EVENT_CLEANUP_COMPLETED, names.EVENT_COMPRESSION_COMPLETED}
"""Events for backends without a tree: in it the action has a line of its own."""


def facts(attributes: Mapping[str, Any]) -> list[Piece]:
    """What a span's other attributes of memtrace's say, in a few words each."""
    facts = {k: v for k, v in attributes.items() if not k.startswith(_TOLD_ELSEWHERE)}
    pieces: list[Piece] = []
    if names.ACTION_TOKENS_BEFORE in facts:
        facts = {k: v for k, v in facts.items() if not k.startswith(_PARTS)}
        pieces += _effect(facts)
    if names.SNAPSHOT_TOKENS in facts:
        held, items = facts.pop(names.SNAPSHOT_TOKENS), facts.pop(names.SNAPSHOT_ITEMS, 0)
        pieces.append(("", f"{held:,} tokens in {counted(items, 'item')}"))
    if facts.pop(names.CHECKPOINT_RESTORED, False):
        pieces.append(("warn", "rolled back"))
    reason = facts.pop(names.ACTION_REASON, None)
    outcome = facts.pop(names.ACTION_OUTCOME, None)
    pieces += [("", words) for words in _words(facts)]
    if reason:
        pieces.append(("", printable(reason)))
    if outcome is not None:
        pieces.append((_OUTCOMES.get(outcome, ""), printable(outcome)))
    return pieces


def _effect(facts: dict[str, Any]) -> list[Piece]:
    """Memory's total around an action, what that gave back, and how many items it took."""
    before, after = facts.pop(names.ACTION_TOKENS_BEFORE), facts.pop(names.ACTION_TOKENS_AFTER, 0)
    pieces = [("", f"{change(before, after)} tokens")]
    if after < before:
        pieces.append(("", f"gave back {before - after:,}"))
    if items := facts.pop(names.ACTION_ITEMS, 0):
        pieces.append(("", counted(items, "item")))
    return pieces


_OUTCOMES = {
    "effective": "quiet",
    "no_op": "quiet",
    "declined": "quiet",
    "ineffective": "warn",
    "failed": "bad",
}


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


_ALARMING = {names.EVENT_THRESHOLD_CROSSED, names.EVENT_HOOK_FAILED, names.EVENT_FAILURE}


def event_words(event: Any) -> list[Piece]:
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
