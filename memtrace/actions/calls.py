"""What tool calls do to files, as far as their names and arguments tell: reads and edits."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ..messages import Call

_PATHS = (
    "file_path",
    "path",
    "filename",
    "file",
    "notebook_path",
    "target_file",
    "filepath",
    "uri",
)
"""Arguments that hold a file's path. Source: the file tools of coding agents and of the MCP
file-system server."""

_READS = re.compile(r"read|view|open|cat\b|show|get|load|fetch", re.I)
_EDITS = re.compile(
    r"write|edit|replace|create|patch|insert|append|update|delete|remove|save|move|rename", re.I
)
_WHAT = ("command", "action", "operation")
"""Arguments by which one tool does several things."""

_SHOWN = re.compile(r"(?:cat|less|more|type|nl)\s+(?P<path>[^\s;|&<>]+)\s*")
_PATCHED = re.compile(r"^\*\*\* (?:Update|Add|Delete) File: (?P<path>.+)$", re.M)


class Touch(NamedTuple):
    """What one call does to one file.

    Args:
        path: The file's, as the call has it.
        edits: It changes the file; else it reads it.
        whole: It reads all of it: the call says nothing of a part.
    """

    path: str
    edits: bool
    whole: bool = False


def signature(call: Call) -> tuple[str, str]:
    """Name and arguments of a call; equal for calls that ask the same."""
    try:
        arguments = json.dumps(json.loads(call.arguments_text), sort_keys=True)
    except (ValueError, RecursionError):
        arguments = call.arguments_text
    return call.name, arguments


def touches(call: Call) -> list[Touch]:
    """Files that a call reads or edits; empty for what cannot be told.

    >>> touches(Call("c1", "Read", '{"file_path": "a.py"}'))
    [Touch(path='a.py', edits=False, whole=True)]
    >>> touches(Call("c2", "str_replace", '{"path": "a.py", "old_str": "x", "new_str": "y"}'))
    [Touch(path='a.py', edits=True, whole=False)]
    """
    arguments = _arguments(call)
    if isinstance(arguments, str):
        return [Touch(match["path"], True) for match in _PATCHED.finditer(arguments)]
    path = next((arguments[key] for key in _PATHS if isinstance(arguments.get(key), str)), None)
    if path is None:
        return _of_command(arguments)
    does = next((arguments[key] for key in _WHAT if isinstance(arguments.get(key), str)), call.name)
    if _EDITS.search(does):
        return [Touch(path, True)]
    if not _READS.search(does):
        return []
    rest = [value for key, value in arguments.items() if key not in (*_PATHS, *_WHAT)]
    return [Touch(path, False, all(value is None or value == "" for value in rest))]


def _arguments(call: Call) -> dict[str, Any] | str:
    try:
        read = json.loads(call.arguments_text)
    except (ValueError, RecursionError):
        return call.arguments_text
    return read if isinstance(read, dict) else call.arguments_text


def _of_command(arguments: dict[str, Any]) -> list[Touch]:
    """What a shell command or a patch does, where it is as plain as can be."""
    found: list[Touch] = []
    for value in arguments.values():
        if isinstance(value, str):
            if match := _SHOWN.fullmatch(value):
                found.append(Touch(match["path"], False, True))
            found += [Touch(patched["path"], True) for patched in _PATCHED.finditer(value)]
    return found
