"""Memory over the run: tokens by layer, stacked, against budget and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from ..values import LAYER_NAMES
from .facts import Mark, Report, Sample
from .spec import TOKENS, Spec, chart, quantity, text, told, words

SAMPLES = 400
"""Moments that the curve has, beside those of its actions: more than a screen has columns to
tell apart."""

MARKS = 300
"""Actions that the curve shows, those that gave back most."""

LABELS = 6
"""Of those, how many say in figures what they gave back."""


def memory(report: Report) -> Spec:
    """The curve, with each action where it happened."""
    samples = thinned(report)
    layers = [n for n in range(len(LAYER_NAMES)) if any(sample.tokens[n] for sample in samples)]
    first, last = samples[0], samples[-1]
    x = quantity(
        "at",
        report.unit,
        axis={"tickMinStep": 1, "grid": False, "format": ",d"},
        scale={"domain": [first.at, last.at], "nice": False},
    )
    policy = report.policy
    marks = _marks(report)
    held = (max(sum(sample.tokens), sample.budget) for sample in samples)
    top = 1.06 * max([*held, *(mark["before"] for mark in marks)])
    lines = (
        ("budget", 1.0, "var(--bad)", [0]),
        ("cleanup", policy.cleanup_above, "var(--warn)", [6, 3]),
        ("compress", policy.compress_above, "var(--warn)", [2, 3]),
        ("target", policy.compress_target, "var(--good)", [2, 3]),
    )
    return chart(
        320,
        [
            _areas(x, layers, top),
            *(_line(x, share, colour, dash) for _, share, colour, dash in lines),
            _reader(x, layers, report.unit),
            *_actions(x),
            *(_line_label(name, share, colour) for name, share, colour, _ in lines),
        ],
        samples=[_row(sample, layers) for sample in samples],
        marks=marks,
        begin=[{"at": first.at, "budget": first.budget or last.budget}],
    )


def thinned(report: Report) -> list[Sample]:
    """The moments that the curve has: evenly many, each action's, and the last."""
    samples = report.samples
    wanted = {mark.at for mark in _largest(report)}
    step = ceil(len(samples) / SAMPLES)
    return [
        sample
        for n, sample in enumerate(samples)
        if n % step == 0 or n == len(samples) - 1 or sample.at in wanted or sample.at - 1 in wanted
    ]


def _largest(report: Report) -> list[Mark]:
    return sorted(report.marks, key=lambda mark: -mark.report.tokens_freed)[:MARKS]


def _row(sample: Sample, layers: Sequence[int]) -> Spec:
    row: Spec = {"at": sample.at, "run": sample.run, "total": sum(sample.tokens)}
    if sample.budget:
        row["budget"] = sample.budget
    return {**row, **{f"t{n}": sample.tokens[n] for n in layers}}


def _areas(x: Spec, layers: Sequence[int], top: float) -> Spec:
    return {
        "data": {"name": "samples"},
        "transform": [{"fold": [f"t{n}" for n in layers], "as": ["layer", "tokens"]}],
        "mark": {"type": "area", "opacity": 0.85, "interpolate": "linear", "aria": False},
        "encoding": {
            "x": x,
            "y": quantity(
                "tokens",
                "tokens",
                stack="zero",
                axis=TOKENS,
                scale={"domain": [0, top], "nice": False},
            ),
            "color": {
                "field": "layer",
                "type": "nominal",
                "legend": None,
                "scale": {
                    "domain": [f"t{n}" for n in layers],
                    "range": [f"var(--layer-{n})" for n in layers],
                },
            },
            "order": {"field": "layer", "type": "ordinal"},
        },
    }


def _line(x: Spec, share: float, colour: str, dash: list[int]) -> Spec:
    return {
        "data": {"name": "samples"},
        "transform": [
            {"filter": "isValid(datum.budget)"},
            {"calculate": f"datum.budget * {share!r}", "as": "level"},
        ],
        "mark": {"type": "line", "strokeWidth": 1.2, "strokeDash": dash, "stroke": colour},
        "encoding": {"x": x, "y": quantity("level")},
    }


