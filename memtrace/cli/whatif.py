"""``memtrace whatif``: what other budgets and policies would have done to recorded sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..policy import Policy
from ..policy_file import read_policy
from ..replay.whatif import Outcome, Setting, whatif
from ..spantree import counted, printable
from .chart import open_console, plain_table, short
from .failing import BAD_INPUT, complain, print_json
from .log import kept_log
from .progress import progress

_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Named(NamedTuple):
    """A setting, and what it is called.

    Args:
        budget: Its budget, or ``own`` for each session's window.
        policy: Its policy's file, or ``default``.
        setting: What sessions are played with.
    """

    budget: str
    policy: str
    setting: Setting


def show(
    files: Sequence[Path],
    budgets: Sequence[int],
    policies: Sequence[Path],
    *,
    encoding: str | None = None,
    jobs: int | None = None,
    as_json: bool = False,
) -> int:
    """Play each file at each setting, and print a table and a picture; the exit status.

    Args:
        files: Recorded sessions.
        budgets: Tokens; none: the policy's budget, or each session's own window.
        policies: Policies' files; none: the default policy.
        encoding: What counts texts.
        jobs: Processes; None: as many as help.
        as_json: One JSON object for each setting instead.

    Raises:
        ConfigurationError: A policy cannot work, or the encoding is unknown.
    """
    named = settings(budgets, policies)
    with kept_log(), progress("playing", len(files) * len(named)) as advance:
        found, refused = whatif(
            files, [one.setting for one in named], encoding=encoding, workers=jobs, told=advance
        )
    for reason in refused:
        complain(reason)
    if any(outcome.sessions for outcome in found):
        if as_json:
            for one, outcome in zip(named, found, strict=True):
                print_json(as_values(one, outcome))
        else:
            _print(open_console(), named, found)
    return BAD_INPUT if refused else 0


def settings(budgets: Sequence[int], policies: Sequence[Path]) -> list[Named]:
    """Every budget with every policy.

    >>> [(one.budget, one.policy) for one in settings([32_000, 64_000], [])]
    [('32,000', 'default'), ('64,000', 'default')]
    """
    return [
        Named(_budget_words(budget, constants), name, Setting(budget, constants))
        for name, constants in map(_policy, policies or (None,))
        for budget in budgets or (None,)
    ]


def _policy(path: Path | None) -> tuple[str, dict[str, Any]]:
    """What a policy is called, and what it has other than by default."""
    if path is None:
        return "default", {}
    read = read_policy(path, Policy)
    constants = {name: getattr(read.policy, name) for name in read.lines}
    return printable(path.name, 24), constants


def _budget_words(budget: int | None, constants: dict[str, Any]) -> str:
    held = constants.get("token_budget") if budget is None else budget
    return "own" if held is None else f"{held:,}"


def as_values(one: Named, outcome: Outcome) -> dict[str, Any]:
    """A setting and what it did, for JSON."""
    sent, sighted = outcome.sent, outcome.sighted
    return {
        "token_budget": one.setting.token_budget or one.setting.constants.get("token_budget"),
        "policy": one.policy,
        "constants": dict(one.setting.constants),
        "sessions": outcome.sessions,
        "sent": {**asdict(sent), "saved_share": sent.saved_share},
        "compactions": outcome.compactions,
        "over_budget": outcome.over_budget,
        "names": asdict(sighted),
    }


# --- the table and the picture --------------------------------------------------------------------


def _print(console: Console, named: Sequence[Named], found: Sequence[Outcome]) -> None:
    sent, sighted = found[0].sent, found[0].sighted
    head = Text(counted(found[0].sessions, "session"), style="bold")
    about = f"{counted(sent.calls, 'model call')}, {sent.raw_tokens:,} tokens without memtrace"
    names = f"{counted(sighted.said, 'name')} said, {counted(sighted.used, 'time')} used again"
    console.print(head.append(f"  {about}; {names}", "not bold dim"))
    console.print()
    console.print(_table(named, found, console.width >= ROOMY))
    console.print()
    console.print(_picture(named, found, console.width))
    console.print()
    console.print(Text(_WORDS, style="dim"))


ROOMY = 90
"""Columns of a terminal from which the table shows all it has."""

_WORDS = (
    "lost: names said that the conversation shows nowhere at its end. missed: names that a reply "
    "used and its prompt did not show. Originals of all stay reachable."
)


def _table(named: Sequence[Named], found: Sequence[Outcome], roomy: bool) -> Table:
    over = any(outcome.over_budget for outcome in found)
    table = plain_table("reread", "rewrites", "lost")
    table.add_column("budget", justify="right", no_wrap=True)
    widest = max(len(one.policy) for one in named)
    table.add_column("policy", overflow="ellipsis", no_wrap=True, min_width=min(widest, 16))
    headings = ["sent", "saved", "compactions", "lost", "missed", "rewrites"]
    headings += ["reread"] * roomy + ["over"] * over
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for one, outcome in zip(named, found, strict=True):
        sent, sighted = outcome.sent, outcome.sighted
        cells: list[str | Text] = [
            short(sent.tokens),
            f"{sent.saved_share:.0%}",
            f"{outcome.compactions:,}",
            f"{sighted.lost:,}",
            f"{sighted.missed:,}",
            f"{sent.rewrites:,}",
        ]
        cells += [short(sent.reread_tokens)] * roomy
        cells += [Text(f"{outcome.over_budget or ''}", style="red")] * over
        table.add_row(one.budget, Text(one.policy), *cells)
    return table


_BARS = (
    ("tokens sent", "cyan"),
    ("compactions", "yellow"),
    ("names lost", "magenta"),
    ("cache rewrites", "blue"),
)


def _picture(named: Sequence[Named], found: Sequence[Outcome], width: int) -> Table:
    """A bar for each figure of each setting, as long as it is of the largest of its kind."""
    table = plain_table()
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for heading, colour in _BARS:
        table.add_column(heading, style=colour, no_wrap=True, overflow="crop")
    heights = [
        (outcome.sent.tokens, outcome.compactions, outcome.sighted.lost, outcome.sent.rewrites)
        for outcome in found
    ]
    most = [max(column) for column in zip(*heights, strict=True)]
    labels = [_label(one, named) for one in named]
    room = (width - max(map(len, labels)) - 2 * len(_BARS)) // len(_BARS)
    for label, row in zip(labels, heights, strict=True):
        bars = [bar(value, top, max(6, room)) for value, top in zip(row, most, strict=True)]
        table.add_row(label, *bars)
    return table


def _label(one: Named, named: Sequence[Named]) -> str:
    """A setting in short: what tells it from the others."""
    if len({other.policy for other in named}) == 1:
        return one.budget
    return (
        one.policy
        if len({other.budget for other in named}) == 1
        else (f"{one.budget} {one.policy}")
    )


def bar(value: int, most: int, width: int) -> str:
    """A value as a bar of at most ``width`` characters, in eighths of one.

    >>> bar(3, 8, 4), bar(8, 8, 4), bar(0, 8, 4), bar(1, 1000, 4)
    ('█▌', '████', '', '▏')
    """
    eighths = max(1, round(value / most * width * 8)) if value else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
