"""Reading recorded sessions.

A recording is JSON Lines, split on "\\n" alone. Line 1 is a header, an object with at least a
``session_id``, and where known ``system``, ``tools`` and ``budget_hint.context_window``; every
further line is one chat message. What stands under a message's ``_x`` was noted by whoever
recorded it (``_x.usage``: tokens as the provider billed them) and never enters the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from ..files import objects, refuse
from ..values import TokenBudget

Message = dict[str, Any]

_PREAMBLE = frozenset({"system", "developer"})
"""Roles that open a turn together with the user message that follows them."""


class RecordedMessage(NamedTuple):
    """A chat message as it was sent, and what was noted beside it."""

    message: Message
    notes: Mapping[str, Any]

    @property
    def role(self) -> str:
        """Who speaks."""
        return str(self.message["role"])

    @property
    def billed_tokens(self) -> int | None:
        """Prompt tokens that the provider billed for this reply, cached ones included."""
        usage = self.notes.get("usage")
        if not isinstance(usage, dict):
            return None
        parts = [usage.get(name) for name in ("input", "cache_read", "cache_write")]
        counts = [part for part in parts if isinstance(part, int)]
        return sum(counts) if counts else None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded session, read whole: a damaged file is refused before anything of it is played.

    Args:
        path: Where it was read from.
        header: Its first line.
        messages: Its messages, in order; at least one.
    """

    path: Path
    header: Mapping[str, Any]
    messages: tuple[RecordedMessage, ...]

    @property
    def session_id(self) -> str:
        """The session's id."""
        return str(self.header["session_id"])

    @property
    def token_budget(self) -> int | None:
        """Tokens of the context window it was recorded with, if known."""
        return _window(self.header)

    def runs(self) -> list[list[RecordedMessage]]:
        """Messages by turn. One that starts in the middle has a first turn without a user."""
        runs: list[list[RecordedMessage]] = []
        spoken = True  # the last turn holds more than its preamble
        for message in self.messages:
            if not runs or (spoken and (message.role == "user" or message.role in _PREAMBLE)):
                runs.append([])
                spoken = False
            runs[-1].append(message)
            spoken = spoken or message.role not in _PREAMBLE
        return runs


def read_session(path: str | Path) -> Recorded:
    """Read a recorded session.

    Args:
        path: A JSON Lines file in UTF-8.

    Raises:
        ConfigurationError: It cannot be read, is empty, cut off, not UTF-8, not JSON, or of
            another format; the message names the file and the line.
    """
    path = Path(path)
    lines = objects(path)
    _, header = next(lines, (0, None))
    if header is None:
        raise ConfigurationError(f"{path} is empty; {_EXPECTED}")
    _check_header(path, header)
    messages = tuple(_message(path, number, line) for number, line in lines)
    if not messages:
        raise ConfigurationError(f"{path} holds a header and no message, so it may be cut off")
    return Recorded(path, header, messages)


_EXPECTED = (
    "a recorded session is JSON Lines: a header with a session_id, then one chat message a line; "
    "of other formats memtrace import makes one"
)


def _check_header(path: Path, header: dict[str, Any]) -> None:
    session_id = header.get("session_id")
    if not isinstance(session_id, str) or not session_id:
        refuse(path, 1, f"{_fields(header)}, and no session_id; {_EXPECTED}")
    try:
        TokenBudget.of(_window(header) or 1)
    except ConfigurationError as error:
        refuse(path, 1, f"a budget_hint that cannot be one: {error}")


def _message(path: Path, number: int, line: dict[str, Any]) -> RecordedMessage:
    if not isinstance(line.get("role"), str):
        refuse(path, number, f"{_fields(line)}, and no role, so it is no chat message")
    notes = line.pop("_x", None)
    return RecordedMessage(line, notes if isinstance(notes, dict) else {})


def _window(header: Mapping[str, Any]) -> int | None:
    hint = header.get("budget_hint")
    return hint.get("context_window") if isinstance(hint, dict) else None


def _fields(line: dict[str, Any]) -> str:
    names = ", ".join(list(line)[:6])
    return f"an object with {names}" if names else "an empty object"
