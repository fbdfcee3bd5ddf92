"""The memory curve by layer, and the table of layers, for a terminal of any width."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, groupby

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

from ..console import WIDTH
from ..values import LAYER_NAMES, MemoryProfile

HEIGHT = 10
"""Rows of the stacked curve."""

SPARKS = "▁▂▃▄▅▆▇█"

_WIDEST_STEP = 6
"""Columns that one step takes at most, where there are few."""

# Each layer has a colour and a shade of its own: without colours the shade alone tells.
_LOOKS = {
    "working_memory": ("█", "blue"),
    "conversation_history": ("▓", "cyan"),
    "cache": ("▒", "yellow"),
    "agent_states": ("░", "magenta"),
    "long_term_memory": ("·", "green"),
}
_STACK = tuple((LAYER_NAMES.index(name), *look) for name, look in _LOOKS.items())

Samples = Sequence[tuple[int, ...]]
"""Tokens by layer, in layer order, at each step."""


def open_console(*, stderr: bool = False) -> Console:
    """Where to print: as wide as the terminal, or as span trees where it is none."""
    # Nothing that is printed is markup: a name such as [/b] or :smile: is shown as it is.
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH
    return console


def short(tokens: int) -> str:
    """Tokens in at most five characters.

    >>> short(950), short(64_000), short(200_000), short(1_250_000)
    ('950', '64.0k', '200k', '1.2M')
    """
    if tokens < 1_000:
        return str(tokens)
    if tokens < 99_950:
        return f"{tokens / 1_000:.1f}k"
    return f"{tokens / 1_000:.0f}k" if tokens < 999_500 else f"{tokens / 1_000_000:.1f}M"


def places(count: int, width: int) -> list[slice]:
    """Which of ``count`` steps each column shows, on at most ``width`` columns.

    >>> places(3, 2), places(2, 4)
    ([slice(0, 1, None), slice(1, 3, None)], [slice(0, 1, None), slice(0, 1, None), \
slice(1, 2, None), slice(1, 2, None)])
    """
    columns = min(width, count * _WIDEST_STEP)
    starts = [column * count // columns for column in range(columns)]
    ends = [(column + 1) * count // columns for column in range(columns)]
    return [slice(start, max(start + 1, end)) for start, end in zip(starts, ends, strict=True)]


def show_curve(
    console: Console,
    samples: Samples,
    profile: MemoryProfile,
    unit: str = "step",
    who: Sequence[str] | None = None,
) -> None:
    """Print the stacked curve, what its shades mean, and the table of layers."""
    for line in curve(samples, profile.token_budget, console.width, unit, who):
        console.print(line, no_wrap=True, overflow="crop")
    console.print()
    console.print(layers_table(samples, profile))


def curve(
    samples: Samples,
    token_budget: int,
    width: int,
    unit: str = "step",
    who: Sequence[str] | None = None,
) -> Iterator[Text]:
    """The stacked curve, line by line.

    Args:
        samples: Tokens by layer at each step; at least one.
        token_budget: Tokens of the budget; shown as a line where the curve comes near it.
        width: Columns of the terminal.
        unit: What one sample is: ``step`` or ``turn``.
        who: Whose step each was, for the axis.
    """
    columns = places(len(samples), max(10, width - 15))  # beside the scale and the word "budget"
    stacks = [max(samples[place], key=sum) for place in columns]
    highest = max(map(sum, samples))
    near = highest * 2 >= token_budget
    top = max(highest, token_budget if near else 1)
    limit = round(token_budget / top * HEIGHT) if near else 0
    for row in range(HEIGHT, 0, -1):
        label = short(top * row // HEIGHT) if row in (HEIGHT, HEIGHT // 2) else ""
        line = Text(f"{label:>6} ┤" if label else "       │", style="dim")
        for stack in stacks:
            line.append(*_cell(stack, (row - 0.5) / HEIGHT * top, row == limit))
        yield line.append(" budget", style="not dim red") if row == limit else line
    yield Text("     0 └" + _axis([who[place.start] for place in columns] if who else columns))
    first, last = f"{unit} 1", f"{unit} {len(samples)}"
    gap = len(columns) - len(first) - len(last)
    yield Text(f"{'':8}{first}{' ' * gap}{last}" if gap > 0 else f"{'':8}{last}", style="dim")


def _axis(owners: Sequence[object]) -> str:
    """A line, with each owner's name where its steps begin.

    >>> _axis(["ann"] * 6 + ["bob"] * 3)
    '╴ann──╴bo'
    """
    parts = []
    for owner, columns in groupby(owners):
        wide = len(list(columns))
        parts.append(f"╴{owner}".ljust(wide, "─")[:wide] if isinstance(owner, str) else "─" * wide)
    return "".join(parts)


def _cell(stack: tuple[int, ...], level: float, at_limit: bool) -> tuple[str, str]:
    """Character and colour at a level of tokens: the layer that reaches past it."""
    heights = accumulate(stack[index] for index, _, _ in _STACK)
    for height, (_, shade, colour) in zip(heights, _STACK, strict=True):
        if height > level:
            return shade, f"not dim {colour}"
    return ("╌", "not dim red") if at_limit else (" ", "")


def spark(values: Sequence[int], width: int) -> str:
    """One line of bars, the highest value full.

    >>> spark([0, 1, 2, 4], 4)
    ' ▂▄█'
    """
    shown = [max(values[place]) for place in places(len(values), width)]
    highest = max(shown, default=0)
    return "".join(
        SPARKS[-(-value * len(SPARKS) // highest) - 1] if value else " " for value in shown
    )


class Plain(Table):
    """A table without lines; every table that is printed is one.

    Args:
        spare: Headings of columns that go where the terminal is too narrow, in this order, so that
            no figure is cut.
    """

    def __init__(self, *spare: str) -> None:
        super().__init__(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        self._spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, with the columns that there is room for."""
        for heading in self._spare:
            if sum(map(_least, self.columns)) - 2 <= options.max_width:
                break
            kept = (column for column in self.columns if column.header != heading)
            self.columns = [replace(column, _index=n) for n, column in enumerate(kept)]
        return super().__rich_console__(console, options)


