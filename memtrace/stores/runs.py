"""The run log's rows: one column a figure, so that they can be asked with plain SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
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


def run_values(run: LoggedRun) -> tuple[Any, ...]:
    """A run as the values of its columns."""
    return (
        run.run_id,
        run.kind,
        _storable(run.name),
        run.started_at,
        run.duration_s,
        _storable(run.error),
        run.token_budget,
        *run.before,
        *run.after,
        _storable(json.dumps([asdict(report) for report in run.reports], ensure_ascii=False))
        if run.reports
        else "[]",
    )


def run_hash(values: Sequence[Any]) -> bytes:
    """What tells that a row is what was written."""
    return chained(START, encode(values)[0])


def run_from(row: Sequence[Any]) -> LoggedRun:
    """A run from a row: the columns, then their hash.

    Raises:
        StoreDamagedError: It is not what was written.
    """
    *values, digest = row
    try:
        if run_hash(tuple(values)) != digest:
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
