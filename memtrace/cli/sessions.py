"""``memtrace sessions list`` and ``show``: what a store holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from rich.table import Table
from rich.text import Text

from ..spantree import counted, duration, printable
from ..values import ActionReport, LoggedRun, Point
from . import stored
from .chart import open_console, percent, plain_table, show_curve
from .failing import print_json
from .log import kept_log
from .turns import report_as_values

RECENT = 10
"""Runs and actions that are shown of one session."""


def when(moment: float, now: float | None = None) -> str:
    """How long ago something was, in one unit.

    >>> when(1_000, 1_090), when(1_000, 1_000 + 3 * 86_400), when(0)
    ('1 min ago', '3 d ago', '')
    """
    if not moment:
        return ""
    ago = max(0.0, (time.time() if now is None else now) - moment)
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if ago >= seconds:
            return f"{ago // seconds:.0f} {unit} ago"
    return "just now"


def size(count: int | None) -> str:
    """Bytes in three figures or so.

    >>> size(512), size(20_480), size(None)
    ('512 B', '20.5 kB', '')
    """
    if count is None:
        return ""
    if count < 1_000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"


def moment(seconds: float) -> str | None:
    """A moment for machines: ISO 8601 in UTC; None: unknown."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


# --- list -----------------------------------------------------------------------------------------


def show_list(target: str | None, *, as_json: bool) -> None:
    """Print a row for each session of a store, the last used first."""
    store = stored.open_named(target)
    with kept_log() as log:
        found = stored.entries(store, sizes=True)
    if as_json:
        for entry in found:
            print_json(_entry_as_values(entry))
        return
    console = open_console()
    log.show(console)
    if not found:
        console.print("No session in this store.")
        return
    console.print(_entries_table(found))
    whole = sum(entry.bytes or 0 for entry in found)
    taken = f", {size(whole)}" if whole else ""
    console.print(Text(f"\n{counted(len(found), 'session')}{taken}", style="dim"))


def _entries_table(found: Sequence[stored.Entry]) -> Table:
    table = plain_table("snapshot", "items", "size", "budget", "")
    table.add_column("session", overflow="ellipsis")  # it alone gives way
    for heading in ("snapshot", "tokens", "budget", "used", "items", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("last used", ""):
        table.add_column(heading, no_wrap=True)
    for entry in found:
        budget = entry.token_budget
        table.add_row(
            Text(printable(entry.id)),
            f"{entry.revision:,}",
            f"{entry.tokens:,}",
            f"{budget:,}" if budget else "",
            percent(entry.tokens / budget) if budget else "",
            f"{entry.items:,}",
            size(entry.bytes),
            when(entry.used_at),
            _marks(entry),
        )
    return table


def _marks(entry: stored.Entry) -> Text:
    marks = ["archived"] * (entry.archived_at is not None) + ["pinned"] * entry.pinned
    return Text(printable(", ".join([*marks, *entry.tags]), 40), style="dim")


def _entry_as_values(entry: stored.Entry) -> dict[str, Any]:
    values = asdict(entry)
    values["used_at"] = moment(entry.used_at)
    values["archived_at"] = moment(entry.archived_at or 0.0)
    return values


# --- show -----------------------------------------------------------------------------------------


def show_one(target: str | None, session_id: str, *, as_json: bool) -> None:
    """Print a session's layers, points, and what its last runs did."""
    store = stored.open_named(target)
    with kept_log() as log:
        view = stored.view(store, stored.known(store, session_id))
    if as_json:
        print_json(_view_as_values(view))
        return
    console = open_console()
    entry = view.entry
    about = f"snapshot {entry.revision:,}, {counted(len(view.runs), 'run')}"
    used = f", last used {when(entry.used_at)}" if entry.used_at else ""
    head = Text(printable(entry.id), style="bold")
    console.print(head.append(f"  {about}{used}", style="not bold dim"))
    console.print()
    log.show(console)
    samples = [run.after for run in view.runs] or [view.profile.layer_tokens]
    show_curve(console, samples, view.profile, "run")
    console.print()
    console.print(_points_table(view.points))
    if view.runs:
        console.print()
        console.print(_runs_table(view.runs[-RECENT:]))
    if view.actions:
        console.print()
        console.print(_actions_table(view.actions[:RECENT], max(8, console.width - 69)))


def point_value(point: Point) -> str:
    """A point's value as people read it; a dash where there is too little to tell.

    >>> point_value(Point("token_budget_usage", 0.5, 0.9, "above", False))
    '50%'
    """
    if point.value is None:
        return "–"
    return f"{point.value:.2f}" if point.name == "cleanup_frequency" else f"{point.value:.0%}"


def threshold(point: Point) -> str:
    """Where a point's alert fires."""
    sign = ">" if point.direction == "above" else "<"
    shown = f"{point.threshold:g}" if point.name == "cleanup_frequency" else None
    return f"{sign} {shown or format(point.threshold, '.0%')}"


def _points_table(points: Sequence[Point]) -> Table:
    table = plain_table()
    table.add_column("point", no_wrap=True)
    for heading in ("now", "alert at"):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in points:
        style = "red" if point.crossed else ""
        name = point.name.replace("_", " ")
        table.add_row(name, Text(point_value(point), style=style), threshold(point))
    return table


def _runs_table(runs: Sequence[LoggedRun]) -> Table:
    table = plain_table("when", "took", "run")
    table.add_column("run", justify="right", no_wrap=True)
    for heading in ("name", "when"):
        table.add_column(heading, no_wrap=True)
    for heading in ("took", "before", "after", "gave back"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("error", overflow="ellipsis")
    for run in runs:
        freed = sum(report.tokens_freed for report in run.reports)
        table.add_row(
            f"{run.run_id:,}",
            printable(run.name, 24),
            when(run.started_at),
            duration(run.duration_s),
            f"{sum(run.before):,}",
            f"{sum(run.after):,}",
            f"{freed:,}" if freed else "",
            Text(printable(run.error or "", 40), style="red"),
        )
    return table


def _actions_table(actions: Sequence[tuple[LoggedRun, ActionReport]], room: int) -> Table:
    table = plain_table("items", "outcome")
    table.add_column("run", justify="right", no_wrap=True)
    for heading in ("action", "outcome"):
        table.add_column(heading, no_wrap=True)
    for heading in ("before", "after", "items"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("because", no_wrap=True)
    for run, report in actions:
        table.add_row(
            f"{run.run_id:,}",
            printable(report.action, 16),
            report.outcome,
            f"{report.tokens_before:,}",
            f"{report.tokens_after:,}",
            f"{report.items:,}",
            printable(report.reason, room),
        )
    return table


def _view_as_values(view: stored.View) -> dict[str, Any]:
    return {
        **_entry_as_values(view.entry),
        "profile": dict(view.profile),
        "layers": {name: usage._asdict() for name, usage in view.profile.layers.items()},
        "points": [asdict(point) for point in view.points],
        "runs": [_run_as_values(run) for run in view.runs],
    }


def _run_as_values(run: LoggedRun) -> dict[str, Any]:
    reports = [report_as_values(report) for report in run.reports]
    return {**asdict(run), "started_at": moment(run.started_at), "reports": reports}


def print_views(target: str | None) -> None:
    """Print each session of a store as a line of JSON: what ``top`` shows, once, for machines."""
    store = stored.open_named(target)
    with kept_log():
        for entry in stored.entries(store):
            if entry.revision:
                print_json(_view_as_values(stored.view(store, entry.id)))
