"""``memtrace replay``: printing what recorded sessions do to memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import MemtraceError
from ..export import export_to
from ..replay import Recorded, Replay, Turn, play, read_session
from ..spantree import printable
from .chart import open_console, percent, plain_table, show_curve, spark
from .log import kept_log
from .turns import report_as_values, saved, summary, turns_table

FEW_TURNS = 12
"""Turns up to which their spans are printed without being asked for."""


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
    played: list[Replay] = []
    good = True
    for file in files:
        try:
            recorded = read_session(file)
            if not as_json and len(files) == 1:
                _show_one(console, recorded, token_budget, every, spans)
                continue
            with kept_log(), _spans(bool(spans) and not as_json):
                replay = play(recorded, token_budget=token_budget)
            if as_json:
                print(json.dumps(_as_values(replay)))
            else:
                played.append(replay)
        except MemtraceError as error:
            said = Text(f"memtrace: {printable(error, 1_000)}")
            open_console(stderr=True).print(said, soft_wrap=True)
            good = False
    if played:
        console.print(_sessions_table(played))
        console.print()
        console.print(saved(played))
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
    with kept_log() as log, _spans(shown):
        replay = play(recorded, token_budget=token_budget)
    console.print()
    console.print(turns_table(replay.turns, every))
    console.print()
    show_curve(console, _samples(replay.turns), replay.profile, "turn")
    console.print()
    log.show(console)
    for line in summary(replay):
        console.print(line)


def _head(recorded: Recorded, turns: int) -> Text:
    header = recorded.header
    about = [printable(header[key], 20) for key in ("kind", "lang") if header.get(key)]
    counts = f"{turns:,} turns, {len(recorded.messages):,} messages"
    return Text(printable(recorded.session_id), style="bold").append(
        f"  {', '.join([counts, *about])}", style="not bold dim"
    )


def _samples(turns: Sequence[Turn]) -> list[tuple[int, ...]]:
    return [turn.after.layer_tokens for turn in turns]


# --- several sessions ---------------------------------------------------------------------------


def _sessions_table(played: Sequence[Replay]) -> Table:
    table = plain_table()
    table.add_column("session", overflow="ellipsis")  # it alone gives way
    for heading in ("turns", "messages", "tokens", "budget", "used", "passes", "saved", "over"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    for replay in played:
        table.add_row(*_session_row(replay))
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
        f"{replay.passes:,}",
        f"{replay.sent.saved_share:.0%}",
        Text(f"{replay.over_budget or ''}", style="red"),
        spark([turn.after.total_tokens for turn in replay.turns], 12),
    )


def _as_values(replay: Replay) -> dict[str, Any]:
    return {
        "session_id": replay.recorded.session_id,
        "file": str(replay.recorded.path),
        "messages": len(replay.recorded.messages),
        "token_budget": replay.profile.token_budget,
        "profile": dict(replay.profile),
        "layers": {name: usage._asdict() for name, usage in replay.profile.layers.items()},
        "passes": replay.passes,
        "over_budget": replay.over_budget,
        "sent": {**asdict(replay.sent), "saved_share": replay.sent.saved_share},
        "turns": [_turn_as_values(turn) for turn in replay.turns],
    }


def _turn_as_values(turn: Turn) -> dict[str, Any]:
    return {
        "turn": turn.number,
        "messages": turn.messages,
        "before": dict(turn.before),
        "after": dict(turn.after),
        "billed_tokens": turn.billed_tokens,
        "passes": turn.passes,
        "over_budget": turn.over_budget,
        "unreachable": turn.unreachable,
        "reports": [report_as_values(report) for report in turn.reports],
        "alerts": [asdict(alert) for alert in turn.alerts],
        "sent": asdict(turn.sent),
    }
