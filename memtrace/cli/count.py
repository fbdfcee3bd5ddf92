"""``memtrace count``: how many tokens files hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from ..counters import Counter, get_counter
from ..errors import ConfigurationError, MemtraceError
from ..files import as_json, read_text, refuse
from ..messages import is_message
from ..spantree import counted as number_of
from ..spantree import printable
from ..tokens import Count, count
from .chart import open_console, plain_table
from .failing import BAD_INPUT, complain, print_json

STDIN = Path("-")
"""What stands for standard input."""

_JSON = (".json", ".jsonl", ".ndjson")
"""Names by which a file says that it is JSON; one that is not is refused then."""

_HELD = ("system", "tools", "instructions")
"""What a request, or a recorded session's header, has beside its messages."""


class Counted(NamedTuple):
    """What a file holds.

    Args:
        file: Its name.
        kind: ``text``, ``json`` or ``messages``.
        parts: Messages, JSON values, or 1 for a text.
        counts: By encoding, in the order asked for.
    """

    file: str
    kind: str
    parts: int
    counts: list[Count]


def show(
    files: Sequence[Path], encodings: Sequence[str], kind: str | None, *, json_lines: bool = False
) -> int:
    """Count each file, and print a row for each and their total; the exit status.

    Args:
        files: What to count; ``-`` is standard input.
        encodings: Encodings or models' names; none: the configured one.
        kind: What to take files for: ``text``, ``json`` or ``messages``; None: what they are.
        json_lines: One JSON object a line instead.

    Raises:
        ConfigurationError: An encoding is unknown.
    """
    counters = [get_counter(name) for name in encodings] or [get_counter()]
    names = list(encodings) or [counters[0].name]
    found, good = [], True
    for file in files:
        try:
            found.append(counted(file, counters, kind))
        except MemtraceError as error:
            complain(error)
            good = False
    if json_lines:
        for one in found:
            print_json(_as_values(one, names))
    elif found:
        _print(found, names)
    return 0 if good else BAD_INPUT


def counted(path: Path, counters: Sequence[Counter], kind: str | None = None) -> Counted:
    """What a file holds, in tokens.

    A message counts as a model's provider would count it, any other JSON value as its compact
    form, and everything else as the text that it is.

    Raises:
        ConfigurationError: It cannot be read, is not UTF-8, is too large, or not what it is taken
            for.
    """
    name = "standard input" if path == STDIN else str(path)
    text = read_text(name, file=sys.stdin.buffer if path == STDIN else None)
    if kind != "text":
        try:
            values = _values(name, text)
        except ConfigurationError as error:
            if kind is not None:
                raise
            if path.suffix in _JSON:
                raise ConfigurationError(f"{error}; --as text counts it as it is") from None
        else:
            return _of_values(name, values, counters, kind)
    return Counted(name, "text", 1, [count(text, counter=counter) for counter in counters])


def _values(name: str, text: str) -> list[Any]:
    """The JSON values of a file: one over all its lines, or one in each."""
    if not text.strip():
        raise ConfigurationError(f"{name} is empty, and no JSON")
    try:
        return [json.loads(text)]
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            as_json(name, 1, text)  # which says so
    except (ValueError, RecursionError):
        as_json(name, 1, text)
    return [
        as_json(name, number, line)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


def _of_values(
    name: str, values: Sequence[Any], counters: Sequence[Counter], kind: str | None
) -> Counted:
    messages = None if kind == "json" else _messages(values)
    if messages is None:
        if kind == "messages":
            refuse(name, 1, "no messages: an array, or one a line, of objects with a role")
        counts = [_sum(values, counter) for counter in counters]
        return Counted(name, "json", len(values), counts)
    held, said = messages
    counts = [_sum([*held, *said], counter) for counter in counters]
    return Counted(name, "messages", len(said), counts)


def _messages(values: Sequence[Any]) -> tuple[list[Any], list[Any]] | None:
    """What stands beside the messages, and they; None where there are none.

    Knows a list of messages, a request that holds one, messages one a line, and a recorded session.
    """
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if len(values) == 1 and isinstance(values[0], dict):
        listed = values[0].get("messages", values[0].get("input"))
        if isinstance(listed, list) and listed and all(map(is_message, listed)):
            return _beside(values[0]), listed
    header = values[0] if values and isinstance(values[0], dict) else {}
    if "session_id" in header and "role" not in header:
        said = [{k: v for k, v in value.items() if k != "_x"} for value in values[1:]
                if isinstance(value, dict)]  # fmt: skip
        good = len(said) == len(values) - 1 and all(map(is_message, said))
        return (_beside(header), said) if said and good else None
    return ([], list(values)) if values and all(map(is_message, values)) else None


def _beside(value: dict[str, Any]) -> list[Any]:
    return [value[key] for key in _HELD if value.get(key)]


def _sum(values: Iterable[Any], counter: Counter) -> Count:
    counts = [count(value, counter=counter) for value in values]
    return Count(sum(c.tokens for c in counts), all(c.exact for c in counts) and counter.exact)


# --- printing -------------------------------------------------------------------------------------


def _as_values(one: Counted, names: Sequence[str]) -> dict[str, Any]:
    tokens = {
        name: {"tokens": counted.tokens, "exact": counted.exact}
        for name, counted in zip(names, one.counts, strict=True)
    }
    return {"file": one.file, "kind": one.kind, "parts": one.parts, "encodings": tokens}


def _print(found: Sequence[Counted], names: Sequence[str]) -> None:
    table = plain_table()
    for name in names:
        table.add_column(printable(name, 40), justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("file", overflow="fold")
    for one in found:
        what = one.kind if one.kind == "text" else _what(one)
        table.add_row(*map(_tokens, one.counts), what, Text(printable(one.file, 1_000)))
    if len(found) > 1:
        totals = [
            Count(sum(c.tokens for c in column), all(c.exact for c in column))
            for column in zip(*(one.counts for one in found), strict=True)
        ]
        table.add_row(*map(_tokens, totals), "", Text("total", style="bold"))
    open_console().print(table)


def _what(one: Counted) -> str:
    return number_of(one.parts, "message") if one.kind == "messages" else f"{one.parts:,} JSON"


def _tokens(counted: Count) -> str:
    """Tokens; an estimate is marked."""
    return f"{counted.tokens:,}" if counted.exact else f"~{counted.tokens:,}"
