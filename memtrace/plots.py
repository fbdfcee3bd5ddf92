"""Pictures for notebooks, where matplotlib is: memory over the runs, and a layer's items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import ConfigurationError

Stack = tuple[float, Sequence[int]]
"""A place on the axis, and tokens by layer there."""

_COLOURS = ("#3f74d1", "#6f9a3d", "#d69a1e", "#9561c6", "#1d97a0")
_BARS = 20
"""Items of a layer that are drawn; the smaller ones are one bar."""


def memory(
    stacks: Sequence[Stack], layers: Sequence[str], token_budget: int, title: str, axes: Any = None
) -> Any:
    """Tokens by layer over the runs, stacked, with the budget as a line.

    Args:
        stacks: Tokens by layer, in order; one alone is drawn as what always was.
        layers: Their names.
        token_budget: Tokens of the whole budget.
        title: Stands above it.
        axes: What to draw on; None: a figure of its own.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    axes = _axes(axes)
    places = [place for place, _ in stacks]
    levels = list(zip(*(tokens for _, tokens in stacks), strict=True))
    if len(stacks) == 1:
        places, levels = [0.0, *places], [(level[0], level[0]) for level in levels]
    axes.stackplot(
        places, *levels, labels=[name.replace("_", " ") for name in layers], colors=_COLOURS
    )
    axes.axhline(token_budget, color="tab:red", linewidth=1, label="budget")
    axes.set(title=_plain(title), xlabel="run", ylabel="tokens", xlim=(places[0], places[-1]))
    axes.set_ylim(0, 1.05 * max(token_budget, *(sum(tokens) for _, tokens in stacks)))
    axes.legend(loc="upper left", fontsize="small")
    return axes


def items(tokens: Sequence[tuple[str, int]], title: str, axes: Any = None) -> Any:
    """The largest items of a layer as bars, the largest on top.

    Args:
        tokens: Name and tokens of each item.
        title: Stands above it.
        axes: What to draw on; None: a figure of its own.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    axes = _axes(axes)
    ranked = sorted(tokens, key=lambda named: -named[1])
    shown, rest = ranked[:_BARS], ranked[_BARS:]
    if rest:
        shown.append((f"{len(rest):,} smaller", sum(count for _, count in rest)))
    rows = range(len(shown))
    axes.barh(rows, [count for _, count in shown], color=_COLOURS[4])
    axes.set_yticks(rows, [_plain(name) for name, _ in shown], fontsize="small")
    axes.invert_yaxis()
    axes.set(title=_plain(title), xlabel="tokens")
    return axes


def _axes(axes: Any) -> Any:
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ConfigurationError(
            f"plot() draws with matplotlib, and {error.name} is not installed: "
            "pip install matplotlib"
        ) from None
    return plt.subplots(figsize=(8, 3.5), layout="constrained")[1]


def _plain(name: str) -> str:
    """A name that can be drawn: short, printable, and with nothing that is taken for a formula."""
    shown = (c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[:60])
    return "".join(shown).replace("$", r"\$")
