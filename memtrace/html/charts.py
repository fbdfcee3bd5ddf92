"""Each chart of a report, and the small ones: the cache's, and the forecast's."""

from __future__ import annotations

from math import isfinite

from ..outlook import TurnsLeft
from .curve import memory
from .facts import Report
from .spec import TOKENS, Spec, chart, quantity, text, told
from .timeline import timeline
from .treemap import treemap

SNAPSHOTS = 400
"""Snapshots whose hit rate is drawn, at most: the last ones."""


def charts(report: Report) -> dict[str, Spec]:
    """Each chart by name, those left out for which there is nothing to show."""
    made = {
        "memory": memory(report),
        "treemap": treemap(report) if report.leaves else None,
        "timeline": timeline(report) if report.timeline else None,
        "rate": rate(report),
        "cache": cache(report),
        "forecast": forecast(report),
    }
    return {name: spec for name, spec in made.items() if spec is not None}


# --- the cache ------------------------------------------------------------------------------------


def rate(report: Report) -> Spec | None:
    """The hit rate at each snapshot against its alert; None: fewer than two are known."""
    known = [told for told in report.lookups if told.hits + told.misses]
    if len(known) < 2:
        return None
    rows = [
        {
            "snapshot": number,
            "rate": told.hits / (told.hits + told.misses),
            "lookups": told.hits + told.misses,
        }
        for number, told in enumerate(known[-SNAPSHOTS:], 1)
    ]
    x = quantity("snapshot", axis={"grid": False, "tickMinStep": 1, "format": ",d"})
    y = quantity("rate", "hit rate", scale={"domain": [0, 1]}, axis={"format": "%"})
    line = {
        "data": {"name": "snapshots"},
        "mark": {"type": "line", "point": {"fill": "var(--layer-2)"}, "stroke": "var(--layer-2)"},
        "encoding": {
            "x": {**x, "title": "snapshot"},
            "y": y,
            "tooltip": [
                told("snapshot", "snapshot"),
                told("rate", "hit rate", ".1%"),
                told("lookups", "lookups"),
            ],
        },
    }
    threshold = report.policy.cache_hit_rate_alert
    return chart(160, [_alert(y), line], snapshots=rows, alert=[{"rate": threshold}])


_SIZES = {"type": "log", "nice": False, "padding": 12}
_QUIET = {"labelColor": "var(--muted)", "titleColor": "var(--muted)"}


def cache(report: Report) -> Spec | None:
    """The hit rate that each size would have given, by who leaves first; None: too few lookups."""
    advice = report.advice
    if advice is None or not advice.rows:
        return None
    now = advice.now
    rows = [
        {"size": row.setting.limit_tokens, "rate": row.hit_rate, "order": row.setting.eviction}
        for row in sorted((now, *advice.rows), key=lambda row: row.setting)
        if row.setting.ttl_factor == now.setting.ttl_factor
    ]
    x = quantity("size", "size, tokens", scale=_SIZES, axis=TOKENS)
    y = quantity("rate", "hit rate", scale={"domain": [0, 1]}, axis={"format": "%"})
    here: Spec = {
        "data": {"name": "now"},
        "mark": {"type": "point", "shape": "diamond", "size": 160, "filled": True},
        "encoding": {"x": x, "y": y, "color": {"value": "var(--text)"}},
    }
    return chart(
        200,
        [_alert(y), _settings(x, y), here],
        settings=rows,
        now=[{"size": now.setting.limit_tokens, "rate": now.hit_rate}],
        alert=[{"rate": report.policy.cache_hit_rate_alert}],
    )


def _settings(x: Spec, y: Spec) -> Spec:
    return {
        "data": {"name": "settings"},
        "mark": {"type": "line", "point": {"filled": True, "size": 50}},
        "encoding": {
            "x": x,
            "y": y,
            "color": {
                "field": "order",
                "type": "nominal",
                "title": "eviction",
                "scale": {"range": ["var(--layer-2)", "var(--layer-0)"]},
                "legend": {"orient": "top", **_QUIET},
            },
            "tooltip": [
                told("size", "tokens"),
                told("rate", "hit rate", ".1%"),
                text("order", "eviction"),
            ],
        },
    }


def _alert(y: Spec) -> Spec:
    return {
        "data": {"name": "alert"},
        "mark": {"type": "rule", "stroke": "var(--warn)", "strokeDash": [6, 3]},
        "encoding": {"y": y},
    }


# --- what is ahead --------------------------------------------------------------------------------


def forecast(report: Report) -> Spec | None:
    """Turns left before each share of the budget, with their spread; None: nothing is foreseen."""
    ahead = report.forecast
    if ahead is None:
        return None
    rows = [_ahead(left) for left in (ahead.to_80, ahead.to_90, ahead.to_100)]
    rows = [row for row in rows if row is not None]
    if not rows:
        return None
    title = "replies from now" if ahead.unit == "reply" else "runs from now"
    x = quantity("turns", title, scale={"zero": True}, axis={"tickMinStep": 1})
    y = {"field": "share", "type": "nominal", "title": "of the budget", "sort": None}
    tooltip = [
        text("share", "of the budget"),
        told("turns", "most likely", ",.1~f"),
        told("low", "at least", ",.1~f"),
        told("high", "at most", ",.1~f"),
    ]
    spread = {
        "data": {"name": "ahead"},
        "mark": {"type": "rule", "strokeWidth": 6, "stroke": "var(--layer-4)", "opacity": 0.35},
        "encoding": {
            "x": {**x, "field": "low"},
            "x2": {"field": "high"},
            "y": y,
            "tooltip": tooltip,
        },
    }
    point = {
        "data": {"name": "ahead"},
        "mark": {"type": "point", "filled": True, "size": 90, "fill": "var(--layer-4)"},
        "encoding": {"x": x, "y": y, "tooltip": tooltip},
    }
    return chart(120, [spread, point], ahead=[row for row in rows if row is not None])


def _ahead(left: TurnsLeft) -> Spec | None:
    if not isfinite(left.turns):
        return None
    high = left.high if isfinite(left.high) else left.turns * 2
    return {
        "share": f"{left.share:.0%}",
        "turns": round(left.turns, 1),
        "low": round(left.low, 1),
        "high": round(high, 1),
    }
