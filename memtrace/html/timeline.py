"""Runs and checkpoints on a timeline."""

from __future__ import annotations

from collections.abc import Callable

from .facts import Report
from .spec import Spec, chart, quantity, text, told

BARS = 1_200
"""Runs that the timeline shows, at most: the last ones."""

_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))

_COLOUR: Spec = {
    "field": "kind",
    "type": "nominal",
    "legend": None,
    "scale": {
        "domain": ["agent", "checkpoint", "failed"],
        "range": ["var(--layer-4)", "var(--layer-0)", "var(--bad)"],
    },
}


def timeline(report: Report) -> Spec:
    """A bar for each run and checkpoint, in a row by name; a triangle for each that gave back."""
    unit, place = _axis(report)
    rows = _rows(report, place)
    names = list(dict.fromkeys(row["name"] for row in rows))
    where: Spec = {
        "x": quantity("start", unit, axis={"grid": False}, scale={"nice": False, "zero": False}),
        "y": {"field": "name", "type": "nominal", "title": None, "sort": names},
    }
    tooltip = _tooltip(report)
    bars: Spec = {
        "data": {"name": "runs"},
        "mark": {"type": "bar", "stroke": "var(--card)", "strokeWidth": 1, "minBandSize": 14},
        "encoding": {**where, "x2": {"field": "end"}, "fill": _COLOUR, "tooltip": tooltip},
    }
    # A run of milliseconds among hours has no width: its beginning is drawn as a line.
    begun: Spec = {
        "data": {"name": "runs"},
        "mark": {"type": "tick", "thickness": 2, "aria": False},
        "encoding": {**where, "color": _COLOUR, "tooltip": tooltip},
    }
    layers = [bars, begun] if report.dated else [bars]
    return chart(60 + 30 * min(len(names), 20), [*layers, _gave(where)], runs=rows)


def _gave(where: Spec) -> Spec:
    """A triangle over each run in which memory gave something back."""
    return {
        "data": {"name": "runs"},
        "transform": [
            {"filter": "datum.freed > 0"},
            {"calculate": "(datum.start + datum.end) / 2", "as": "middle"},
        ],
        "mark": {
            "type": "point",
            "shape": "triangle-down",
            "filled": True,
            "size": 45,
            "yOffset": -12,
            "fill": "var(--text)",
            "aria": False,
        },
        "encoding": {**where, "x": {**where["x"], "field": "middle"}},
    }


def _axis(report: Report) -> tuple[str, Callable[[float, float], float]]:
    """What the axis counts, and where on it something begins or ends."""
    if not report.dated:
        return report.unit, lambda at, beside: at + beside
    began = report.timeline[0].start
    span = report.timeline[-1].end - began
    name, seconds = next((unit for unit in _UNITS if span > 2 * unit[1]), _UNITS[-1])
    return f"{name} since the first run began", lambda at, _beside: (at - began) / seconds


def _rows(report: Report, place: Callable[[float, float], float]) -> list[Spec]:
    return [
        {
            "start": place(stretch.start, -0.5),
            "end": place(stretch.end, 0.5),
            "name": stretch.name,
            "kind": "failed" if stretch.error else stretch.kind,
            "run": stretch.run,
            "before": stretch.before,
            "after": stretch.after,
            "freed": stretch.freed,
            "seconds": round(stretch.end - stretch.start, 3),
            "error": (stretch.error or "")[:100],
        }
        for stretch in report.timeline[-BARS:]
    ]


def _tooltip(report: Report) -> list[Spec]:
    failed = any(stretch.error for stretch in report.timeline)
    return [
        text("name", "name"),
        text("kind", "kind"),
        told("run", "run"),
        *([told("seconds", "seconds", ",.3~f")] if report.dated else []),
        told("before", "tokens before"),
        told("after", "tokens after"),
        told("freed", "gave back"),
        *([text("error", "error")] if failed else []),
    ]
