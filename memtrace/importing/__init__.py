"""Other formats into the one session format, that ``replay`` and ``diagnose`` read.

Claude Code's and Codex's transcripts, message logs of OpenAI's and Anthropic's clients, traces
with ``gen_ai`` attributes. A file is read to its end before anything is written, so a damaged one
leaves nothing behind. What is not taken over is counted and told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from . import claude_code, codex, logs, traces
from .drafts import Draft, Told
from .sources import Source
from .spans import is_trace

__all__ = ["FORMATS", "Draft", "Imported", "read_foreign"]


def _log(name: str) -> Callable[[Source, Told], list[Draft]]:
    return lambda source, told: logs.Log(source, name, told).read()


_READERS: dict[str, Callable[[Source, Told], list[Draft]]] = {
    claude_code.NAME: claude_code.read,
    codex.NAME: codex.read,
    logs.OPENAI: _log(logs.OPENAI),
    logs.ANTHROPIC: _log(logs.ANTHROPIC),
    traces.NAME: traces.read,
}

FORMATS = tuple(_READERS)
"""Names of the formats. Traces are OTLP (JSON, JSON Lines, protobuf) and Jaeger's JSON."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file held.

    Args:
        path: The file.
        format: One of :data:`FORMATS`.
        drafts: Its sessions, each to be written by :meth:`Draft.write`; at least one.
        told: What was left out or changed, in words, and how often.
    """

    path: Path
    format: str
    drafts: Sequence[Draft]
    told: Mapping[str, int]


def read_foreign(path: str | Path, format: str | None = None) -> Imported:  # noqa: A002 (a format)
    """Read a file of another format.

    Args:
        path: The file.
        format: One of :data:`FORMATS`; None: told by what is in it.

    Raises:
        ConfigurationError: It cannot be read, is empty, cut off, of no known format, or has no
            message; the message names file and line.
    """
    if format is not None and format not in _READERS:
        raise ConfigurationError(f"no format {format!r}; the formats are {', '.join(FORMATS)}")
    source, told = Source(path), Told()
    chosen = format or _detected(source)
    drafts = [draft for draft in _READERS[chosen](source, told) if draft.messages]
    if not drafts:
        seen = f"; it has {_listed(told)}" if told else ""
        raise ConfigurationError(f"{path}: no message in it as {chosen}{seen}")
    return Imported(Path(path), chosen, drafts, dict(told))


def _listed(told: Told) -> str:
    return ", ".join(f"{times:,} {what}" for what, times in told.most_common(3))


_SIGNS: tuple[tuple[str, Callable[[Mapping[str, Any]], bool]], ...] = (
    (traces.NAME, is_trace),
    (codex.NAME, codex.is_codex),
    (claude_code.NAME, claude_code.is_claude_code),
)


def _detected(source: Source) -> str:
    """The format, by the first values that say."""
    if source.binary:
        return traces.NAME
    if not source.head:
        raise ConfigurationError(f"{source.path} is empty")
    values = [record.value for record in source.head]
    if _is_recorded(values):
        raise ConfigurationError(
            f"{source.path} is a recorded session already: memtrace replay {source.path}"
        )
    for value in values:
        for name, fits in _SIGNS:
            if fits(value):
                return name
    if any(map(logs.is_log, values)):
        return logs.ANTHROPIC if any(map(logs.is_anthropic, values)) else logs.OPENAI
    first = source.head[0]
    fields = ", ".join(list(first.value)[:6]) or "nothing"
    return source.refuse(
        first.place,
        f"an object with {fields}, of no format that is known; name it with --format, one of "
        f"{', '.join(FORMATS)}",
    )


def _is_recorded(values: Sequence[Mapping[str, Any]]) -> bool:
    header, *rest = values
    named = isinstance(header.get("session_id"), str) and "role" not in header
    return named and not _is_other(header) and all(isinstance(v.get("role"), str) for v in rest)


def _is_other(header: Mapping[str, Any]) -> bool:
    return logs.is_log(header) or any(fits(header) for _, fits in _SIGNS)
