"""``memtrace top``: a store's sessions, live: what they hold, their five points, what was done.

It reads what a store has, so it shows what sessions wrote: their last snapshots and run logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Literal

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Footer, Static

from ..errors import MemtraceError
from ..spantree import counted, printable
from . import stored
from .chart import SPARKS, percent
from .sessions import point_value, threshold, when

if TYPE_CHECKING:
    from ..stores import Store

MOST = 200
"""Sessions that are shown: those used last."""

ACTIONS = 50
"""Actions that are shown of one session."""

_BAR = 10

_BESIDE = 76
"""Columns of the terminal that all but the name take of a session's row."""

_SHORTEST = 18
"""Columns that a session's name may take in any case."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a store had at a moment.

    Args:
        entries: Its sessions, the last used first.
        view: The one that is looked at more closely; None: there is none.
        error: Why it could not be read, in a line; empty: it could.
    """

    entries: Sequence[stored.Entry]
    view: stored.View | None
    error: str = ""


def look(store: Store, chosen: str | None, before: Look | None = None) -> Look:
    """Read a store.

    Args:
        store: The store.
        chosen: Id of the session to look at more closely; None: the one used last.
        before: What the last look saw: a session that is as it was is not read again.
    """
    try:
        entries = stored.entries(store)[:MOST]
        ids = [entry.id for entry in entries]
        name = chosen if chosen in ids else next(iter(ids), None)
        if name is None:
            return Look(entries, None)
        entry = entries[ids.index(name)]
        known = before.view if before is not None else None
        if known is not None and known.entry == entry:
            return Look(entries, known)
        return Look(entries, stored.view(store, name) if entry.revision else None)
    except MemtraceError as error:
        seen = before if before is not None else Look([], None)
        return Look(seen.entries, seen.view, str(error))


