"""``memtrace replay``: printing what recorded sessions do to memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import MemtraceError
from ..export import export_to
from ..replay import Recorded, Replay, Turn, play, read_session
from ..spantree import printable
from .chart import SPARKS, open_console, percent, show_curve, spark

FEW_TURNS = 12
"""Turns up to which their spans are printed without being asked for."""

ROWS = 24
"""Rows of turns that are shown; of a longer session each row is several turns."""


def show(
    files: Sequence[Path],
    token_budget: int | None,
    *,
    as_json: bool = False,
    every: bool = False,
    spans: bool | None = None,
) -> bool:
    """Play each file and print what came of it; False if any could not be played.

    Args:
        files: Recorded sessions; of several, each is one row.
        token_budget: Tokens to hold each against; None: its own window.
        as_json: One JSON object a line instead, every turn in it.
        every: A row for every turn.
        spans: Print each turn's span; None: where one session of few turns is played.
    """
    console = open_console()
    table = _sessions_table() if len(files) > 1 and not as_json else None
    good = True
    for file in files:
        try:
            recorded = read_session(file)
            if as_json:
                print(json.dumps(_as_values(play(recorded, token_budget=token_budget))))
            elif table is not None:
                with _spans(spans or False):
                    table.add_row(*_session_row(play(recorded, token_budget=token_budget)))
            else:
                _show_one(console, recorded, token_budget, every, spans)
        except MemtraceError as error:
            said = Text(f"memtrace: {printable(error, 1_000)}")
            open_console(stderr=True).print(said, soft_wrap=True)
            good = False
    if table is not None and table.row_count:
        console.print(table)
    return good


def _spans(shown: bool) -> AbstractContextManager[Any]:
    return export_to("console", file=sys.stdout) if shown else nullcontext()


# --- one session --------------------------------------------------------------------------------


def _show_one(
    console: Console,
    recorded: Recorded,
    token_budget: int | None,
    every: bool,
    spans: bool | None,
) -> None:
    turns = len(recorded.runs())
    console.print(_head(recorded, turns))
    shown = turns <= FEW_TURNS if spans is None else spans
    if shown:
        console.print()
    with _spans(shown):
        replay = play(recorded, token_budget=token_budget)
    samples, profile = _samples(replay.turns), replay.profile
    console.print()
    console.print(_turns_table(replay.turns, every))
    console.print()
    show_curve(console, samples, profile, "turn")


def _head(recorded: Recorded, turns: int) -> Text:
    header = recorded.header
    about = [printable(header[key], 20) for key in ("kind", "lang") if header.get(key)]
    counts = f"{turns:,} turns, {len(recorded.messages):,} messages"
    return Text(printable(recorded.session_id), style="bold").append(
        f"  {', '.join([counts, *about])}", style="not bold dim"
    )


def _samples(turns: Sequence[Turn]) -> list[tuple[int, ...]]:
    return [turn.after.layer_tokens for turn in turns]


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")


def _turns_table(turns: Sequence[Turn], every: bool) -> Table:
    billed = any(turn.billed_tokens for turn in turns)
    table = _table()
    for heading in ("turn", "messages", "before", "after", "added", "used"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    if billed:
        table.add_column("billed", justify="right", no_wrap=True)
    for rows in _folded(turns, len(turns) if every else ROWS):
        first, last = rows[0], rows[-1]
        before, after = first.before, last.after
        cells: list[str | Text] = [
            f"{first.number}" if first is last else f"{first.number}–{last.number}",
            f"{sum(turn.messages for turn in rows):,}",
            f"{before.total_tokens:,}",
            f"{after.total_tokens:,}",
            f"{after.total_tokens - before.total_tokens:+,}",
            percent(after.utilization_rate),
            _bar(after.utilization_rate),
        ]
        if billed:
            cells.append(f"{last.billed_tokens:,}" if last.billed_tokens else "")
        table.add_row(*cells)
    return table


def _folded(turns: Sequence[Turn], rows: int) -> Iterator[Sequence[Turn]]:
    """Turns by row: one each where there is room for it, else evenly many."""
    count = len(turns)
    rows = min(rows, count)
    for row in range(rows):
        yield turns[row * count // rows : (row + 1) * count // rows]


def _bar(share: float, width: int = 20) -> Text:
    """A share as a bar; full from 1 on.

    >>> _bar(0.25, 8).plain
    '██······'
    """
    filled = min(width, round(share * width))
    style = "red" if share > 1 else "yellow" if share > 0.8 else "cyan"
    return Text(SPARKS[-1] * filled, style=style).append("·" * (width - filled), style="dim")


# --- several sessions ---------------------------------------------------------------------------


def _sessions_table() -> Table:
    table = _table()
    table.add_column("session", overflow="ellipsis", no_wrap=True)
    for heading in ("turns", "messages", "tokens", "budget", "used"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    return table


def _session_row(replay: Replay) -> tuple[str | Text, ...]:
    profile = replay.profile
    return (
        Text(printable(replay.recorded.session_id)),
        f"{len(replay.turns):,}",
        f"{len(replay.recorded.messages):,}",
        f"{profile.total_tokens:,}",
        f"{profile.token_budget:,}",
        percent(profile.utilization_rate),
        spark([turn.after.total_tokens for turn in replay.turns], 16),
    )


def _as_values(replay: Replay) -> dict[str, Any]:
    return {
        "session_id": replay.recorded.session_id,
        "file": str(replay.recorded.path),
        "messages": len(replay.recorded.messages),
        "token_budget": replay.profile.token_budget,
        "profile": dict(replay.profile),
        "layers": {name: usage._asdict() for name, usage in replay.profile.layers.items()},
        "turns": [
            {
                "turn": turn.number,
                "messages": turn.messages,
                "before": dict(turn.before),
                "after": dict(turn.after),
                "billed_tokens": turn.billed_tokens,
            }
            for turn in replay.turns
        ],
    }
