"""Sessions in the making: messages as they are read, in the one session format."""

from __future__ import annotations

import json
import weakref
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from ..files import written

Message = dict[str, Any]

_IN_MEMORY = 1 << 20
"""Bytes of a session's messages that are held in memory; more go to an unnamed temporary file."""


class Draft:
    """One session: its header, and its messages in order. The last message may still be changed.

    Args:
        session_id: The session's id.
        source: Name of the format it was read from.

    Attributes:
        header: What the first line will say.
        messages: How many messages there are.
        turns: How many of them are a user's.
    """

    def __init__(self, session_id: str, source: str, kind: str = "imported") -> None:
        self.header: dict[str, Any] = {"session_id": session_id, "source": source, "kind": kind}
        self.messages = 0
        self.turns = 0
        self._body = SpooledTemporaryFile(_IN_MEMORY, "w+b")  # noqa: SIM115 (closed by `close`)
        # Of a file that is refused half-way nobody has the drafts, to close them.
        self._finalizer = weakref.finalize(self, self._body.close)
        self._last: tuple[Message, dict[str, Any]] | None = None
        self._beside: dict[str, Any] = {}

    @property
    def session_id(self) -> str:
        """The session's id."""
        return str(self.header["session_id"])

    # --- what is said ---------------------------------------------------------------------------

    def add(self, message: Message, notes: Mapping[str, Any] | None = None) -> None:
        """The next message, and what was noted beside it."""
        self._flush()
        self.messages += 1
        self.turns += message.get("role") == "user"
        noted, self._beside = {**self._beside, **(notes or {})}, {}
        self._last = message, noted

    @property
    def last(self) -> Message | None:
        """The last message, which may be changed until the next one is added."""
        return self._last[0] if self._last is not None else None

    def note(self, **notes: Any) -> None:
        """Note something beside the last message, if that is an assistant's."""
        if self._last is not None and self._last[0].get("role") == "assistant":
            self._last[1].update(notes)

    def note_next(self, **notes: Any) -> None:
        """Note something beside the message that comes next."""
        self._beside.update(notes)

    def know(self, name: str, value: Any) -> bool:
        """A header's field, as it was said first; whether it was said otherwise before."""
        return bool(value) and self.header.setdefault(name, value) != value

    def hint(self, **hints: Any) -> None:
        """Parts of the header's ``budget_hint``: ``model``, ``context_window``; as said first."""
        known = self.header.setdefault("budget_hint", {})
        for name, value in hints.items():
            if value:
                known.setdefault(name, value)

    # --- the file -------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._last is not None:
            message, notes = self._last
            self._body.write(_line({**message, "_x": notes} if notes else message))
            self._last = None

    def write(self, path: str | Path) -> None:
        """Write it as a recorded session: whole, or not at all.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        self._flush()
        if not self.header.get("budget_hint"):
            self.header.pop("budget_hint", None)
        self._body.seek(0)
        with written(path) as file:
            file.write(_line(self.header).decode())
            for line in self._body:
                file.write(line.decode())
        self.close()

    def close(self) -> None:
        """Let go of what it holds."""
        self._finalizer()


def _line(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate: as an escape it stays what it is
        return json.dumps(value).encode() + b"\n"


class Told(Counter[str]):
    """What was not taken over as it was, in words, each with how often."""

    def tell(self, what: str, times: int = 1) -> None:
        """Something was left out, or changed."""
        self[what[:200]] += times