class Top(App[None]):
    """The live view.

    Args:
        store: What is looked at.
        interval_s: Seconds between two looks.
    """

    TITLE = "memtrace top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        ("r", "look", "Look now"),
        ("p", "pause", "Pause"),
    ]
    CSS = """
    #head { height: 1; padding: 0 1; background: $primary-background; }
    #sessions { height: 1fr; min-height: 6; }
    #below { height: 14; }
    #points { width: 46; border-top: solid $primary; }
    #actions { width: 1fr; border-top: solid $primary; }
    """

    def __init__(self, store: Store, interval_s: float = 2.0) -> None:
        super().__init__()
        self._store = store
        self._interval_s = interval_s
        self._seen: Look | None = None
        self._chosen: str | None = None
        self._paused = False

    def compose(self) -> ComposeResult:
        """Three tables below a line that sums up."""
        yield Static(id="head", markup=False)
        yield DataTable[Text](id="sessions", cursor_type="row", zebra_stripes=True)
        with Horizontal(id="below"):
            yield DataTable[Text](id="points", cursor_type="none")
            yield DataTable[Text](id="actions", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Make the columns, look for the first time, and again and again."""
        headings = {
            "sessions": (
                "session",
                "used",
                "",
                "tokens",
                "budget",
                "items",
                "snapshot",
                "last used",
            ),
            "points": ("point", "now", "alert at"),
            "actions": ("run", "action", "gave back", "outcome", "items", "because"),
        }
        for name, columns in headings.items():
            self._table(name).add_columns(*columns)
        self._table("sessions").focus()
        self.action_look()
        self.set_interval(self._interval_s, self._tick)

    def _table(self, name: str) -> DataTable[Text]:
        return self.query_one(f"#{name}", DataTable)

    # --- looking ------------------------------------------------------------------------------

    def _tick(self) -> None:
        if not self._paused:
            self.action_look()

    def action_look(self) -> None:
        """Look now, on a thread: a store may be slow, and keys are answered meanwhile."""
        self.run_worker(self._look, thread=True, exclusive=True, group="look")

    def _look(self) -> None:
        seen = look(self._store, self._chosen, self._seen)
        self.call_from_thread(self._show, seen)

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._paused = not self._paused
        if self._seen is not None:
            self._show_head(self._seen)

    def on_data_table_row_highlighted(self) -> None:
        """The cursor is at a session: look at that one."""
        # By where the cursor is now: events of rows that were filled in anew come late.
        row = self._table("sessions").cursor_row
        entries = self._seen.entries if self._seen is not None else []
        if row < len(entries) and entries[row].id != self._chosen:
            self._chosen = entries[row].id
            self.action_look()

    # --- showing ------------------------------------------------------------------------------

    def _show(self, seen: Look) -> None:
        self._seen = seen
        table = self._table("sessions")
        table.clear()
        for entry in seen.entries:
            table.add_row(*_session_row(entry, self.size.width - _BESIDE))
        ids = [entry.id for entry in seen.entries]
        if self._chosen not in ids:
            self._chosen = next(iter(ids), None)
        if self._chosen is not None:
            table.move_cursor(row=ids.index(self._chosen), scroll=False)
        self._show_head(seen)
        # A look that was under way when another session was chosen tells of the one before.
        if seen.view is None or seen.view.entry.id == self._chosen:
            self._show_view(seen.view)

    def _show_head(self, seen: Look) -> None:
        held = sum(entry.tokens for entry in seen.entries)
        text = Text(f"{printable(self._store.name, 60)}  ")
        text.append(f"{counted(len(seen.entries), 'session')}, {held:,} tokens")
        text.append(f"  {datetime.now().astimezone():%H:%M:%S}", style="dim")
        if self._paused:
            text.append("  paused", style="bold yellow")
        if seen.error:
            text.append(f"  {printable(seen.error, 200)}", style="bold red")
        self.query_one("#head", Static).update(text)

    def _show_view(self, view: stored.View | None) -> None:
        points, actions = self._table("points"), self._table("actions")
        points.clear()
        actions.clear()
        if view is None:
            return
        name = printable(view.entry.id, 40)
        points.border_title = Text(name).markup
        for point in view.points:
            style = "bold red" if point.crossed else ""
            label = Text(point.name.replace("_", " "), style=style)
            points.add_row(label, Text(point_value(point), style=style), Text(threshold(point)))
        for run, report in view.actions[:ACTIONS]:
            freed = report.tokens_freed
            cells = (
                f"{run.run_id:,}",
                printable(report.action, 16),
                f"{freed:,}" if freed else "",
                report.outcome,
                f"{report.items:,}",
                printable(report.reason, 120),
            )
            actions.add_row(*(Text(cell, justify=_side(cell)) for cell in cells))


def _side(cell: str) -> Literal["left", "right"]:
    """Figures stand at the right of their column."""
    return "right" if cell.replace(",", "").isdecimal() else "left"


def _session_row(entry: stored.Entry, room: int) -> tuple[Text, ...]:
    share = entry.tokens / entry.token_budget if entry.token_budget else None
    return (
        Text(printable(entry.id, min(48, max(_SHORTEST, room)))),
        percent(share) if share is not None else Text(""),
        _bar(share or 0.0),
        Text(f"{entry.tokens:,}", justify="right"),
        Text(f"{entry.token_budget:,}" if entry.token_budget else "", justify="right"),
        Text(f"{entry.items:,}", justify="right"),
        Text(f"{entry.revision:,}", justify="right"),
        Text(when(entry.used_at)),
    )


def _bar(share: float) -> Text:
    """A share as a bar; full from 1 on.

    >>> _bar(0.5).plain
    '█████·····'
    """
    filled = min(_BAR, round(share * _BAR))
    style = "red" if share > 0.9 else "yellow" if share > 0.8 else "green"
    return Text(SPARKS[-1] * filled, style=style).append("·" * (_BAR - filled), style="dim")
