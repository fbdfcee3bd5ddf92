"""What a replay shows of one session: its turns, what the loop did in them, and what that saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from ..replay import Replay, Sent, Turn
from ..spantree import counted
from ..values import ActionReport
from .chart import SPARKS, percent, plain_table

ROWS = 24
"""Rows of turns that are shown; of a longer session each row is several turns."""


def turns_table(turns: Sequence[Turn], every: bool) -> Table:
    """A row for each turn, or for several: tokens before and after, and what went."""
    acted = any(turn.reports for turn in turns)
    billed = any(turn.billed_tokens for turn in turns)
    table = plain_table("messages", "billed", "before")
    headings = ["turn", "messages", "before", "after", "added", *(["gave back"] * acted), "used"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("by" if acted else "", no_wrap=not acted)
    if billed:
        table.add_column("billed", justify="right", no_wrap=True)
    for rows in _folded(turns, len(turns) if every else ROWS):
        table.add_row(*_row(rows, acted, billed))
    return table


def _row(turns: Sequence[Turn], acted: bool, billed: bool) -> list[str | Text]:
    first, last = turns[0], turns[-1]
    before, after = first.before.total_tokens, last.after.total_tokens
    freed = sum(turn.freed_tokens for turn in turns)
    share = last.after.utilization_rate
    cells: list[str | Text] = [
        f"{first.number}" if first is last else f"{first.number}–{last.number}",
        f"{sum(turn.messages for turn in turns):,}",
        f"{before:,}",
        f"{after:,}",
        f"{after - before + freed:+,}",
    ]
    if acted:
        cells.append(f"{freed:,}" if freed else "")
    cells.append(percent(share))
    cells.append(_by(turns) if acted else _bar(share))
    if billed:
        cells.append(f"{last.billed_tokens:,}" if last.billed_tokens else "")
    return cells


def _by(turns: Sequence[Turn]) -> Text:
    """What gave tokens back, and whether memory was over its budget all the same."""
    text = Text(actions(report for turn in turns for report in turn.reports))
    if over := sum(turn.over_budget for turn in turns):
        text.append(f"{', ' if text else ''}over×{over}", style="red")
    return text


def actions(reports: Iterable[ActionReport]) -> str:
    """Actions by name with how often each ran.

    >>> done = ActionReport("compress", "effective", 90, 60)
    >>> actions([done, done, ActionReport("cleanup", "ineffective", 90, 90)])
    'compress ×2, cleanup'
    """
    times = Counter(report.action for report in reports if report.outcome != "declined")
    return ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in times.items())


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


def report_as_values(report: ActionReport) -> dict[str, Any]:
    """A report for JSON."""
    return {**asdict(report), "tokens_freed": report.tokens_freed}


# --- in the end -----------------------------------------------------------------------------------


def summary(replay: Replay) -> Iterator[Text]:
    """What could not be done, if anything, and what the loop saved."""
    turns = replay.turns
    if replay.over_budget:
        where = ", ".join(str(turn.number) for turn in turns if turn.over_budget)
        moments = counted(replay.over_budget, "moment")
        yield Text(f"Over budget at {moments}, in turn {_cut(where)}.", style="red")
    reasons = Counter(reason for turn in turns for reason in turn.unreachable)
    for reason, _ in reasons.most_common(3):
        yield Text(f"Not reached: {reason}", style="yellow")
    yield Text(saved(Totals.of(replay)))


@dataclass(frozen=True, slots=True)
class Totals:
    """What is summed over replays.

    Args:
        passes: How often room was made.
        freed_tokens: That actions gave back.
        sent: What model calls were sent.
    """

    passes: int = 0
    freed_tokens: int = 0
    sent: Sent = field(default_factory=Sent)

    @classmethod
    def of(cls, replay: Replay) -> Totals:
        """One replay's."""
        freed = sum(turn.freed_tokens for turn in replay.turns)
        return cls(replay.passes, freed, replay.sent)

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.passes + other.passes,
            self.freed_tokens + other.freed_tokens,
            self.sent + other.sent,
        )


def saved(totals: Totals) -> str:
    """Passes, and the tokens sent over all model calls with memtrace and without.

    >>> saved(Totals(1, 100, Sent(2, 300, 400, 1, 50)))
    '1 pass, 100 tokens given back; 2 model calls sent 300 tokens, not 400: 25% saved. The prompt \
cache was rewritten once: 50 tokens read again.'
    >>> saved(Totals(0, 0, Sent(2, 300, 300, 0, 0)))
    'No room had to be made: 2 model calls sent 300 tokens. A smaller --budget shows what would go.'
    """
    sent = totals.sent
    if sent.calls and not totals.passes and sent.tokens == sent.raw_tokens:
        calls = counted(sent.calls, "model call")
        return (
            f"No room had to be made: {calls} sent {sent.tokens:,} tokens. A smaller --budget "
            "shows what would go."
        )
    text = f"{counted(totals.passes, 'pass', 'passes')}, {totals.freed_tokens:,} tokens given back"
    if not sent.calls:
        return f"{text}; no model call recorded."
    text += (
        f"; {counted(sent.calls, 'model call')} sent {sent.tokens:,} tokens, not "
        f"{sent.raw_tokens:,}: {sent.saved_share:.0%} saved."
    )
    if sent.rewrites:
        often = "once" if sent.rewrites == 1 else f"{sent.rewrites:,} times"
        text += (
            f" The prompt cache was rewritten {often}: {sent.reread_tokens:,} tokens read again."
        )
    return text


def _cut(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[:limit].rpartition(",")[0] + ", …"
