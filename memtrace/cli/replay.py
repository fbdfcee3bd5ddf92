"""``memtrace replay``: printing what recorded sessions do to memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..counters import Counter, get_counter
from ..errors import MemtraceError
from ..export import export_to
from ..policy import Policy
from ..replay import Recorded, Replay, Turn, play, read_session
from ..spantree import printable
from .chart import open_console, percent, plain_table, show_curve, spark
from .failing import BAD_INPUT, complain, failing, print_json
from .log import kept_log
from .progress import progress
from .turns import Totals, report_as_values, saved, summary, turns_table

FEW_TURNS = 12
"""Turns up to which their spans are printed without being asked for."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What sessions are played with.

    Args:
        token_budget: Tokens; None: the policy's, else each session's own window.
        policy: The loop's constants; None: the defaults.
        counter: What counts texts; None: the configured encoding's.
    """

    token_budget: int | None = None
    policy: Policy | None = None
    counter: Counter | None = None

    @classmethod
    def of(cls, token_budget: int | None, policy: Path | None, encoding: str | None) -> Settings:
        """Settings as they are asked for.

        Raises:
            ConfigurationError: The policy's file cannot be used, or the encoding is unknown.
        """
        return cls(
            token_budget,
            None if policy is None else Policy.from_file(policy),
            None if encoding is None else get_counter(encoding),
        )

    def play(self, recorded: Recorded, told: Callable[[Turn], object] | None = None) -> Replay:
        """Play a recorded session."""
        return play(
            recorded,
            token_budget=self.token_budget,
            policy=self.policy,
            counter=self.counter,
            told=told,
        )


def show(
    files: Sequence[Path],
    settings: Settings,
    *,
    as_json: bool = False,
    every: bool = False,
    spans: bool | None = None,
) -> int:
    """Play each file and print what came of it; the exit status.

    Args:
        files: Recorded sessions; of several, each is one row.
        settings: What they are played with.
        as_json: One JSON object a line instead, every turn in it.
        every: A row for every turn.
        spans: Print each turn's span; None: where one session of few turns is played.
    """
    if len(files) == 1 and not as_json:
        with failing():
            _show_one(open_console(), read_session(files[0]), settings, every, spans)
        return 0
    rows, totals, good = [], Totals(), True
    printing = (as_json or bool(spans)) and sys.stdout.isatty()  # lines amid a bar are no bar
    with progress("playing", 0 if printing else len(files)) as advance:
        for file in files:
            try:
                with kept_log(), _spans(bool(spans) and not as_json):
                    replay = settings.play(read_session(file))
                if as_json:
                    print_json(_as_values(replay))
                else:  # a session's row is all that is kept of it
                    rows.append(_session_row(replay))
                    totals += Totals.of(replay)
            except MemtraceError as error:
                complain(error)
                good = False
            advance(1)
    if rows:
        console = open_console()
        console.print(_sessions_table(rows))
        console.print()
        console.print(saved(totals))
    return 0 if good else BAD_INPUT


def _spans(shown: bool) -> AbstractContextManager[Any]:
    return export_to("console", file=sys.stdout) if shown else nullcontext()


# --- one session --------------------------------------------------------------------------------


def _show_one(
    console: Console,
    recorded: Recorded,
    settings: Settings,
    every: bool,
    spans: bool | None,
) -> None:
    turns = len(recorded.runs())
    console.print(_head(recorded, turns))
    shown = turns <= FEW_TURNS if spans is None else spans
    if shown:
        console.print()
    bar = nullcontext(lambda _: None) if shown else progress("playing", turns)
    with kept_log() as log, _spans(shown), bar as advance:
        replay = settings.play(recorded, lambda _: advance(1))
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


def _sessions_table(rows: Sequence[tuple[str | Text, ...]]) -> Table:
    table = plain_table("curve", "messages", "passes", "budget", "turns")
    table.add_column("session", overflow="ellipsis")  # it alone gives way
    for heading in ("turns", "messages", "tokens", "budget", "used", "passes", "saved", "over"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    for row in rows:
        table.add_row(*row)
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
