"""``memtrace policy show``: the policy that holds, and where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from .. import config
from ..policy import Policy
from ..policy_file import read_policy
from ..spantree import printable
from ..values import DEFAULT_TOKEN_BUDGET
from .chart import open_console, plain_table
from .failing import print_json

_BUDGET_VARIABLE = "MEMTRACE_TOKEN_BUDGET"


class Origin(NamedTuple):
    """One constant of the policy that holds.

    Args:
        name: The constant.
        value: What it is; a function by its name.
        source: ``default``, ``file`` or ``environment``.
        where: The file and line, or the variable; empty for a default.
    """

    name: str
    value: Any
    source: str
    where: str


def show(path: Path | None, *, as_json: bool = False) -> None:
    """Print the policy of a file, or the one that holds without any.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    found = list(origins(path))
    if as_json:
        print_json({origin.name: _as_values(origin) for origin in found})
        return
    table = plain_table()
    table.add_column("constant", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("from")
    for origin in found:
        given = origin.source != "default"
        where = printable(origin.where or origin.source)
        table.add_row(
            Text(origin.name, style="bold" if given else ""),
            Text(_shown(origin.value)),
            Text(where, style="cyan" if given else "dim"),
        )
    open_console().print(table)


def origins(path: Path | None) -> Iterator[Origin]:
    """Every constant, in the policy's order, with where its value comes from.

    Raises:
        ConfigurationError: The file cannot be used.

    >>> [origin.source for origin in origins(None) if origin.name == "keep_runs"]
    ['default']
    """
    policy = Policy()
    lines: Mapping[str, int] = {}
    if path is not None:
        read = read_policy(path, Policy)
        policy, lines = read.policy, read.lines
    for field in fields(Policy):
        name, value = field.name, _plain(getattr(policy, field.name))
        if name in lines:
            yield Origin(name, value, "file", f"{path}:{lines[name]}")
        elif name == "token_budget" and value is None:
            yield _budget()
        else:
            yield Origin(name, value, "default", "")


def _budget() -> Origin:
    """The budget where the policy names none."""
    given = config.current.token_budget
    if given is None:
        return Origin("token_budget", DEFAULT_TOKEN_BUDGET, "default", "")
    where = _BUDGET_VARIABLE if _BUDGET_VARIABLE in os.environ else ""
    return Origin("token_budget", given, "environment", where)


def _plain(value: Any) -> Any:
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    return printable(value)


def _as_values(origin: Origin) -> dict[str, Any]:
    return {"value": origin.value, "from": origin.source, "where": origin.where or None}


def _shown(value: Any) -> str:
    """A value as TOML would have it.

    >>> _shown(True), _shown(128_000), _shown(0.8), _shown(None), _shown({})
    ('true', '128_000', '0.8', '–', '–')
    """
    if value is None or value == {}:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:_}"
    return printable(value, 40)
