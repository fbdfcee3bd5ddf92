"""Policies as files: TOML, each constant a key. What cannot work is named with its line.

::

    # careful.toml
    keep_recent = 20
    cleanup_above = 0.90

A file holds values alone: functions (``redactor``, ``summarizer``, …) are given in code, since a
file that named one would decide what code runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import ConfigurationError
from .files import read_text, refuse

P = TypeVar("P")

MOST_BYTES = 1_000_000
"""Bytes of a policy's file, at most: a thousand times what naming every constant takes."""

VALUES: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number such as 128_000",
    float: "a number such as 0.8",
    str: "a text in quotes",
}
"""What a file can hold, by type."""


@dataclass(frozen=True, slots=True)
class FromFile(Generic[P]):
    """A policy, and where its file says so.

    Args:
        policy: The policy; what the file does not name is as by default.
        lines: Line by constant, of those that the file names.
    """

    policy: P
    lines: Mapping[str, int]


def read_policy(path: str | Path, of: type[P]) -> FromFile[P]:
    """Read a policy from a TOML file.

    Args:
        path: A TOML file in UTF-8.
        of: :class:`~memtrace.Policy`, or a frozen dataclass of its own.

    Raises:
        ConfigurationError: It cannot be read, is no TOML, or names a constant that there is not
            or a value that cannot work; the message names the file, the line and what would.
    """
    text = read_text(path, most_bytes=MOST_BYTES)
    values = _parsed(path, text)
    places = {name: _line_of(name, text) for name in values}
    kinds = kinds_of(of)
    for name, value in values.items():
        if problem := _problem(name, value, kinds):
            refuse(path, places[name], problem)
    try:
        return FromFile(of(**values), {name: line or 1 for name, line in places.items()})
    except ConfigurationError as error:
        problem = str(error).replace(f"{of.__name__}.", "")
        refuse(path, _blamed(problem, values, places, of), problem)


def _parsed(path: str | Path, text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ModuleNotFoundError:
            raise ConfigurationError(
                f"{path}: Python 3.10 reads TOML with tomli, which is not installed: "
                'pip install "memtrace-otel[cli]"'
            ) from None
    try:
        values: dict[str, Any] = tomllib.loads(text)
        return values
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", said)
        if found is None:  # at the end of the document
            refuse(path, text.count("\n") + 1, f"not TOML ({said})")
        refuse(path, int(found[1]), f"not TOML ({said[: found.start()]}, column {found[2]})")


def kinds_of(of: type[Any]) -> dict[str, Any]:
    """The type of each constant that a file can hold; None for those that it cannot.

    >>> from memtrace import Policy
    >>> kinds = kinds_of(Policy)
    >>> kinds["keep_runs"], kinds["token_budget"], kinds["summarizer"]
    (<class 'int'>, <class 'int'>, None)
    """
    hints = get_type_hints(of)
    kinds = {}
    for field in fields(of):
        hint = hints[field.name]
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        kinds[field.name] = next((kind for kind in VALUES if kind in options), None)
    return kinds


def _problem(name: str, value: Any, kinds: Mapping[str, Any]) -> str | None:
    """What is wrong with one constant of a file by itself, if anything is."""
    if name not in kinds:
        near = get_close_matches(name, kinds, n=1)
        known = ", ".join(sorted(name for name, kind in kinds.items() if kind))
        advice = f"did you mean {near[0]}?" if near else f"the constants are {known}"
        return f"no constant of a policy is named {name!r}; {advice}"
    kind = kinds[name]
    if kind is None:
        return (
            f"{name} is not something that a file can hold; give it in code: "
            f"Policy.from_file(path).but({name}=…)"
        )
    right = type(value) is kind or (kind is float and type(value) is int)
    return None if right else f"{name} must be {VALUES[kind]}, got {value!r}"


def _line_of(name: str, text: str) -> int | None:
    """The line where a key or a table of that name stands; a key stands once in TOML."""
    key = rf"""(?:{re.escape(name)}|"{re.escape(name)}"|'{re.escape(name)}')"""
    found = re.search(rf"^[ \t]*(?:{key}[ \t]*[=.]|\[+[ \t]*{key}[ \t]*[\].])", text, re.MULTILINE)
    return None if found is None else text.count("\n", 0, found.start()) + 1


def _blamed(
    problem: str, values: Mapping[str, Any], places: Mapping[str, int | None], of: type[Any]
) -> int | None:
    """The line of the constant that a refusal names, or that is refused by itself."""
    for name in re.findall(r"\w+", problem):
        if name in values:
            return places[name]
    for name, value in values.items():
        try:
            of(**{name: value})
        except ConfigurationError:
            return places[name]
    return None
