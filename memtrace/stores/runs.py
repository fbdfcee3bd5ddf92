"""The run log's rows: one column a figure, so that they can be asked with plain SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import StoreDamagedError
from ..values import LAYER_NAMES, ActionReport, LoggedRun
from .rows import START, chained, encode

COLUMNS = (
    "run",
    "kind",
    "agent",
    "started_at",
    "duration_s",
    "error",
    "token_budget",
    *(f"{name}_before" for name in LAYER_NAMES),
    *(f"{name}_after" for name in LAYER_NAMES),
    "actions",
)


_MOST = 2**63 - 1
"""The largest number that a column takes."""


def run_values(run: LoggedRun) -> tuple[Any, ...]:
    """A run as the values of its columns."""
    return (
        run.run_id,
        run.kind,
        _storable(run.name),
        run.started_at,
        run.duration_s,
        _storable(run.error),
        min(run.token_budget, _MOST),
        *run.before,
        *run.after,
        msgspec.json.encode(run.reports).decode() if run.reports else "[]",
    )


def run_hash(key: int, values: Sequence[Any]) -> bytes:
    """What tells that a row is what was written, and for which session."""
    return chained(START, encode((key, *values))[0])


def run_from(key: int, row: Sequence[Any]) -> LoggedRun:
    """A run from its session's key and a row: the columns, then their hash.

    Raises:
        StoreDamagedError: It is not what was written.
    """
    *values, digest = row
    try:
        if run_hash(key, values) != digest:
            raise StoreDamagedError(f"run {values[0]!r} of the run log is not what was written")
        run_id, kind, name, started_at, duration_s, error, budget, *rest = values
        reports = msgspec.json.decode(rest[10], type=list[ActionReport])
        before: Any = tuple(rest[:5])
        after: Any = tuple(rest[5:10])
        return LoggedRun(
            run_id, kind, name, started_at, duration_s, error, budget, before, after, tuple(reports)
        )
    except (msgspec.DecodeError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise StoreDamagedError(f"a run of the run log cannot be read: {error}") from error


def _storable(text: str | None) -> str | None:
    """SQLite takes no lone surrogates."""
    return None if text is None else text.encode("utf-8", "replace").decode()