def _least(column: Column) -> int:
    """Columns of the terminal that one of the table needs; text that may be cut has 14."""
    widest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    return (widest if column.no_wrap else min(widest, 14)) + 2


def plain_table(*spare: str) -> Table:
    """A table without lines, that is without its spare columns where there is no room."""
    return Plain(*spare)


def layers_table(samples: Samples, profile: MemoryProfile) -> Table:
    """What each layer holds at the end, against its limit, with its own curve."""
    table = plain_table("curve", "limit", "items")
    table.add_column("layer", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    for heading in ("items", "tokens", "limit", "used", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    total = profile.total_tokens
    for index, (name, usage) in enumerate(profile.layers.items()):
        shade, colour = _LOOKS[name]
        table.add_row(
            Text(f"{shade} ", style=colour).append(name.replace("_", " "), style="default"),
            Text(spark([sample[index] for sample in samples], 16), style=colour),
            f"{usage.items:,}",
            f"{usage.tokens:,}",
            f"{usage.limit:,}",
            # Working memory's limit and the whole are watched; the others may use what is free.
            percent(usage.utilization) if index == 0 else f"{usage.utilization:.0%}",
            f"{usage.tokens / total:.0%}" if total else "",
        )
    table.add_row(
        Text("total", style="bold"),
        spark([sum(sample) for sample in samples], 16),
        f"{sum(usage.items for usage in profile.layers.values()):,}",
        f"{total:,}",
        f"{profile.token_budget:,}",
        percent(profile.utilization_rate),
        "100%" if total else "",
    )
    return table


def percent(share: float) -> Text:
    """A share, in colour where it is near or past the whole."""
    style = "red" if share > 1 else "yellow" if share > 0.8 else ""
    return Text(f"{share:.0%}", style=style)
