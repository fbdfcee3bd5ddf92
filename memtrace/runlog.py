"""The run log as it is read: rows of runs, and as CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from .values import LAYER_NAMES, LoggedRun

FIELDS = (
    "run_id",
    "kind",
    "name",
    "started_at",
    "duration_s",
    "error",
    "token_budget",
    *(f"{name}_before" for name in LAYER_NAMES),
    "total_tokens_before",
    *(f"{name}_after" for name in LAYER_NAMES),
    "total_tokens_after",
    "actions",
    "tokens_freed",
)
"""Columns of the CSV form."""


class RunLog(Sequence[LoggedRun]):
    """Rows of a run log, oldest first."""

    def __init__(self, runs: Sequence[LoggedRun]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> LoggedRun: ...
    @overload
    def __getitem__(self, index: slice) -> RunLog: ...
    def __getitem__(self, index: int | slice) -> LoggedRun | RunLog:
        return RunLog(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __iter__(self) -> Iterator[LoggedRun]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"<RunLog: {len(self)} runs>"

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The rows as CSV (RFC 4180, UTF-8), with a line of names first.

        Tokens are whole numbers, times seconds; ``actions`` lists each action with its outcome.

        Args:
            path: A file to write; None: none.

        Returns:
            The text.

        Raises:
            OSError: The file cannot be written.

        >>> RunLog([]).to_csv().startswith("run_id,kind,name,started_at")
        True
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(FIELDS)
        writer.writerows(_row(run) for run in self._runs)
        if path is not None:
            Path(path).write_bytes(text.getvalue().encode("utf-8", "replace"))
        return text.getvalue()


def _row(run: LoggedRun) -> tuple[object, ...]:
    return (
        run.run_id,
        run.kind,
        run.name,
        run.started_at,
        run.duration_s,
        run.error or "",
        run.token_budget,
        *run.before,
        sum(run.before),
        *run.after,
        sum(run.after),
        "; ".join(f"{report.action} {report.outcome}" for report in run.reports),
        sum(report.tokens_freed for report in run.reports),
    )