def _line_label(name: str, share: float, colour: str) -> Spec:
    """What the line is, in words, where memory is emptiest: at its left end."""
    return {
        "data": {"name": "begin"},
        "transform": [{"calculate": f"datum.budget * {share!r}", "as": "level"}],
        "mark": {
            "type": "text",
            "align": "left",
            "baseline": "bottom",
            "dx": 3,
            "dy": -1,
            "fontSize": 10,
            "fill": colour,
            **HALO,
            "text": name if share == 1 else f"{name} {share:.0%}",
        },
        "encoding": {"x": quantity("at"), "y": quantity("level")},
    }


def _reader(x: Spec, layers: Sequence[int], unit: str) -> Spec:
    """Reads off the moment that is nearest to the pointer."""
    return {
        "data": {"name": "samples"},
        "params": [
            {
                "name": "near",
                "select": {
                    "type": "point",
                    "encodings": ["x"],
                    "nearest": True,
                    "on": "pointerover",
                    "clear": "pointerout",
                },
            }
        ],
        "mark": {"type": "rule", "stroke": "var(--text)", "aria": False},
        "encoding": {
            "x": x,
            "opacity": {"condition": {"param": "near", "empty": False, "value": 0.5}, "value": 0},
            "tooltip": [
                told("at", unit),
                told("run", "run"),
                told("total", "all layers"),
                *(told(f"t{n}", words(LAYER_NAMES[n])) for n in layers),
                told("budget", "budget"),
            ],
        },
    }


def _marks(report: Report) -> list[Spec]:
    largest = _largest(report)
    first, last = report.samples[0].at, report.samples[-1].at
    labelled = _labelled(largest, _APART * (last - first))
    # On a telephone, lines have their names where the first fifth of the curve is.
    apart = _APART_ON_PHONES * (last - first)
    late = [mark for mark in largest if mark.at > first + apart]
    on_phones = _labelled(late, apart)
    return [
        {
            "at": mark.at,
            "run": mark.run,
            "action": mark.report.action.replace("_", " "),
            "outcome": mark.report.outcome,
            "before": mark.report.tokens_before,
            "after": mark.report.tokens_after,
            "freed": mark.report.tokens_freed,
            "why": mark.report.reason[:200],
            "label": _freed(mark) if mark in labelled else "",
            "narrow": _freed(mark) if mark in on_phones else "",
        }
        for mark in largest
        if mark.report.tokens_freed > 0 or mark.report.outcome in ("ineffective", "failed")
    ]


def _freed(mark: Mark) -> str:
    return f"−{mark.report.tokens_freed:,}"


def _labelled(largest: Sequence[Mark], apart: float) -> list[Mark]:
    """The largest that have room for their figures: none is near another."""
    chosen: list[Mark] = []
    for mark in largest:
        if all(abs(mark.at - other.at) > apart for other in chosen):
            chosen.append(mark)
    return chosen[:LABELS]


HALO: Spec = {"stroke": "var(--card)", "strokeWidth": 3, "strokeJoin": "round"}
"""Around a figure, behind its letters (see the style sheet): a line does not strike it through."""

_APART = 0.09
"""Of the curve's length: what a figure takes, where the page is wide."""

_APART_ON_PHONES = 0.2


def _actions(x: Spec) -> list[Spec]:
    """A line from before to after, a point at the top, and the figures of the largest."""
    tooltip = [
        text("action", "action"),
        text("outcome", "outcome"),
        told("freed", "gave back"),
        told("before", "before"),
        told("after", "after"),
        told("run", "run"),
        text("why", "because"),
    ]
    top = {"x": x, "y": quantity("before")}
    bad = {"test": "datum.outcome !== 'effective'", "value": "var(--bad)"}
    return [
        {
            "data": {"name": "marks"},
            "mark": {"type": "rule", "stroke": "var(--text)", "strokeWidth": 1.5, "aria": False},
            "encoding": {**top, "y2": {"field": "after"}},
        },
        {
            "data": {"name": "marks"},
            "mark": {
                "type": "point",
                "shape": "triangle-down",
                "size": 70,
                "filled": True,
                "opacity": 1,
                "stroke": "var(--card)",
                "strokeWidth": 1,
            },
            "encoding": {
                **top,
                "fill": {"condition": bad, "value": "var(--text)"},
                "tooltip": tooltip,
            },
        },
        {
            "data": {"name": "marks"},
            "mark": {"type": "text", "dy": -12, "fontSize": 10, "fill": "var(--text)", **HALO},
            "encoding": {
                **top,
                "text": {
                    "condition": {"test": "width < 450", "field": "narrow"},
                    "field": "label",
                },
            },
        },
    ]
