"""Values as small tables for notebooks: everything escaped, colours left to the notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding:2px 12px 2px 0;text-align:{};vertical-align:top"
_LONGEST = 300
"""Characters of a cell that are shown."""


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as HTML. Whole numbers get commas, other numbers three figures, None a dash.

    Args:
        caption: Stands above it.
        head: A heading for each column.
        rows: Cells, as many in each row as there are headings.

    >>> table("a < b", ["n"], [[1204]]).count("a &lt; b"), "1,204" in table("", ["n"], [[1204]])
    (1, True)
    """
    heads = "".join(f'<th style="{_CELL.format("left")}">{_safe(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<table><caption style="text-align:left;font-weight:600">{_safe(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: object) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f'<td style="{_CELL.format("right" if number else "left")}">{_safe(_shown(value))}</td>'


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def share(part: float) -> str:
    """A share as per cent.

    >>> share(0.256)
    '26%'
    """
    return f"{part:.0%}"


def _safe(text: str) -> str:
    """Text of one line that acts on nothing around it: no tags, no marks of direction."""
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    plain = "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in cut
    )
    return escape(plain)
